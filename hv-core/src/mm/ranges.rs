//! Sets of addresses as sorted, disjoint ranges. Pure.

use core::ops::Range;

/// Most ranges in a set, unless its type says otherwise.
pub const MAX_RANGES: usize = 512;

/// A set of addresses, of at most so many ranges.
#[derive(Clone, Debug, Default)]
pub struct RangeSet<const MOST: usize = MAX_RANGES> {
    /// Sorted, disjoint, not adjacent, none empty.
    ranges: heapless::Vec<Range<u64>, MOST>,
}

/// The set would consist of more ranges than it may; it has not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<const MOST: usize> RangeSet<MOST> {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            ranges: heapless::Vec::new(),
        }
    }

    /// Adds `new`. If there is no room the smallest range of the set is forgotten.
    pub fn insert(&mut self, new: Range<u64>) {
        if new.is_empty() {
            return;
        }
        let first = self.ranges.partition_point(|r| r.end < new.start);
        let mut merged = new;
        while let Some(r) = self.ranges.get(first)
            && r.start <= merged.end
        {
            merged = merged.start.min(r.start)..merged.end.max(r.end);
            self.ranges.remove(first);
        }
        self.put(first, merged);
    }

    /// Takes `gone` out.
    pub fn remove(&mut self, gone: Range<u64>) {
        if gone.is_empty() {
            return;
        }
        let first = self.ranges.partition_point(|r| r.end <= gone.start);
        while let Some(r) = self.ranges.get(first).cloned()
            && r.start < gone.end
        {
            self.ranges.remove(first);
            // What is left above goes in first, so that `first` stays right.
            if r.end > gone.end {
                self.put(first, gone.end..r.end);
            }
            if r.start < gone.start {
                self.put(first, r.start..gone.start);
            }
            if r.end > gone.end {
                return;
            }
            if r.start < gone.start {
                return self.remove(r.end..gone.end);
            }
        }
    }

    /// Adds `new`, or nothing.
    ///
    /// # Errors
    /// [`Full`].
    pub fn try_insert(&mut self, new: Range<u64>) -> Result<(), Full> {
        let touches = |r: &Range<u64>| r.start <= new.end && new.start <= r.end;
        if self.ranges.is_full() && !new.is_empty() && !self.ranges.iter().any(touches) {
            return Err(Full);
        }
        self.insert(new);
        Ok(())
    }

    /// Takes `gone` out, or nothing.
    ///
    /// # Errors
    /// [`Full`]: what is left of a range around it are two.
    pub fn try_remove(&mut self, gone: Range<u64>) -> Result<(), Full> {
        let splits = |r: &Range<u64>| r.start < gone.start && gone.end < r.end;
        if self.ranges.is_full() && !gone.is_empty() && self.ranges.iter().any(splits) {
            return Err(Full);
        }
        self.remove(gone);
        Ok(())
    }

    /// Whether nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ranges, lowest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + '_ {
        self.ranges.iter().cloned()
    }

    /// Whether all of `range` is in the set.
    #[must_use]
    pub fn contains(&self, range: &Range<u64>) -> bool {
        range.is_empty()
            || self
                .ranges
                .iter()
                .any(|r| r.start <= range.start && range.end <= r.end)
    }

    /// Number of addresses in the set.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.ranges.iter().map(|r| r.end - r.start).sum()
    }

    /// Puts a range at its place, forgetting the smallest one if the set is full.
    /// Sets of RAM lose the least that way.
    fn put(&mut self, at: usize, range: Range<u64>) {
        let Err(range) = self.ranges.insert(at, range) else {
            return;
        };
        let smallest = (0..self.ranges.len()).min_by_key(|i| {
            let r = &self.ranges[*i];
            r.end - r.start
        });
        if let Some(i) = smallest
            && self.ranges[i].end - self.ranges[i].start < range.end - range.start
        {
            self.ranges.remove(i);
            let at = if i < at { at - 1 } else { at };
            // There is room now: one was removed.
            let _ = self.ranges.insert(at, range);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 8 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]
        #[test]
        fn agrees_with_a_bitmap(ops in proptest::collection::vec((any::<bool>(), 0u64..64, 0u64..64), 0..40)) {
            let mut set = <RangeSet>::new();
            let mut bits = 0u64;
            for (add, a, b) in ops {
                let range = a.min(b)..a.max(b);
                let mask = range.clone().fold(0, |m, i| m | 1u64 << i);
                if add {
                    set.insert(range);
                    bits |= mask;
                } else {
                    set.remove(range);
                    bits &= !mask;
                }
                let got = set.iter().flatten().fold(0, |m, i| m | 1u64 << i);
                prop_assert_eq!(got, bits);
                prop_assert_eq!(set.total(), u64::from(bits.count_ones()));
                let all: std::vec::Vec<_> = set.iter().collect();
                prop_assert!(all.windows(2).all(|w| w[0].end < w[1].start));
            }
        }
    }

    #[test]
    fn a_full_set_keeps_the_larger_ranges() {
        let mut set = <RangeSet>::new();
        for i in 0..MAX_RANGES as u64 {
            set.insert(i * 10..i * 10 + 2);
        }
        set.insert(1_000_000..1_000_100);
        assert!(set.contains(&(1_000_000..1_000_100)));
        assert_eq!(set.iter().count(), MAX_RANGES);
        set.insert(2_000_000..2_000_001);
        assert!(!set.contains(&(2_000_000..2_000_001)));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 8 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]
        #[test]
        fn a_small_set_changes_as_asked_or_not_at_all(ops in proptest::collection::vec((any::<bool>(), 0u64..64, 0u64..64), 0..40)) {
            let mut set = RangeSet::<3>::new();
            let mut bits = 0u64;
            for (add, a, b) in ops {
                let range = a.min(b)..a.max(b);
                let mask = range.clone().fold(0, |m, i| m | 1u64 << i);
                let wanted = if add { bits | mask } else { bits & !mask };
                let done = if add { set.try_insert(range) } else { set.try_remove(range) };
                // Runs of ones in it.
                let runs = (wanted & !(wanted << 1)).count_ones();
                prop_assert_eq!(done.is_ok(), runs <= 3);
                if done.is_ok() {
                    bits = wanted;
                }
                let got = set.iter().flatten().fold(0, |m, i| m | 1u64 << i);
                prop_assert_eq!(got, bits);
            }
        }
    }
}
