//! The page shared with the hypervisor, of the one vCPU.

use pv_drivers::hypercall::Port;
use pv_drivers::runtime::shared;

pub use pv_drivers::runtime::clock::tsc as rdtsc;
pub use shared::{cr2, set_upcall_mask, set_vcpu_info, upcall_mask, upcall_pending, va};

/// Address of the vCPU's `vcpu_info`.
pub fn vcpu_info() -> u64 {
    shared::vcpu_info(0)
}

/// Clears the flag that an upcall is due, and the selector; returns the selector.
pub fn take_upcall() -> u64 {
    shared::take_upcall(0)
}

/// System time in nanoseconds, as the hypervisor's record says at this moment.
pub fn system_time() -> u64 {
    loop {
        let record = shared::time(0);
        if let Some(time) = pv_drivers::clock::system_time(&record, rdtsc()) {
            return time;
        }
    }
}

/// Whether a port is pending.
pub fn is_pending(port: u32) -> bool {
    shared::bits().is_pending(Port(port))
}

/// Clears a port's pending bit.
pub fn clear_pending(port: u32) {
    let _ = shared::bits().take(Port(port));
}

/// Masks or unmasks a port, without a hypercall.
pub fn set_masked(port: u32, masked: bool) {
    if masked {
        shared::bits().mask(Port(port));
    } else {
        shared::bits().unmask(Port(port));
    }
}
