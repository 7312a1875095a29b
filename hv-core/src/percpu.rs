//! Per-CPU values: one slot a CPU, each on its own cache line.
//!
//! Slots are shared references, so they hold atomics, [`crate::sync::Lock`]s, or
//! types that guard themselves. What only its own CPU may touch lives in
//! `arch::machine`'s CPU-local block.
//!
//! The boot CPU's slot is there from the start. The others are allocated once it is
//! known how many CPUs there are, so that a CPU that does not exist costs nothing.

use crate::addr::{CPUS_PER_WORD, CpuId};
use crate::sync::Once;
use alloc::boxed::Box;

#[derive(Debug)]
#[repr(align(64))]
struct Line<T>(T);

/// One `T` for each CPU that exists.
#[derive(Debug)]
pub struct PerCpu<T> {
    boot: Line<T>,
    /// Those of CPU 1 and up.
    others: Once<Box<[Line<T>]>>,
}

impl<T> PerCpu<T> {
    /// The boot CPU's slot alone.
    pub const fn new(boot: T) -> Self {
        Self {
            boot: Line(boot),
            others: Once::new(),
        }
    }

    /// Makes the slots of CPUs 1 to `count - 1`. The first call counts. At boot, before any of
    /// these CPUs runs: there is no way on without the memory.
    #[allow(clippy::disallowed_methods, reason = "at boot only")]
    pub fn make_room(&self, count: usize, mut slot: impl FnMut() -> T) {
        self.others
            .call_once(|| (1..count).map(|_| Line(slot())).collect());
    }

    /// CPUs that have a slot.
    #[must_use]
    #[inline]
    pub fn count(&self) -> usize {
        1 + self.others.get().map_or(0, |others| others.len())
    }

    /// Words of a mask of the CPUs that have a slot.
    #[must_use]
    #[inline]
    pub fn mask_words(&self) -> usize {
        self.count().div_ceil(CPUS_PER_WORD)
    }

    /// The slot of `cpu`; `None` if there is no such CPU.
    #[must_use]
    #[inline]
    pub fn get(&self, cpu: CpuId) -> Option<&T> {
        match usize::from(cpu.0).checked_sub(1) {
            None => Some(&self.boot.0),
            Some(n) => self.others.get()?.get(n).map(|line| &line.0),
        }
    }

    /// The slot of `cpu`.
    ///
    /// # Panics
    /// If there is no such CPU.
    #[inline]
    pub fn of(&self, cpu: CpuId) -> &T {
        self.get(cpu).expect("a CPU that exists")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn only_cpus_that_exist_have_slots() {
        let slots = PerCpu::new(7);
        assert_eq!((slots.count(), slots.mask_words()), (1, 1));
        assert_eq!(slots.get(CpuId(1)), None);
        let mut next = 0;
        slots.make_room(65, || {
            next += 1;
            next
        });
        slots.make_room(3, || 0);
        assert_eq!((slots.count(), slots.mask_words()), (65, 2));
        let all: Vec<_> = (0..65).map(|n| *slots.of(CpuId(n))).collect();
        assert_eq!(all[0], 7);
        assert_eq!(all[1..], (1..65).collect::<Vec<_>>()[..]);
        assert_eq!(slots.get(CpuId(65)), None);
        assert_eq!(slots.get(CpuId(u16::MAX)), None);
    }
}
