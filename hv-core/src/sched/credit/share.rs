//! Sharing a period's CPU time among groups, by weight, with an upper limit for each.

use super::DEFAULT_WEIGHT;
use core::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU16, AtomicU32,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};

/// A group of units.
#[derive(Debug)]
pub(super) struct Group {
    used: AtomicBool,
    pub(super) weight: AtomicU16,
    /// Percent of one CPU; 0: none.
    pub(super) cap: AtomicU16,
    /// Units that take part in the distribution.
    pub(super) active: AtomicU32,
    /// What the last distribution gave, in nanoseconds for the whole group; negative
    /// while a distribution has not decided yet.
    share: AtomicI64,
    /// Units that share was meant for.
    heads: AtomicU32,
}

impl Group {
    pub(super) const fn new() -> Self {
        Self {
            used: AtomicBool::new(false),
            weight: AtomicU16::new(DEFAULT_WEIGHT),
            cap: AtomicU16::new(0),
            active: AtomicU32::new(0),
            share: AtomicI64::new(0),
            heads: AtomicU32::new(0),
        }
    }

    pub(super) fn claim(&self) -> bool {
        let claimed = self
            .used
            .compare_exchange(false, true, AcqRel, Relaxed)
            .is_ok();
        if claimed {
            self.weight.store(DEFAULT_WEIGHT, Relaxed);
            self.cap.store(0, Relaxed);
            self.active.store(0, Relaxed);
        }
        claimed
    }

    pub(super) fn free(&self) {
        self.used.store(false, Release);
    }

    /// One unit's part of the last distribution.
    pub(super) fn share_of_unit(&self) -> i64 {
        let heads = i64::from(self.heads.load(Relaxed));
        if heads == 0 {
            return 0;
        }
        self.share.load(Relaxed).max(0) / heads
    }

    /// The most the group can use in `elapsed` nanoseconds.
    fn limit(&self, elapsed: u64) -> u64 {
        let all = elapsed.saturating_mul(u64::from(self.heads.load(Relaxed)));
        match self.cap.load(Relaxed) {
            0 => all,
            cap => (elapsed / 100 * u64::from(cap)).min(all),
        }
    }

    fn total_weight(&self) -> u64 {
        u64::from(self.weight.load(Relaxed)) * u64::from(self.heads.load(Relaxed))
    }
}

/// Shares `elapsed` nanoseconds of `cpus` CPUs out. What a group could not use goes to
/// the others.
pub(super) fn distribute(groups: &[Group], elapsed: u64, cpus: u32) {
    let mut left = elapsed.saturating_mul(u64::from(cpus));
    let mut weight = 0u64;
    for g in groups {
        let heads = g.active.load(Acquire);
        g.heads.store(heads, Relaxed);
        if heads != 0 {
            g.share.store(-1, Relaxed);
            weight += g.total_weight();
        }
    }
    let open = |g: &&Group| g.heads.load(Relaxed) != 0 && g.share.load(Relaxed) < 0;
    // Each round settles a group or is the last.
    loop {
        let (at, of) = (left, weight);
        let mut settled = false;
        for g in groups.iter().filter(open) {
            let limit = g.limit(elapsed);
            if fair(at, g.total_weight(), of) >= limit {
                g.share.store(limit.cast_signed(), Relaxed);
                left = left.saturating_sub(limit);
                weight = weight.saturating_sub(g.total_weight());
                settled = true;
            }
        }
        if !settled {
            break;
        }
    }
    for g in groups.iter().filter(open) {
        let part = fair(left, g.total_weight(), weight);
        g.share.store(part.cast_signed(), Relaxed);
    }
}

/// `total * weight / of`, 0 for no weight at all.
fn fair(total: u64, weight: u64, of: u64) -> u64 {
    if of == 0 {
        return 0;
    }
    let part = u128::from(total) * u128::from(weight) / u128::from(of);
    u64::try_from(part).unwrap_or(u64::MAX)
}
