//! Putting an exception, an event or a system call onto the guest kernel's stack.
//!
//! The frame, from low addresses: `rcx r11 [error code] rip cs|mask rflags rsp ss`.
//! Source: the behaviour of Xen's PV interface (`docs/architecture.md`, "Bounce").

use crate::addr::GuestVa;
use crate::arch::machine;
use crate::arch::regs::{
    RFLAGS_AC, RFLAGS_IF, RFLAGS_IOPL, RFLAGS_IOPL_SHIFT, RFLAGS_NT, RFLAGS_RF, RFLAGS_TF,
    RFLAGS_VM,
};
use crate::domain::vcpu::Callback;
use crate::hypercall::Call;
use crate::mm::guest_stack;
use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS};

/// The guest cannot take what it must be given: its domain is to be crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undeliverable {
    /// No handler is registered.
    NoHandler,
    /// The frame cannot be written to the guest kernel's stack.
    Stack,
    /// There is no kernel root to switch to.
    NoRoot,
}

/// Makes the guest enter its kernel at `target` with a frame that describes where it
/// was. Switches from user to kernel mode if need be.
///
/// # Errors
/// When the guest cannot be entered; nothing has changed then but the mode.
pub fn enter_kernel(
    call: &mut Call<'_>,
    target: Callback,
    error_code: Option<u32>,
) -> Result<(), Undeliverable> {
    if target.address == 0 {
        return Err(Undeliverable::NoHandler);
    }
    let from_kernel = call.state.kernel_mode;
    let stack = if from_kernel {
        call.regs.rsp
    } else {
        call.state.kernel_sp
    };
    if !from_kernel {
        machine::toggle_mode(call.state);
    }
    let root = call.state.kernel_root.ok_or(Undeliverable::NoRoot)?;
    let mask = call.vcpu.info.get();
    let masked = mask.map_or(1, |i| {
        i.upcall_mask().load(core::sync::atomic::Ordering::Relaxed) & 1
    });

    let r = &mut *call.regs;
    // A kernel-mode selector is shown with RPL 0, though it runs with 3.
    let cs = if from_kernel {
        r.cs & 0xfffc
    } else {
        r.cs & 0xffff
    } | u64::from(masked) << 32;
    let iopl = if call.domain.architectural_iopl() {
        u64::from(call.state.iopl) << RFLAGS_IOPL_SHIFT
    } else {
        0
    };
    let enabled = if masked == 0 { RFLAGS_IF } else { 0 };
    let flags = r.rflags & !(RFLAGS_IF | RFLAGS_IOPL) | enabled | iopl;
    let words = [
        r.rcx,
        r.r11,
        u64::from(error_code.unwrap_or(0)),
        r.rip,
        cs,
        flags,
        r.rsp,
        r.ss,
    ];
    let aligned = stack & !15;
    let rsp = if error_code.is_some() {
        let rsp = aligned.wrapping_sub(64);
        guest_stack::write(root, GuestVa(rsp), words).map(|()| rsp)
    } else {
        let rsp = aligned.wrapping_sub(56);
        let [rcx, r11, _, rest @ ..] = words;
        let [rip, cs, flags, sp, ss] = rest;
        guest_stack::write(root, GuestVa(rsp), [rcx, r11, rip, cs, flags, sp, ss]).map(|()| rsp)
    }
    .map_err(|_| Undeliverable::Stack)?;

    r.rip = target.address;
    r.cs = u64::from(FLAT_KERNEL_CS);
    r.ss = u64::from(FLAT_KERNEL_SS);
    r.rsp = rsp;
    r.rflags &= !(RFLAGS_AC | RFLAGS_VM | RFLAGS_RF | RFLAGS_NT | RFLAGS_TF);
    if target.mask_events
        && let Some(info) = mask
    {
        info.upcall_mask()
            .store(1, core::sync::atomic::Ordering::Relaxed);
    }
    Ok(())
}

/// Delivers the exception `vector` through the guest's trap table.
///
/// # Errors
/// As [`enter_kernel`].
pub fn exception(
    call: &mut Call<'_>,
    vector: u8,
    error_code: Option<u32>,
) -> Result<(), Undeliverable> {
    let gate = call.state.traps[usize::from(vector)];
    let target = Callback {
        address: gate.address,
        mask_events: gate.flags & 4 != 0,
    };
    enter_kernel(call, target, error_code)
}

/// Delivers a page fault: `code` is the hardware's; the user bit tells the guest's own
/// mode instead.
///
/// # Errors
/// As [`enter_kernel`].
pub fn page_fault(call: &mut Call<'_>, code: u32, address: u64) -> Result<(), Undeliverable> {
    const USER: u32 = 4;
    let code = if call.state.kernel_mode {
        code & !USER
    } else {
        code | USER
    };
    call.state.cr2 = address;
    if let Some(info) = call.vcpu.info.get() {
        info.cr2()
            .store(address, core::sync::atomic::Ordering::Relaxed);
    }
    exception(call, 14, Some(code))
}
