//! When a guest cannot go on.

use super::Call;
use core::fmt::Arguments;

/// Ends the calling domain: its mistake, and only its own end. Prints its state and
/// the reason.
pub fn crash_domain(call: &mut Call<'_>, why: Arguments<'_>) {
    let r = &call.regs;
    log::error!(
        "domain {} vcpu {} crashed: {why}",
        call.domain.id.0,
        call.vcpu.id.0
    );
    log::error!(
        "  {} mode  rip {:04x}:{:016x}  rsp {:04x}:{:016x}  rflags {:x}  vector {:#x} error {:x}",
        if call.state.kernel_mode {
            "kernel"
        } else {
            "user"
        },
        r.cs,
        r.rip,
        r.ss,
        r.rsp,
        r.rflags,
        r.vector,
        r.error_code
    );
    log::error!(
        "  rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}",
        r.rax,
        r.rbx,
        r.rcx,
        r.rdx
    );
    log::error!(
        "  rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}",
        r.rsi,
        r.rdi,
        r.rbp,
        r.r8
    );
    log::error!(
        "  r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}",
        r.r9,
        r.r10,
        r.r11,
        r.r12
    );
    log::error!(
        "  r13 {:016x} r14 {:016x} r15 {:016x} cr2 {:016x}",
        r.r13,
        r.r14,
        r.r15,
        call.state.cr2
    );
    log::error!(
        "  kernel root {:x?} user root {:x?} kernel stack {:016x}",
        call.state.kernel_root,
        call.state.user_root,
        call.state.kernel_sp
    );
    print_stack(call);
    crate::domain::shutdown::domain(call.domain, xen_abi::sched::SHUTDOWN_CRASH);
}

/// Words of the guest's stack, as far as they can be read.
fn print_stack(call: &Call<'_>) {
    let root = if call.state.kernel_mode {
        call.state.kernel_root
    } else {
        call.state.user_root
    };
    let Some(root) = root else { return };
    let space = crate::mm::guest_space(root);
    for line in 0..8_u64 {
        let va = crate::addr::GuestVa((call.regs.rsp & !7).wrapping_add(line * 32));
        let Ok([a, b, c, d]) = space.read_words::<4>(va) else {
            return;
        };
        log::error!("  {:016x}: {a:016x} {b:016x} {c:016x} {d:016x}", va.0);
    }
}
