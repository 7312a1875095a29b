//! System time from a counter that wraps.

use super::Scale;
use crate::addr::Nanos;
use crate::arch::clock::Reference;
use core::sync::atomic::{AtomicU64, Ordering};

/// Time as a running sum of a counter's steps. Someone must look more often than the
/// counter wraps. Needs no lock, because even the console asks for the time.
#[derive(Debug)]
pub struct Fallback {
    mask: u64,
    scale: Scale,
    /// The counter, extended to 64 bits by counting its wraps.
    extended: AtomicU64,
    /// Its value at `base`.
    start: AtomicU64,
    /// Time at `start`, in nanoseconds.
    base: AtomicU64,
}

impl Fallback {
    /// Time 0 at counter value `counter`.
    #[must_use]
    pub const fn new(reference: Reference, counter: u64) -> Self {
        Self {
            mask: reference.mask,
            scale: Scale::from_hz(reference.hz),
            extended: AtomicU64::new(counter),
            start: AtomicU64::new(counter),
            base: AtomicU64::new(0),
        }
    }

    /// Makes the time `at` when the counter is `counter`. To be called before others
    /// ask for the time.
    pub fn set(&self, at: Nanos, counter: u64) {
        self.extended.store(counter, Ordering::Relaxed);
        self.start.store(counter, Ordering::Relaxed);
        self.base.store(at.0, Ordering::Release);
    }

    /// The time now.
    pub fn advance(&self, read: impl Fn() -> u64) -> Nanos {
        let base = self.base.load(Ordering::Acquire);
        let start = self.start.load(Ordering::Relaxed);
        loop {
            // The counter is read after `old`, so the step is never negative; if
            // another CPU stepped meanwhile, look again.
            let old = self.extended.load(Ordering::Acquire);
            let new = old.wrapping_add(read().wrapping_sub(old) & self.mask);
            if self
                .extended
                .compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                return Nanos(base + self.scale.apply(new.wrapping_sub(start)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_24_bit_counter_wraps_without_notice() {
        let pm = Reference {
            name: "PM timer",
            hz: 3_579_545,
            mask: 0xff_ffff,
        };
        let f = Fallback::new(pm, 0xff_ff00);
        let mut total = 0u64;
        for _ in 0..10 {
            total += 0x80_0000;
            let at = f.advance(|| (0xff_ff00 + total) & 0xff_ffff);
            let exact = total * 1_000_000_000 / 3_579_545;
            assert!(at.0.abs_diff(exact) < 10_000, "{} {exact}", at.0);
        }
        f.set(Nanos(7), 3);
        assert_eq!(f.advance(|| 3), Nanos(7));
    }
}
