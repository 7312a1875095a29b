//! A vCPU's state from `vcpu_guest_context`, and back.
//!
//! What comes in is a guest's or a tool's word: addresses must be canonical, selectors
//! get ring 3, descriptor pages and page-table roots must be such and are counted.
//!
//! Source: Xen `include/public/arch-x86/xen.h`, `struct vcpu_guest_context`.

mod counted;
#[cfg(test)]
mod interrupted_tests;

use super::{Domain, Vcpu, VcpuState};
use crate::addr::{GuestVa, Mfn};
use crate::arch::machine;
use crate::arch::regs::{GuestRegs, RFLAGS_IF, RFLAGS_IOPL, RFLAGS_IOPL_SHIFT};
use crate::arch::{FrameMem, Tlb};
use crate::domain::vcpu::{Callback, TrapGate};
use crate::mm::Mm;
use crate::pv_mm::{Rights, descriptors};
use alloc::boxed::Box;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use counted::Named;
use xen_abi::arch_x86::{
    CpuUserRegs, FLAT_KERNEL_SS, TrapInfo, VGCF_FAILSAFE_DISABLES_EVENTS, VGCF_I387_VALID,
    VGCF_IN_KERNEL, VGCF_ONLINE, VGCF_SYSCALL_DISABLES_EVENTS, VcpuGuestContext,
};
use zerocopy::FromZeros;

/// `rflags`: always set; Intel SDM volume 1, section 3.4.3.
const RFLAGS_ONE: u64 = 1 << 1;
/// NT, VM, VIF, VIP: never the guest's to set.
const RFLAGS_NEVER: u64 = 1 << 14 | 1 << 17 | 1 << 19 | 1 << 20;
const CR0_TS: u64 = 1 << 3;
/// CR0 as a guest reads it: PE, MP, ET, NE, WP, AM, PG.
const CR0_GUEST: u64 = 0x8005_0033;
/// Entries of an LDT at most.
const LDT_ENTRIES: u64 = 8192;

/// Why a vCPU does not have the context yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It asks for what the vCPU cannot have.
    Bad,
    /// It names other page tables or descriptors than the vCPU has already.
    OtherTables,
    /// To let events in: do the same again.
    Interrupted,
}

/// Gives a vCPU that does not run the state in `context`, and notes that it has one.
/// With `VGCF_online` it is the caller's to bring it up.
///
/// Page tables and descriptors are given to a vCPU once, with its first context; later ones must
/// name the same. Source: Xen 4.17 `arch_set_info_guest`. `pause` lets interrupts in and says
/// whether to stop.
///
/// # Errors
/// [`Refused`]; but for [`Refused::Interrupted`] the vCPU is as it was.
pub fn set<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    domain: &Domain,
    vcpu: &Vcpu,
    state: &mut VcpuState,
    context: &VcpuGuestContext,
    pause: &dyn Fn() -> bool,
) -> Result<bool, Refused> {
    if vcpu.initialised.load(Acquire) {
        check(context)?;
        if !has_the_same_tables(state, context)? {
            return Err(Refused::OtherTables);
        }
    } else {
        first(mm, &domain.rights(), state, context, pause)?;
        state.ldt_base = GuestVa(context.ldt_base);
        state.ldt_entries = context.ldt_ents as u16;
    }
    fill(state, context);
    // A kernel that goes on where it was saved relies on what it had switched on.
    state.cr4 = context.ctrlreg[4] & domain.planned_cpu_policy().cr4();
    if vcpu.id.0 == 0 {
        let known = 1 << xen_abi::xen::VMASST_TYPE_4GB_SEGMENTS
            | 1 << xen_abi::xen::VMASST_TYPE_4GB_SEGMENTS_NOTIFY
            | 1 << xen_abi::xen::VMASST_TYPE_WRITABLE_PAGETABLES
            | 1 << xen_abi::xen::VMASST_TYPE_PAE_EXTENDED_CR3
            | 1 << xen_abi::xen::VMASST_TYPE_ARCHITECTURAL_IOPL
            | 1 << xen_abi::xen::VMASST_TYPE_RUNSTATE_UPDATE_FLAG
            | 1 << xen_abi::xen::VMASST_TYPE_M2P_STRICT;
        domain.assist.store(context.vm_assist & known, Relaxed);
    }
    vcpu.initialised.store(true, Release);
    Ok(context.flags & VGCF_ONLINE != 0)
}

/// Gives a vCPU the page tables and descriptors of its first context, or takes back what it had
/// got of one that is refused.
fn first<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    state: &mut VcpuState,
    context: &VcpuGuestContext,
    pause: &dyn Fn() -> bool,
) -> Result<(), Refused> {
    if !state.context_refused {
        let taken = check(context)
            .and_then(|()| Named::of(context))
            .and_then(|named| named.take(mm, rights, state, pause));
        if taken != Err(Refused::Bad) {
            return taken;
        }
        state.context_refused = true;
    }
    counted::give_back(mm, state, pause)?;
    state.context_refused = false;
    Err(Refused::Bad)
}

/// Whether a vCPU that has a context has the tables that another one names.
fn has_the_same_tables(state: &VcpuState, c: &VcpuGuestContext) -> Result<bool, Refused> {
    let ldt = (GuestVa(c.ldt_base), c.ldt_ents as u16);
    Ok(Named::of(c)?.are_had_by(state) && (state.ldt_base, state.ldt_entries) == ldt)
}

/// The state of a vCPU that does not run, as tools see it.
#[must_use]
pub fn get(
    domain: &Domain,
    vcpu: &Vcpu,
    state: &VcpuState,
    online: bool,
) -> Option<Box<VcpuGuestContext>> {
    let mut c = VcpuGuestContext::new_box_zeroed().ok()?;
    c.fpu_ctxt = state.fpu.legacy();
    let flag = |on: bool, flag: u64| if on { flag } else { 0 };
    c.flags = VGCF_I387_VALID
        | flag(state.kernel_mode, VGCF_IN_KERNEL)
        | flag(online, VGCF_ONLINE)
        | flag(
            state.failsafe_callback.mask_events,
            VGCF_FAILSAFE_DISABLES_EVENTS,
        )
        | flag(
            state.syscall_callback.mask_events,
            VGCF_SYSCALL_DISABLES_EVENTS,
        );
    c.user_regs = user_registers(state);
    for (n, (info, gate)) in c.trap_ctxt.iter_mut().zip(state.traps.iter()).enumerate() {
        *info = TrapInfo {
            vector: n as u8,
            flags: gate.flags,
            cs: gate.cs,
            _pad: 0,
            address: gate.address,
        };
    }
    c.ldt_base = state.ldt_base.0;
    c.ldt_ents = state.ldt_entries.into();
    for (to, from) in c.gdt_frames.iter_mut().zip(state.gdt_frames) {
        *to = from.map_or(0, Mfn::raw);
    }
    c.gdt_ents = state.gdt_entries.into();
    c.kernel_ss = FLAT_KERNEL_SS.into();
    c.kernel_sp = state.kernel_sp;
    c.ctrlreg[0] = CR0_GUEST | flag(state.task_switched, CR0_TS);
    c.ctrlreg[1] = state.user_root.map_or(0, |mfn| mfn.addr().raw());
    c.ctrlreg[3] = state.kernel_root.map_or(0, |mfn| mfn.addr().raw());
    c.ctrlreg[4] = state.cr4;
    c.debugreg = state.debug;
    c.event_callback_eip = state.event_callback.address;
    c.failsafe_callback_eip = state.failsafe_callback.address;
    c.syscall_callback_eip = state.syscall_callback.address;
    if vcpu.id.0 == 0 {
        c.vm_assist = domain.assist.load(Relaxed);
    }
    c.fs_base = state.fs_base;
    c.gs_base_kernel = state.gs_base_kernel;
    c.gs_base_user = state.gs_base_user;
    Some(c)
}

fn user_registers(state: &VcpuState) -> CpuUserRegs {
    let r = &state.regs;
    let [ds, es, fs, gs] = state.selectors;
    CpuUserRegs {
        r15: r.r15,
        r14: r.r14,
        r13: r.r13,
        r12: r.r12,
        rbp: r.rbp,
        rbx: r.rbx,
        r11: r.r11,
        r10: r.r10,
        r9: r.r9,
        r8: r.r8,
        rax: r.rax,
        rcx: r.rcx,
        rdx: r.rdx,
        rsi: r.rsi,
        rdi: r.rdi,
        rip: r.rip,
        cs: r.cs as u16,
        rflags: r.rflags & !RFLAGS_IOPL | u64::from(state.iopl) << RFLAGS_IOPL_SHIFT,
        rsp: r.rsp,
        ss: r.ss as u16,
        es,
        ds,
        fs,
        gs,
        ..FromZeros::new_zeroed()
    }
}

/// What can be said without looking anything up.
fn check(c: &VcpuGuestContext) -> Result<(), Refused> {
    let canonical = [
        c.user_regs.rip,
        c.event_callback_eip,
        c.failsafe_callback_eip,
        c.syscall_callback_eip,
        c.fs_base,
        c.gs_base_kernel,
        c.gs_base_user,
    ];
    let handlers = c.trap_ctxt.iter().map(|t| t.address);
    let addresses = canonical.into_iter().chain(handlers);
    let good = addresses.map(GuestVa).all(GuestVa::is_canonical)
        && (c.ldt_ents == 0 || GuestVa(c.ldt_base).is_guest())
        && c.ldt_base.is_multiple_of(4096)
        && c.ldt_ents <= LDT_ENTRIES
        && c.gdt_ents <= u64::from(descriptors::FIRST_RESERVED_ENTRY)
        // In user mode it needs a user root to be in.
        && (c.flags & VGCF_IN_KERNEL != 0 || c.ctrlreg[1] != 0);
    if good { Ok(()) } else { Err(Refused::Bad) }
}

/// Everything that needs no reference.
fn fill(state: &mut VcpuState, c: &VcpuGuestContext) {
    let kernel = c.flags & VGCF_IN_KERNEL != 0;
    state.kernel_mode = kernel;
    state.regs = registers(&c.user_regs);
    state.iopl = (c.user_regs.rflags >> RFLAGS_IOPL_SHIFT & 3) as u8;
    let u = &c.user_regs;
    state.selectors = [u.ds, u.es, u.fs, u.gs];
    for (gate, info) in state.traps.iter_mut().zip(&c.trap_ctxt) {
        *gate = trap_gate(info);
    }
    state.event_callback = Callback {
        address: c.event_callback_eip,
        mask_events: true,
    };
    state.failsafe_callback = Callback {
        address: c.failsafe_callback_eip,
        mask_events: c.flags & VGCF_FAILSAFE_DISABLES_EVENTS != 0,
    };
    state.syscall_callback = Callback {
        address: c.syscall_callback_eip,
        mask_events: c.flags & VGCF_SYSCALL_DISABLES_EVENTS != 0,
    };
    state.kernel_sp = c.kernel_sp;
    state.task_switched = c.ctrlreg[0] & CR0_TS != 0;
    state.fs_base = c.fs_base;
    state.gs_base_kernel = c.gs_base_kernel;
    state.gs_base_user = c.gs_base_user;
    state.pending = None;
    if c.flags & VGCF_I387_VALID != 0 {
        state.fpu.set_legacy(&c.fpu_ctxt, machine::mxcsr_mask());
    }
}

fn trap_gate(info: &TrapInfo) -> TrapGate {
    TrapGate {
        address: info.address,
        cs: info.cs | 3,
        flags: info.flags & 7,
    }
}

fn registers(u: &CpuUserRegs) -> GuestRegs {
    GuestRegs {
        r15: u.r15,
        r14: u.r14,
        r13: u.r13,
        r12: u.r12,
        rbp: u.rbp,
        rbx: u.rbx,
        r11: u.r11,
        r10: u.r10,
        r9: u.r9,
        r8: u.r8,
        rax: u.rax,
        rcx: u.rcx,
        rdx: u.rdx,
        rsi: u.rsi,
        rdi: u.rdi,
        error_code: 0,
        vector: 0,
        rip: u.rip,
        cs: u64::from(u.cs | 3),
        rflags: u.rflags & !(RFLAGS_IOPL | RFLAGS_NEVER) & 0x3f_ffff | RFLAGS_ONE | RFLAGS_IF,
        rsp: u.rsp,
        ss: u64::from(u.ss | 3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::boxed::Box;
    use zerocopy::FromZeros;

    fn started() -> Box<VcpuGuestContext> {
        let mut c = VcpuGuestContext::new_box_zeroed().unwrap();
        c.flags = VGCF_IN_KERNEL;
        c.user_regs.rip = 0xffff_ffff_8100_0000;
        c.user_regs.cs = 0x10;
        c.user_regs.ss = 0x18;
        c.user_regs.rflags = 0x1000;
        c
    }

    #[test]
    fn a_linux_secondary_vcpu_is_accepted() {
        let c = started();
        assert_eq!(check(&c), Ok(()));
        let mut state = VcpuState::new().unwrap();
        fill(&mut state, &c);
        assert!(state.kernel_mode);
        assert_eq!((state.regs.cs, state.regs.ss), (0x13, 0x1b));
        assert_eq!(state.regs.rflags, 0x202);
        assert_eq!(state.iopl, 1);
        assert!(state.event_callback.mask_events && !state.syscall_callback.mask_events);
    }

    #[test]
    fn what_a_cpu_could_not_load_is_refused() {
        let bad: [fn(&mut VcpuGuestContext); 9] = [
            |c| c.user_regs.rip = 1 << 63,
            |c| c.trap_ctxt[255].address = 1 << 48,
            |c| c.gs_base_user = 1 << 47,
            |c| c.flags = 0,
            |c| c.ldt_ents = LDT_ENTRIES + 1,
            |c| c.ldt_base = 8,
            |c| (c.ldt_ents, c.ldt_base) = (1, crate::addr::HYPERVISOR_START),
            |c| c.gdt_ents = u64::MAX,
            |c| c.gdt_ents = 14 * 512 + 1,
        ];
        for spoil in bad {
            let mut c = started();
            spoil(&mut c);
            assert_eq!(check(&c), Err(Refused::Bad));
        }
    }

    #[test]
    fn registers_that_a_tool_read_are_the_same_when_it_gives_them_back() {
        let mut c = started();
        c.user_regs.rdx = 0x1234;
        c.user_regs.rflags = 0x3a97;
        (c.user_regs.ds, c.user_regs.fs) = (0x2b, 0x63);
        let mut before = VcpuState::new().unwrap();
        fill(&mut before, &c);
        c.user_regs = user_registers(&before);
        let mut after = VcpuState::new().unwrap();
        fill(&mut after, &c);
        assert_eq!(after.regs, before.regs);
        assert_eq!(user_registers(&after), c.user_regs);
        assert_eq!((after.iopl, after.selectors), (3, [0x2b, 0, 0x63, 0]));
    }

    #[test]
    fn flags_a_guest_may_not_set_are_dropped() {
        let mut c = started();
        c.user_regs.rflags = u64::MAX;
        let flags = registers(&c.user_regs).rflags;
        assert_eq!(flags & (RFLAGS_NEVER | RFLAGS_IOPL), 0);
        assert_eq!(flags & !0x3f_ffff, 0);
        assert_eq!(flags & (RFLAGS_IF | RFLAGS_ONE), RFLAGS_IF | RFLAGS_ONE);
    }
}
