//! How much of its memory a guest keeps: the toolstack's wish, followed in small steps.
//!
//! Frames lie in one row. The guest has those up to some number, and has given back the rest: only
//! frames that were never used are given, the last ones first, and the first of those given come back
//! first. So no memory has to be moved, and what once was used stays with the guest.

use core::ops::Range;

/// Frames of a step at most: their numbers fill a page.
pub const STEP: u64 = 512;

/// Unused frames that the guest keeps, whatever is wished: 1 MiB.
pub const SPARE: u64 = 256;

/// Bytes of a frame, in KiB.
const FRAME_KIB: u64 = 4;

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Give these frames back, beginning with the last.
    Give(Range<u64>),
    /// Take memory for these, beginning with the first.
    Take(Range<u64>),
}

/// What a guest has of its frames, and what it shall have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balloon {
    have: u64,
    most: u64,
    target: u64,
}

impl Balloon {
    /// A guest that has all its frames, and is to keep them.
    #[must_use]
    pub const fn new(frames: u64) -> Self {
        Self {
            have: frames,
            most: frames,
            target: frames,
        }
    }

    /// How many frames it has.
    #[must_use]
    pub const fn have(&self) -> u64 {
        self.have
    }

    /// The wish. More than the guest was made with is as much as that.
    pub fn aim(&mut self, kib: u64) {
        self.target = (kib / FRAME_KIB).min(self.most);
    }

    /// The next step towards the wish, if there is one; `used` frames cannot be given.
    #[must_use]
    pub fn step(&self, used: u64) -> Option<Step> {
        let target = self.target.max(used.saturating_add(SPARE)).min(self.most);
        if target > self.have {
            let end = target.min(self.have + STEP);
            Some(Step::Take(self.have..end))
        } else if target < self.have {
            let start = target.max(self.have.saturating_sub(STEP));
            Some(Step::Give(start..self.have))
        } else {
            None
        }
    }

    /// So many frames of a step were given.
    pub fn gave(&mut self, count: u64) {
        self.have = self.have.saturating_sub(count);
    }

    /// So many frames of a step were taken.
    pub fn took(&mut self, count: u64) {
        self.have = self.have.saturating_add(count).min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_frames_go_and_the_first_come_back() {
        let mut balloon = Balloon::new(10_000);
        balloon.aim(20_000);
        assert_eq!(balloon.step(0), Some(Step::Give(9488..10_000)));
        balloon.gave(100);
        assert_eq!(balloon.step(0), Some(Step::Give(9388..9900)));
        balloon.aim(u64::MAX);
        assert_eq!(balloon.step(0), Some(Step::Take(9900..10_000)));
        balloon.took(100);
        assert_eq!(balloon.step(0), None);
    }

    #[test]
    fn a_guest_smaller_than_its_spare_gives_nothing() {
        let mut balloon = Balloon::new(100);
        balloon.aim(0);
        assert_eq!(balloon.step(50), None);
        assert_eq!(balloon.step(u64::MAX), None);
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Aim(u64),
        Use(u64),
        /// The host does so many of a step.
        Step(u64),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            (0..50_000_u64).prop_map(Deed::Aim),
            (0..300_u64).prop_map(Deed::Use),
            prop_oneof![Just(u64::MAX), 0..600_u64].prop_map(Deed::Step),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        /// Against the set of frames that a host knows.
        #[test]
        fn frames_in_use_stay_and_each_is_given_and_taken_once(
            most in 1..10_000_u64,
            deeds in proptest::collection::vec(deed(), 0..60),
        ) {
            let mut balloon = Balloon::new(most);
            let mut there: BTreeSet<u64> = (0..most).collect();
            let (mut used, mut target) = (0, most);
            for deed in deeds {
                match deed {
                    Deed::Aim(kib) => {
                        balloon.aim(kib);
                        target = (kib / 4).min(most);
                    }
                    Deed::Use(count) => used = (used + count).min(balloon.have()),
                    Deed::Step(able) => match balloon.step(used) {
                        Some(Step::Give(range)) => {
                            prop_assert!(!range.is_empty() && range.end - range.start <= STEP);
                            prop_assert!(range.start >= used && range.start >= target);
                            let count = able.min(range.end - range.start);
                            for frame in range.rev().take(count as usize) {
                                prop_assert!(there.remove(&frame));
                            }
                            balloon.gave(count);
                        }
                        Some(Step::Take(range)) => {
                            prop_assert!(!range.is_empty() && range.end - range.start <= STEP);
                            let count = able.min(range.end - range.start);
                            for frame in range.take(count as usize) {
                                prop_assert!(there.insert(frame));
                            }
                            balloon.took(count);
                        }
                        None => {}
                    },
                }
                prop_assert_eq!(there.len() as u64, balloon.have());
                prop_assert!(there.iter().copied().eq(0..balloon.have()));
                prop_assert!(used <= balloon.have());
            }
            // A host that does all that it is asked brings it to an end.
            for _ in 0..=most / STEP + 1 {
                match balloon.step(used) {
                    Some(Step::Give(range)) => balloon.gave(range.end - range.start),
                    Some(Step::Take(range)) => balloon.took(range.end - range.start),
                    None => break,
                }
            }
            prop_assert_eq!(balloon.step(used), None);
            prop_assert_eq!(balloon.have(), target.max(used + SPARE).min(most));
        }
    }
}
