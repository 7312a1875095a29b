//! The functions entry code calls, one for each way in. Each takes the loan of the
//! running vCPU once, handles what happened, and leaves through [`exit`].
#![allow(unsafe_code, reason = "called by entry code with raw frames")]

use super::{exceptions, exit, interrupt, switch};
use crate::arch::machine::{self, local, stretch};
use crate::arch::regs::GuestRegs;
use crate::hypercall::{self, crash_domain};

/// A 64-bit `syscall`: a hypercall from the guest's kernel, a system call from its
/// user mode.
///
/// # Safety
/// Entry code calls it, with this CPU's entry frame, on the empty hypervisor stack.
pub unsafe extern "C" fn guest_syscall(frame: *mut GuestRegs) -> *mut GuestRegs {
    stretch::begin();
    // SAFETY: entry code calls with this CPU's frame, and nobody holds the loan.
    let mut call = unsafe { local::lend(frame) };
    let mut changed = false;
    if call.state.kernel_mode {
        changed = hypercall::changes_entry(call.regs.rax);
        hypercall::dispatch(&mut call);
    } else {
        exceptions::system_call(&mut call);
    }
    leave(call, frame, changed)
}

/// An exception or interrupt that arrived while a guest ran.
///
/// # Safety
/// Entry code calls it, with this CPU's entry frame, on the empty hypervisor stack.
pub unsafe extern "C" fn guest_trap(frame: *mut GuestRegs) -> *mut GuestRegs {
    stretch::begin();
    // SAFETY: as above.
    let mut call = unsafe { local::lend(frame) };
    let vector = call.regs.vector;
    if let Err(why) = exceptions::from_guest(&mut call) {
        crash_domain(
            &mut call,
            format_args!("cannot deliver an exception: {why:?}"),
        );
    }
    // Emulated instructions may do what hypercalls do; page faults and interrupts
    // change nothing entry code knows of.
    let changed = matches!(vector, GENERAL_PROTECTION | INVALID_OPCODE);
    leave(call, frame, changed)
}

const INVALID_OPCODE: u32 = 6;
const GENERAL_PROTECTION: u32 = 13;

/// What is due before the guest (this one or, after a switch, another) runs again.
/// `changed`: what entry code knows of the vCPU may have changed.
#[inline]
fn leave(
    mut call: hypercall::Call<'_>,
    frame: *mut GuestRegs,
    mut changed: bool,
) -> *mut GuestRegs {
    while exit::prepare(&mut call) == exit::Next::Work {
        // The loan ends here: the work may load another vCPU.
        switch::work();
        // SAFETY: the earlier loan is not used again.
        call = unsafe { local::lend(frame) };
        changed = true;
    }
    if changed || call.state.nmi_in_progress {
        let flags_show_iopl = call.domain.architectural_iopl();
        machine::publish_fast(call.vcpu, call.state, flags_show_iopl);
    } else {
        machine::resume_fast(call.state);
    }
    stretch::end();
    frame
}

/// Runs guests on this CPU from now on.
pub fn run_guests() -> ! {
    switch::work();
    let frame = machine::entry_frame();
    // SAFETY: `work` returned, so a vCPU is loaded; nobody holds its loan.
    let call = unsafe { local::lend(frame) };
    let frame = leave(call, frame, true);
    // SAFETY: a vCPU is loaded, and nothing on this stack is needed again.
    unsafe { machine::entry::enter_guest(frame) }
}

/// An exception or interrupt that arrived while the hypervisor ran: interrupts only
/// come when it opened them, in idle or at a preemption point.
///
/// # Safety
/// Entry code calls it, with the frame it made on the current stack.
pub unsafe extern "C" fn host_trap(frame: *mut GuestRegs) {
    // SAFETY: entry code passes a frame on the current stack.
    let regs = unsafe { &mut *frame };
    if regs.vector >= 0x20 {
        stretch::begin();
        interrupt::handle(regs.vector as u8);
        stretch::end();
        return;
    }
    if let Some(resume) = machine::exception_fixup(regs.rip) {
        regs.rip = resume;
        return;
    }
    if machine::efi_runtime::leave_faulty(regs) {
        return;
    }
    machine::die_of_exception(regs);
}

/// NMI, machine check, double fault or debug exception, on a stack of its own.
/// Returns the entry frame if the guest is to get it like an ordinary exception.
///
/// # Safety
/// As [`host_trap`].
pub unsafe extern "C" fn ist_trap(frame: *mut GuestRegs) -> *mut GuestRegs {
    const DEBUG: u32 = 1;
    const NMI: u32 = 2;
    // SAFETY: as above.
    let regs = unsafe { &mut *frame };
    match regs.vector {
        DEBUG if regs.cs & 3 != 0 => {
            let entry = machine::entry_frame();
            // SAFETY: this CPU's frame; the guest was running, so it is free.
            unsafe { *entry = *regs };
            entry
        }
        DEBUG => {
            machine::debug_in_hypervisor(regs);
            core::ptr::null_mut()
        }
        NMI => {
            machine::handle_nmi(regs);
            core::ptr::null_mut()
        }
        _ => machine::die_of_exception(regs),
    }
}
