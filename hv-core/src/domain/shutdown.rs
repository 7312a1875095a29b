//! The end of a domain: dom0's is the machine's.

use super::notify::SCHEDULER;
use super::{Domain, virqs};
use crate::arch::machine;
use crate::event::Virq;
use crate::power::{self, End};
use core::sync::atomic::Ordering;
use xen_abi::sched::{
    SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_SUSPEND, SHUTDOWN_WATCHDOG,
};

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
    let told = reason == SHUTDOWN_SUSPEND && tell_subscriber(domain);
    if !domain.privileged && !told {
        tell_toolstack();
    }
}

/// Sends an event by the port that tools chose for the domain's suspension. `false`: they chose
/// none.
fn tell_subscriber(domain: &Domain) -> bool {
    let port = domain.suspend_port.load(Ordering::Relaxed);
    if port == 0 {
        return false;
    }
    // A port that leads nowhere tells nobody: as in Xen.
    domain.send_event(port);
    true
}

/// Tells whoever serves xenstore that something became of some domain; it looks what.
pub fn tell_toolstack() {
    virqs::raise(Virq::DOM_EXC);
}
