//! The policy's knobs, changed while it runs.

use crate::sched::unit::SchedError;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Parts of a time slice after which a unit that others wait for is looked at.
/// Source: Xen 4.17's credit scheduler.
const TICKS: u64 = 3;
/// Nanoseconds in a millisecond.
const MS: u64 = 1_000_000;
/// Nanoseconds in a microsecond.
const US: u64 = 1_000;

/// What may be set, in the units of Xen's interface.
///
/// Source: Xen `include/public/sysctl.h`, `XEN_SYSCTL_CSCHED_*` and
/// `XEN_SYSCTL_SCHED_RATELIMIT_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knobs {
    /// Longest time a unit runs while an equal waits, in milliseconds.
    pub slice_ms: u32,
    /// Shortest time a unit runs before another preempts it, in microseconds; 0: none.
    pub ratelimit_us: u32,
    /// How long a waiting unit is left where it ran, in microseconds.
    pub migration_delay_us: u32,
}

impl Knobs {
    /// Those at boot.
    pub const DEFAULT: Self = Self {
        slice_ms: 30,
        ratelimit_us: 1_000,
        migration_delay_us: 0,
    };
    const SLICES: RangeInclusive<u32> = 1..=1_000;
    const RATELIMITS: RangeInclusive<u32> = 100..=500_000;
    const LONGEST_DELAY: u32 = 100_000;

    fn check(&self) -> Result<(), SchedError> {
        let limit = self.ratelimit_us;
        let fine = Self::SLICES.contains(&self.slice_ms)
            && (limit == 0 || Self::RATELIMITS.contains(&limit))
            && u64::from(limit) * US <= u64::from(self.slice_ms) * MS
            && self.migration_delay_us <= Self::LONGEST_DELAY;
        if fine {
            Ok(())
        } else {
            Err(SchedError::BadParameter)
        }
    }
}

/// The knobs in nanoseconds, for the hot path.
#[derive(Debug)]
pub(super) struct Params {
    slice: AtomicU64,
    ratelimit: AtomicU64,
    migration_delay: AtomicU64,
}

impl Params {
    pub(super) const fn new() -> Self {
        let k = Knobs::DEFAULT;
        Self {
            slice: AtomicU64::new(k.slice_ms as u64 * MS),
            ratelimit: AtomicU64::new(k.ratelimit_us as u64 * US),
            migration_delay: AtomicU64::new(k.migration_delay_us as u64 * US),
        }
    }

    /// # Errors
    /// [`SchedError::BadParameter`] (`EINVAL`): outside what [`Knobs`] says, or a rate
    /// limit longer than a slice.
    pub(super) fn set(&self, knobs: Knobs) -> Result<(), SchedError> {
        knobs.check()?;
        self.slice.store(u64::from(knobs.slice_ms) * MS, Relaxed);
        self.ratelimit
            .store(u64::from(knobs.ratelimit_us) * US, Relaxed);
        self.migration_delay
            .store(u64::from(knobs.migration_delay_us) * US, Relaxed);
        Ok(())
    }

    pub(super) fn get(&self) -> Knobs {
        Knobs {
            slice_ms: (self.slice() / MS) as u32,
            ratelimit_us: (self.ratelimit() / US) as u32,
            migration_delay_us: (self.migration_delay() / US) as u32,
        }
    }

    /// Longest time a unit runs while an equal waits.
    #[inline]
    pub(super) fn slice(&self) -> u64 {
        self.slice.load(Relaxed)
    }

    /// Time between two distributions of credit.
    #[inline]
    pub(super) fn period(&self) -> u64 {
        self.slice()
    }

    /// Longest time between two looks at the credit of a unit others wait for.
    #[inline]
    pub(super) fn tick(&self) -> u64 {
        self.slice() / TICKS
    }

    /// Shortest time a unit runs before another preempts it.
    #[inline]
    pub(super) fn ratelimit(&self) -> u64 {
        self.ratelimit.load(Relaxed)
    }

    /// How long a waiting unit is left where it ran.
    #[inline]
    pub(super) fn migration_delay(&self) -> u64 {
        self.migration_delay.load(Relaxed)
    }
}
