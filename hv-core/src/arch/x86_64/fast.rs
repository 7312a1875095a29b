//! The two things a guest does most, handled by entry code alone: a system call of user
//! mode goes to the guest kernel, and the kernel's `iret` hypercall goes back.
//!
//! Entry code works on copies of the vCPU's state in `EntryData::fast`. They are made
//! by Rust after every entry that may have changed it ([`publish`]) and cannot go stale
//! while the guest runs, since only Rust changes the state. The one thing entry code changes is
//! where the guest is, kernel or user; [`take_back`] tells Rust on its next entry.
//! Whatever is out of the ordinary (work waiting, an event due, a stack page not
//! known, a frame with flags) is left to Rust, which does all of it too.
#![allow(unsafe_code, reason = "writes what entry code reads")]

use super::cpu_area::{EntryData, Fast, IN_KERNEL, IN_USER, SLOW};
use super::local;
use crate::addr::Mfn;
use crate::domain::{Vcpu, VcpuState};

/// Lets entry code act again, on what [`publish`] showed it last: for entries that
/// changed nothing of that.
#[inline]
pub fn resume(state: &VcpuState) {
    let data = local::data();
    let mode = if state.kernel_mode {
        IN_KERNEL
    } else {
        IN_USER
    };
    // SAFETY: this CPU's own data.
    unsafe { (*data).mode = if (*data).fast.usable != 0 { mode } else { SLOW } };
}

/// Shows entry code the state of the vCPU that is about to run. `flags_show_iopl`: frames show
/// the virtual I/O privilege level and change it, which entry code does not do.
pub fn publish(vcpu: &Vcpu, state: &VcpuState, flags_show_iopl: bool) {
    let data = local::data();
    let cr3 = |root: Option<Mfn>| root.map_or(0, |r| r.addr().raw());
    let mut fast = Fast {
        kernel_cr3: cr3(state.kernel_root),
        user_cr3: cr3(state.user_root),
        syscall_rip: state.syscall_callback.address,
        syscall_mask: u64::from(state.syscall_callback.mask_events),
        kernel_sp: state.kernel_sp,
        info: vcpu.info.get().map_or(0, |i| i.words().as_ptr() as u64),
        usable: 0,
    };
    // SAFETY: this CPU's own data; entry code reads it from the next entry on.
    unsafe {
        fast.usable = u64::from(
            (*data).host_cr3 == 0
                && !flags_show_iopl
                && fast.user_cr3 != 0
                && fast.syscall_rip != 0
                && fast.info != 0
                && super::speculation::allows_fast_ways()
                && !state.nmi_in_progress,
        );
        (*data).fast = fast;
    }
    resume(state);
}

/// Learns from entry code where the guest is now. From here to the next [`publish`]
/// only the state says so.
#[inline]
pub fn take_back(state: &mut VcpuState) {
    // SAFETY: this CPU's own data.
    let mode = unsafe { core::mem::replace(&mut (*local::data()).mode, SLOW) };
    if mode != SLOW {
        state.kernel_mode = mode == IN_KERNEL;
    }
}

/// Entry code is to leave everything to Rust until the next [`publish`].
pub fn withdraw() {
    // SAFETY: this CPU's own data.
    unsafe { (*local::data()).mode = SLOW };
}

/// Tells entry code where the guest's page `page` (of the kernel's space) is.
#[inline]
pub fn keep_stack_page(page: u64, at: *mut u8) {
    let data: *mut EntryData = local::data();
    // SAFETY: this CPU's own data.
    unsafe {
        (*data).stack_page = page;
        (*data).stack_at = at as u64;
    }
}

/// Entry code is to forget the stack page: this CPU's TLB is flushed.
#[inline]
pub fn forget_stack_page() {
    // SAFETY: this CPU's own data.
    unsafe { (*local::data()).stack_page = u64::MAX };
}
