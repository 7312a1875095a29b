//! The end of a domain: dom0's is the machine's.

use super::notify::SCHEDULER;
use super::{Domain, registry};
use crate::addr::{DomId, VcpuId};
use crate::arch::machine;
use crate::event::Virq;
use crate::power::{self, End};
use core::sync::atomic::Ordering;
use xen_abi::sched::{SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_WATCHDOG};

/// No reason yet.
pub const NOT_SHUT_DOWN: u32 = u32::MAX;

/// Stops every vCPU of `domain` for `reason` (`SHUTDOWN_*`). The caller's own vCPU
/// stops at its next return to the guest. For dom0 the machine stops with it.
pub fn domain(domain: &Domain, reason: u32) {
    let reason = domain.shutdown_reason(reason);
    let first = domain
        .shutdown
        .compare_exchange(NOT_SHUT_DOWN, reason, Ordering::SeqCst, Ordering::SeqCst)
        .is_ok();
    if !first {
        return;
    }
    log::info!("domain {} shut down, reason {reason}", domain.id.0);
    if domain.privileged {
        match reason {
            SHUTDOWN_POWEROFF => power::end(End::Off),
            SHUTDOWN_REBOOT => power::end(End::Reboot),
            SHUTDOWN_CRASH => power::after_crash("dom0 crashed"),
            SHUTDOWN_WATCHDOG => power::after_crash("dom0's watchdog expired"),
            _ => power::after_crash("dom0 stopped"),
        }
    }
    let now = crate::time::now();
    for vcpu in domain.vcpus() {
        if let Ok(Some(cpu)) = SCHEDULER.pause(vcpu.unit, now) {
            machine::kick(cpu);
        }
    }
    domain.watchdogs.stop();
    if !domain.privileged {
        tell_toolstack();
    }
}

/// Tells whoever serves xenstore that something became of some domain; it looks what.
pub fn tell_toolstack() {
    if let Some(dom0) = registry::get(DomId::DOM0) {
        dom0.raise_virq(VcpuId(0), Virq::DOM_EXC);
    }
}
