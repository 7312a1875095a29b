//! Exceptions and interrupts: to us, to the guest, or to `pv_emul`.
//!
//! `entry_points` is what entry code calls; [`bounce`] puts things onto a guest
//! kernel's stack; [`exit`] is what happens before every return to a guest.

pub mod bounce;
#[cfg(target_os = "none")]
mod entry_points;
#[cfg(target_os = "none")]
pub use entry_points::{guest_syscall, guest_trap, host_trap, ist_trap, run_guests};
mod emulate;
pub mod exceptions;
pub mod exit;
pub mod interrupt;
mod page_fault;
pub mod switch;
