//! Time of this guest's host and of the day.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use super::{shared, vcpu};
use crate::clock;

/// The latest system time that any vCPU was told.
static LATEST: AtomicU64 = AtomicU64::new(0);

/// System time: nanoseconds since the host's boot. Never goes back, on whatever vCPU.
pub fn now() -> u64 {
    let vcpu = vcpu::current();
    loop {
        let record = shared::time(vcpu);
        if let Some(time) = clock::system_time(&record, tsc()) {
            return LATEST.fetch_max(time, Ordering::Relaxed).max(time);
        }
    }
}

/// Time since the Unix epoch.
pub fn wall() -> Duration {
    let (seconds, nanoseconds) = shared::wall_clock();
    clock::wall_clock(seconds, nanoseconds, now())
}

/// The time stamp counter: cycles.
pub fn tsc() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}
