//! Physical CPUs and sets of them.

use core::sync::atomic::{AtomicU64, Ordering};

/// Index of a physical CPU, dense from 0 (the boot CPU).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct CpuId(pub u16);

/// Most physical CPUs this build manages. Only masks have this size; everything else is
/// allocated for the CPUs that exist ([`crate::percpu::PerCpu`]).
pub const MAX_CPUS: usize = 512;

/// CPUs in one word of a mask.
pub const CPUS_PER_WORD: usize = 64;

/// Words of a mask.
pub const MASK_WORDS: usize = MAX_CPUS / CPUS_PER_WORD;

impl CpuId {
    /// The word of a mask that holds this CPU. Below [`MASK_WORDS`] for every CPU below
    /// [`MAX_CPUS`].
    #[must_use]
    #[inline]
    pub const fn word(self) -> usize {
        self.0 as usize / CPUS_PER_WORD
    }

    /// This CPU's bit in its word.
    #[must_use]
    #[inline]
    pub const fn bit(self) -> u64 {
        1 << (self.0 as usize % CPUS_PER_WORD)
    }
}

/// A set of physical CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CpuMask([u64; MASK_WORDS]);

impl CpuMask {
    /// The empty set.
    pub const NONE: Self = Self([0; MASK_WORDS]);

    /// Every CPU there could be.
    pub const ALL: Self = Self([u64::MAX; MASK_WORDS]);

    /// The set with these words, lowest CPUs first.
    #[must_use]
    pub const fn from_words(words: [u64; MASK_WORDS]) -> Self {
        Self(words)
    }

    /// The set of one CPU.
    #[must_use]
    pub const fn only(cpu: CpuId) -> Self {
        Self::NONE.with(cpu)
    }

    /// CPUs 0 to `count - 1`.
    #[must_use]
    pub fn first(count: usize) -> Self {
        Self(core::array::from_fn(|n| {
            match count.saturating_sub(n * CPUS_PER_WORD) {
                0 => 0,
                left @ 1..CPUS_PER_WORD => (1 << left) - 1,
                _ => u64::MAX,
            }
        }))
    }

    /// The words, lowest CPUs first.
    #[must_use]
    #[inline]
    pub const fn words(&self) -> &[u64; MASK_WORDS] {
        &self.0
    }

    /// Whether `cpu` is in the set.
    #[must_use]
    #[inline]
    pub const fn contains(&self, cpu: CpuId) -> bool {
        cpu.word() < MASK_WORDS && self.0[cpu.word()] & cpu.bit() != 0
    }

    /// This set and `cpu`.
    ///
    /// # Panics
    /// If `cpu` is not below [`MAX_CPUS`] (no such `CpuId` is ever made).
    #[must_use]
    pub const fn with(mut self, cpu: CpuId) -> Self {
        self.0[cpu.word()] |= cpu.bit();
        self
    }

    /// This set without `cpu`.
    #[must_use]
    pub const fn without(mut self, cpu: CpuId) -> Self {
        if cpu.word() < MASK_WORDS {
            self.0[cpu.word()] &= !cpu.bit();
        }
        self
    }

    /// What is in both sets.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(core::array::from_fn(|n| self.0[n] & other.0[n]))
    }

    /// What is in one of the sets or both.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self(core::array::from_fn(|n| self.0[n] | other.0[n]))
    }

    /// Whether no CPU is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// How many CPUs are in the set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The CPUs in the set, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + use<> {
        let words = self.0;
        (0..MASK_WORDS).flat_map(move |n| cpus_of_word(n, words[n]))
    }
}

/// The CPUs of the bits of `word`, the mask's word `n`, lowest first.
#[inline]
pub fn cpus_of_word(n: usize, word: u64) -> impl Iterator<Item = CpuId> {
    let mut left = word;
    core::iter::from_fn(move || {
        let lowest = left.trailing_zeros() as usize;
        (left != 0).then(|| {
            left &= left - 1;
            CpuId((n * CPUS_PER_WORD + lowest) as u16)
        })
    })
}

/// Of the set whose word `n` is `word(n)`, below `words` of them: `near` if it is in, else
/// the next CPU up, around the end. `None`: the set is empty.
#[inline]
pub fn nearest(near: CpuId, words: usize, word: impl Fn(usize) -> u64) -> Option<CpuId> {
    let first = near.word().min(words.saturating_sub(1));
    let ahead = !(near.bit() - 1);
    let found = |n: usize, bits: u64| cpus_of_word(n, bits).next();
    found(first, word(first) & ahead)
        .or_else(|| (first + 1..words).find_map(|n| found(n, word(n))))
        .or_else(|| (0..=first).find_map(|n| found(n, word(n))))
}

/// A set of physical CPUs that CPUs change at the same time, each its own bit.
///
/// Words are read one by one: a look at several of them is not one moment.
#[derive(Debug)]
pub struct AtomicCpuMask([AtomicU64; MASK_WORDS]);

impl AtomicCpuMask {
    /// A set that holds what `mask` does.
    #[must_use]
    pub const fn new(mask: CpuMask) -> Self {
        let mut words = [const { AtomicU64::new(0) }; MASK_WORDS];
        let mut n = 0;
        while n < MASK_WORDS {
            words[n] = AtomicU64::new(mask.0[n]);
            n += 1;
        }
        Self(words)
    }

    /// Word `n`.
    ///
    /// # Panics
    /// If `n` is not below [`MASK_WORDS`].
    #[must_use]
    #[inline]
    pub fn word(&self, n: usize, order: Ordering) -> u64 {
        self.0[n].load(order)
    }

    /// Whether `cpu` is in the set.
    #[must_use]
    #[inline]
    pub fn contains(&self, cpu: CpuId, order: Ordering) -> bool {
        self.0
            .get(cpu.word())
            .is_some_and(|word| word.load(order) & cpu.bit() != 0)
    }

    /// Adds `cpu`. Returns its word as it was before.
    ///
    /// # Panics
    /// If `cpu` is not below [`MAX_CPUS`].
    #[inline]
    pub fn set(&self, cpu: CpuId, order: Ordering) -> u64 {
        self.0[cpu.word()].fetch_or(cpu.bit(), order)
    }

    /// Takes `cpu` out.
    ///
    /// # Panics
    /// As [`AtomicCpuMask::set`].
    #[inline]
    pub fn clear(&self, cpu: CpuId, order: Ordering) {
        self.0[cpu.word()].fetch_and(!cpu.bit(), order);
    }

    /// Takes the CPUs `bits` of word `n` out. Returns those that are left of the word.
    ///
    /// # Panics
    /// As [`AtomicCpuMask::word`].
    #[inline]
    pub fn clear_in_word(&self, n: usize, bits: u64, order: Ordering) -> u64 {
        self.0[n].fetch_and(!bits, order) & !bits
    }

    /// The set.
    #[must_use]
    pub fn load(&self, order: Ordering) -> CpuMask {
        CpuMask(core::array::from_fn(|n| self.0[n].load(order)))
    }

    /// Makes the set `mask`. For a set that is changed under a lock: other CPUs may see some
    /// words of the old set and some of the new.
    pub fn store(&self, mask: &CpuMask, order: Ordering) {
        for (word, new) in self.0.iter().zip(mask.0) {
            word.store(new, order);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering::SeqCst;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    fn mask_of(cpus: &BTreeSet<u16>) -> CpuMask {
        cpus.iter()
            .fold(CpuMask::NONE, |mask, cpu| mask.with(CpuId(*cpu)))
    }

    fn cpus() -> impl Strategy<Value = BTreeSet<u16>> {
        proptest::collection::btree_set(0..MAX_CPUS as u16, 0..40)
    }

    #[test]
    fn the_first_cpus_of_every_count() {
        for count in [0, 1, 2, 63, 64, 65, 127, 128, 255, 288, MAX_CPUS, 10_000] {
            let first = CpuMask::first(count);
            let there = count.min(MAX_CPUS);
            assert_eq!(first.count(), there, "{count}");
            assert_eq!(first.iter().count(), there, "{count}");
            assert!(!first.contains(CpuId(there as u16)));
        }
        assert_eq!(CpuMask::first(MAX_CPUS), CpuMask::ALL);
        assert_eq!(CpuMask::first(0), CpuMask::NONE);
    }

    #[test]
    fn a_cpu_that_cannot_be_is_in_no_set() {
        for cpu in [MAX_CPUS as u16, u16::MAX] {
            assert!(!CpuMask::ALL.contains(CpuId(cpu)));
            assert!(!AtomicCpuMask::new(CpuMask::ALL).contains(CpuId(cpu), SeqCst));
            assert_eq!(CpuMask::ALL.without(CpuId(cpu)), CpuMask::ALL);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 8 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn behaves_like_a_set(a in cpus(), b in cpus(), cpu in 0..MAX_CPUS as u16) {
            let (x, y) = (mask_of(&a), mask_of(&b));
            let list = |mask: &CpuMask| mask.iter().map(|c| c.0).collect::<Vec<_>>();
            prop_assert_eq!(list(&x), a.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(x.count(), a.len());
            prop_assert_eq!(x.is_empty(), a.is_empty());
            prop_assert_eq!(x.contains(CpuId(cpu)), a.contains(&cpu));
            prop_assert_eq!(list(&x.and(&y)), a.intersection(&b).copied().collect::<Vec<_>>());
            prop_assert_eq!(list(&x.or(&y)), a.union(&b).copied().collect::<Vec<_>>());
            let mut without = a.clone();
            without.remove(&cpu);
            prop_assert_eq!(x.without(CpuId(cpu)), mask_of(&without));
            prop_assert_eq!(CpuMask::from_words(*x.words()), x);
        }

        #[test]
        fn changes_one_by_one_are_a_set_too(
            start in cpus(),
            changes in proptest::collection::vec((any::<bool>(), 0..MAX_CPUS as u16), 0..60),
        ) {
            let mut model = start.clone();
            let mask = AtomicCpuMask::new(mask_of(&start));
            for (add, cpu) in changes {
                if add {
                    let before = mask.set(CpuId(cpu), SeqCst);
                    prop_assert_eq!(before & CpuId(cpu).bit() == 0, model.insert(cpu));
                } else {
                    mask.clear(CpuId(cpu), SeqCst);
                    model.remove(&cpu);
                }
                prop_assert_eq!(mask.contains(CpuId(cpu), SeqCst), add);
            }
            prop_assert_eq!(mask.load(SeqCst), mask_of(&model));
            let other = AtomicCpuMask::new(CpuMask::NONE);
            other.store(&mask_of(&model), SeqCst);
            prop_assert_eq!(other.load(SeqCst), mask_of(&model));
        }

        #[test]
        fn the_nearest_is_the_next_one_up_around_the_end(
            set in cpus(),
            near in 0..MAX_CPUS as u16,
            words in 1..=MASK_WORDS,
        ) {
            let mask = mask_of(&set);
            let seen = |cpu: &u16| usize::from(*cpu) < words * CPUS_PER_WORD;
            // A CPU that is not among the words in use is taken for the last one's place.
            let from = if seen(&near) { near } else { near % 64 + (words as u16 - 1) * 64 };
            let expected = set.range(from..).find(|c| seen(c)).or_else(|| set.iter().find(|c| seen(c)));
            let found = nearest(CpuId(near), words, |n| mask.words()[n]);
            prop_assert_eq!(found.map(|c| c.0), expected.copied());
        }
    }
}
