//! `iret` (23): the guest kernel returns from an exception, an event or a system call.

use super::Call;
use crate::addr::GuestVa;
use crate::arch::machine;
use crate::arch::regs::{RFLAGS_AC, RFLAGS_IF, RFLAGS_IOPL_SHIFT, RFLAGS_NT, RFLAGS_RF, RFLAGS_TF};
use crate::mm::guest_stack;
use core::sync::atomic::Ordering;

/// `iret_context.flags`: the return is from a system call, `rcx` and `r11` are dead.
const IN_SYSCALL: u64 = 0x100;

/// RFLAGS bits a guest may set for itself: status flags, TF, DF, NT, RF, AC, ID.
const SETTABLE: u64 = 0xcd5 | RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_AC | 1 << 21;

/// Why the frame cannot be used: the domain is to be crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFrame {
    /// The kernel stack cannot be read.
    Unreadable,
    /// It returns to user mode, but there is no user root.
    NoUserRoot,
}

/// Takes the frame from the guest kernel's stack: `rax r11 rcx flags rip cs rflags rsp
/// ss` (`struct iret_context`, Xen `include/public/arch-x86/xen-x86_64.h`). Bad
/// selectors in it fault later, on the way into the guest, and come back as the
/// guest's own exceptions.
///
/// # Errors
/// If there is no usable frame; nothing has changed then.
#[inline]
pub fn iret(call: &mut Call<'_>) -> Result<(), BadFrame> {
    let root = call.state.kernel_root.ok_or(BadFrame::Unreadable)?;
    let [rax, r11, rcx, flags, rip, cs, rfl, rsp, ss] =
        guest_stack::read::<9>(root, GuestVa(call.regs.rsp)).map_err(|_| BadFrame::Unreadable)?;
    let to_user = cs & 3 == 3;
    if to_user && call.state.user_root.is_none() {
        return Err(BadFrame::NoUserRoot);
    }
    let regs = &mut *call.regs;
    regs.rip = rip;
    regs.cs = cs & 0xffff | 3;
    regs.rflags = rfl & SETTABLE | 2 | RFLAGS_IF;
    regs.rsp = rsp;
    regs.ss = ss & 0xffff | 3;
    regs.rax = rax;
    if flags & IN_SYSCALL == 0 {
        regs.r11 = r11;
        regs.rcx = rcx;
    } else {
        // What SYSRET would leave there.
        regs.r11 = regs.rflags;
        regs.rcx = rip;
    }
    if call.domain.architectural_iopl() {
        call.state.iopl = (rfl >> RFLAGS_IOPL_SHIFT & 3) as u8;
    }
    call.state.nmi_in_progress = false;
    if to_user {
        machine::toggle_mode(call.state);
    }
    if let Some(info) = call.vcpu.info.get() {
        let masked = u8::from(rfl & RFLAGS_IF == 0);
        info.upcall_mask().store(masked, Ordering::Release);
    }
    Ok(())
}
