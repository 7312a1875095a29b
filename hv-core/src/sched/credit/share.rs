//! Sharing a period's CPU time among units, by their groups' weights.
//!
//! Nobody is given more than it wanted: the time it ran or waited to run. What those leave that hardly
//! run goes to the others by weight, so on a busy CPU as much is given as is used, and credits neither
//! sink nor rise for all.

use super::{CreditUnit, DEFAULT_WEIGHT};
use core::sync::atomic::{
    AtomicBool, AtomicU16, AtomicU64,
    Ordering::{AcqRel, Relaxed, Release},
};

/// A group of units.
#[derive(Debug)]
pub(super) struct Group {
    used: AtomicBool,
    pub(super) weight: AtomicU16,
    /// Percent of one CPU; 0: none.
    pub(super) cap: AtomicU16,
    /// What its units together want of a distribution, in nanoseconds.
    wanted: AtomicU64,
}

impl Group {
    pub(super) const fn new() -> Self {
        Self {
            used: AtomicBool::new(false),
            weight: AtomicU16::new(DEFAULT_WEIGHT),
            cap: AtomicU16::new(0),
            wanted: AtomicU64::new(0),
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
        }
        claimed
    }

    pub(super) fn free(&self) {
        self.used.store(false, Release);
    }

    /// The most that a unit which wants so much is given of `elapsed` nanoseconds: under a cap its
    /// part of what the whole group may use.
    fn limit(&self, wanted: u64, elapsed: u64) -> u64 {
        let cap = elapsed / 100 * u64::from(self.cap.load(Relaxed));
        let all = self.wanted.load(Relaxed);
        if cap == 0 || all <= cap {
            wanted
        } else {
            part(cap, wanted, all)
        }
    }
}

/// Rounds in which what some do not want is given to the others.
const MOST_ROUNDS: u32 = 8;

/// Shares `elapsed` nanoseconds of `cpus` CPUs out; what each unit gets is left in its `share`.
/// `units` are all there are, with their groups, and say what they want.
pub(super) fn distribute<'a>(
    units: impl Iterator<Item = (&'a CreditUnit, &'a Group)> + Clone,
    elapsed: u64,
    cpus: u32,
) {
    for (_, group) in units.clone() {
        group.wanted.store(0, Relaxed);
    }
    let mut left = elapsed.saturating_mul(u64::from(cpus));
    let mut weight = 0_u64;
    for (unit, group) in units.clone() {
        let wanted = unit.wanted.load(Relaxed);
        group.wanted.fetch_add(wanted, Relaxed);
        unit.share.store(0, Relaxed);
        unit.open.store(wanted > 0, Relaxed);
        if wanted > 0 {
            weight += u64::from(group.weight.load(Relaxed));
        }
    }
    let open = |(unit, _): &(&CreditUnit, &Group)| unit.open.load(Relaxed);
    // Each round settles a unit or is the last. Guests choose what they want, and so how many
    // rounds there would be: a few are enough, after which nobody gets more than it wants either.
    for _ in 0..MOST_ROUNDS {
        let (at, of) = (left, weight);
        let mut settled = false;
        for (unit, group) in units.clone().filter(open) {
            let own = u64::from(group.weight.load(Relaxed));
            let limit = group.limit(unit.wanted.load(Relaxed), elapsed);
            if part(at, own, of) >= limit {
                unit.share.store(limit, Relaxed);
                unit.open.store(false, Relaxed);
                left = left.saturating_sub(limit);
                weight = weight.saturating_sub(own);
                settled = true;
            }
        }
        if !settled {
            break;
        }
    }
    for (unit, group) in units.filter(open) {
        let own = u64::from(group.weight.load(Relaxed));
        let limit = group.limit(unit.wanted.load(Relaxed), elapsed);
        unit.share
            .store(part(left, own, weight).min(limit), Relaxed);
    }
}

/// `total * own / of`, 0 of nothing.
fn part(total: u64, own: u64, of: u64) -> u64 {
    if of == 0 {
        return 0;
    }
    let part = u128::from(total) * u128::from(own) / u128::from(of);
    u64::try_from(part).unwrap_or(u64::MAX)
}
