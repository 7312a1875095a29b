//! What each exception of a guest means.

use super::bounce::{self, Undeliverable};
use super::page_fault;
use crate::addr::GuestVa;
use crate::arch::machine;
use crate::arch::regs::{RFLAGS_DF, RFLAGS_TF};
use crate::arch::vectors;
use crate::hypercall::{Call, crash_domain};

/// A system call from guest user mode.
pub fn system_call(call: &mut Call<'_>) {
    let target = call.state.syscall_callback;
    if target.address == 0 {
        // As on a CPU without SCE: #UD at the instruction.
        call.regs.rip = call.regs.rip.wrapping_sub(2);
        let result = bounce::exception(call, 6, None);
        crash_if_undeliverable(call, result);
        return;
    }
    let result = bounce::enter_kernel(call, target, None);
    // As the CPU's own entry masks it; see `arch::x86_64::entry` for the fast way.
    call.regs.rflags &= !RFLAGS_DF;
    crash_if_undeliverable(call, result);
}

/// Ends the domain if what it had to be given could not be delivered.
pub fn crash_if_undeliverable(call: &mut Call<'_>, result: Result<(), Undeliverable>) {
    if let Err(why) = result {
        crash_domain(call, format_args!("cannot deliver to its kernel: {why:?}"));
    }
}

/// An instruction that does not exist.
const INVALID_OPCODE: u8 = 6;
/// `GuestRegs::vector` of the guest's own `int 0x80`.
const GUEST_SYSCALL: u32 = vectors::GUEST_SYSCALL as u32;

/// Handles `call.regs.vector`, which arrived while the guest ran.
///
/// # Errors
/// If the guest must be told and cannot be.
pub fn from_guest(call: &mut Call<'_>) -> Result<(), Undeliverable> {
    let code = call.regs.error_code;
    match call.regs.vector {
        14 => page_fault::handle(call),
        13 => general_protection(call),
        6 => {
            if super::emulate::forced(call) {
                Ok(())
            } else {
                bounce::exception(call, 6, None)
            }
        }
        1 => debug(call),
        7 => {
            machine::set_task_switched(false);
            call.state.task_switched = false;
            bounce::exception(call, 7, None)
        }
        v @ (8 | 10..=12 | 17 | 21) => bounce::exception(call, v as u8, Some(code)),
        v @ 0..0x20 => bounce::exception(call, v as u8, None),
        GUEST_SYSCALL => int80(call),
        v @ 0x20..=0xff => {
            super::interrupt::handle(v as u8);
            Ok(())
        }
        0x101 => optional_entry(call, call.state.syscall32_callback, INVALID_OPCODE),
        _ => optional_entry(call, call.state.sysenter_callback, 13),
    }
}

/// A compatibility-mode entry: to its callback, or exception `otherwise`.
fn optional_entry(
    call: &mut Call<'_>,
    target: crate::domain::vcpu::Callback,
    otherwise: u8,
) -> Result<(), Undeliverable> {
    if target.address != 0 {
        return bounce::enter_kernel(call, target, None);
    }
    if otherwise == INVALID_OPCODE {
        // As on a CPU without SYSCALL there: at the instruction.
        call.regs.rip = call.regs.rip.wrapping_sub(2);
    }
    bounce::exception(call, otherwise, (otherwise == 13).then_some(0))
}

/// `int 0x80` has a gate of its own; without a handler it is an ordinary `int n`.
fn int80(call: &mut Call<'_>) -> Result<(), Undeliverable> {
    if call.state.traps[0x80].address != 0 {
        return bounce::exception(call, 0x80, None);
    }
    call.regs.rip = call.regs.rip.wrapping_sub(2);
    bounce::exception(call, 13, Some(0x80 << 3 | 2))
}

fn debug(call: &mut Call<'_>) -> Result<(), Undeliverable> {
    let dr6 = machine::take_dr6();
    call.state.debug[6] |= dr6;
    if call.regs.rflags & RFLAGS_TF == 0 && dr6 & 0xf == 0 {
        // Neither a step nor a breakpoint of this guest.
        return Ok(());
    }
    bounce::exception(call, 1, None)
}

/// #GP: a software interrupt, a privileged instruction, or the guest's own mistake.
fn general_protection(call: &mut Call<'_>) -> Result<(), Undeliverable> {
    const FROM_IDT: u32 = 2;
    let code = call.regs.error_code;
    if code & FROM_IDT != 0
        && let Some(vector) = software_interrupt(call)
    {
        // The guest's own gate says who may raise it; its kernel counts as ring 1.
        let gate = call.state.traps[usize::from(vector)];
        let ring = if call.state.kernel_mode { 1 } else { 3 };
        if gate.address != 0 && gate.flags & 3 >= ring {
            call.regs.rip = call.regs.rip.wrapping_add(2);
            return bounce::exception(call, vector, None);
        }
        return bounce::exception(call, 13, Some(u32::from(vector) << 3 | FROM_IDT));
    }
    if code == 0 && super::emulate::privileged(call) {
        return Ok(());
    }
    bounce::exception(call, 13, Some(code))
}

/// The vector of the `int n` at `rip`. Read from the instruction, since QEMU before
/// 8.0 computes the error code wrongly (`n * 16 + 2`).
fn software_interrupt(call: &Call<'_>) -> Option<u8> {
    let root = if call.state.kernel_mode {
        call.state.kernel_root
    } else {
        call.state.user_root
    };
    let mut bytes = [0; 2];
    crate::mm::guest_space(root?)
        .read_bytes(GuestVa(call.regs.rip), &mut bytes)
        .ok()?;
    (bytes[0] == 0xcd).then_some(bytes[1])
}
