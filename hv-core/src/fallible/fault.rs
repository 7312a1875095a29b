//! Allocations that fail when they are told to: every n-th, by the command line's `alloc-fail=`;
//! on the host, one of a test's choice. So what happens without memory is tried where there is
//! plenty.

#[cfg(not(test))]
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Which allocations fail; 0: none.
#[cfg(not(test))]
static EVERY: AtomicU32 = AtomicU32::new(0);
#[cfg(not(test))]
static COUNT: AtomicU32 = AtomicU32::new(0);

/// From now on every `n`-th allocation fails.
#[cfg(not(test))]
pub fn fail_every(n: u32) {
    EVERY.store(n, Relaxed);
}

/// Whether the allocation that is about to happen is to fail. Asked by the heap, and where the
/// hypervisor takes frames for itself.
#[cfg(not(test))]
#[inline]
#[must_use]
pub fn strikes() -> bool {
    let every = EVERY.load(Relaxed);
    every != 0
        && COUNT
            .fetch_add(1, Relaxed)
            .wrapping_add(1)
            .is_multiple_of(every)
}

#[cfg(test)]
pub use super::testing::strikes;

/// Tests choose by themselves.
#[cfg(test)]
pub fn fail_every(_: u32) {}
