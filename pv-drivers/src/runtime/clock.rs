//! Time of this guest and of the day.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use super::{shared, vcpu};
use crate::clock::{self, Epoch};

/// The latest time that any vCPU was told.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// What makes the guest's time of the host's.
static EPOCH: Epoch = Epoch::new();

/// The host's time: nanoseconds since its boot.
fn host() -> u64 {
    let vcpu = vcpu::current();
    loop {
        let record = shared::time(vcpu);
        if let Some(time) = clock::system_time(&record, tsc()) {
            return time;
        }
    }
}

/// The guest's time: nanoseconds since the boot of the host on which the guest began. Never goes
/// back, on whatever vCPU. While the guest lay saved it stood still: where it is restored, on whatever
/// host, it goes on from where it was.
pub fn now() -> u64 {
    let time = EPOCH.guest(host());
    LATEST.fetch_max(time, Ordering::Relaxed).max(time)
}

/// The host's time when the guest's is `at`.
pub(crate) fn system(at: u64) -> u64 {
    EPOCH.system(at)
}

/// On this host the guest's time goes on from `at`.
pub(super) fn go_on(at: u64) {
    EPOCH.go_on(at, host());
}

/// Time since the Unix epoch, as this host has it.
pub fn wall() -> Duration {
    let (seconds, nanoseconds) = shared::wall_clock();
    clock::wall_clock(seconds, nanoseconds, host())
}

/// The time stamp counter: cycles.
pub fn tsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}
