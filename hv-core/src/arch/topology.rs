//! Which processors are threads of one core. Pure.
//!
//! Source: Intel SDM volume 3, 9.9 (leaf 0bh, leaf 4); AMD APM volume 3, E.4.15 (leaf 8000001eh).

use super::platform::Processor;

/// How APIC ids name the threads of a core: by their lowest bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    mask: u32,
}

impl Threads {
    /// Asks CPUID: `eax ebx ecx edx` of leaf and subleaf.
    pub fn read(cpuid: impl Fn(u32, u32) -> [u32; 4]) -> Self {
        let top = cpuid(0, 0)[0];
        let top_extended = cpuid(0x8000_0000, 0)[0];
        Self {
            mask: (1 << Self::bits(cpuid, top, top_extended)) - 1,
        }
    }

    fn bits(cpuid: impl Fn(u32, u32) -> [u32; 4], top: u32, top_extended: u32) -> u32 {
        if top >= 0xb {
            let [shift, threads, level, _] = cpuid(0xb, 0);
            // Level type 1 is "threads".
            if threads != 0 && level >> 8 & 0xff == 1 {
                return (shift & 0x1f).min(8);
            }
        }
        if top_extended >= 0x8000_001e && cpuid(0x8000_0001, 0)[2] >> 22 & 1 != 0 {
            let threads = (cpuid(0x8000_001e, 0)[1] >> 8 & 0xff) + 1;
            return threads.next_power_of_two().trailing_zeros();
        }
        let [_, counts, _, features] = cpuid(1, 0);
        let logical = counts >> 16 & 0xff;
        // Before leaf 0bh: leaf 4 has the cores of a package. AMD has no leaf 4 and had no threads.
        if features >> 28 & 1 == 0 || logical < 2 || top < 4 {
            return 0;
        }
        let caches = cpuid(4, 0)[0];
        if caches & 0x1f == 0 {
            return 0;
        }
        let bits = |n: u32| n.next_power_of_two().trailing_zeros();
        bits(logical).saturating_sub(bits((caches >> 26) + 1))
    }

    /// Which thread of its core the processor with this APIC id is.
    #[must_use]
    pub const fn of(self, apic_id: u32) -> u32 {
        apic_id & self.mask
    }

    /// Whether a core among these has more than one thread in use.
    #[must_use]
    pub fn are_shared(self, processors: &[Processor]) -> bool {
        let mut usable = processors.iter().filter(|p| p.enabled);
        let first = usable.next().map_or(0, |p| self.of(p.apic_id));
        usable.any(|p| self.of(p.apic_id) != first)
    }

    /// Leaves one thread of each core, the same of all as the one with `boot`'s id.
    pub fn leave_siblings_out(self, processors: &mut [Processor], boot: u32) -> usize {
        let mut left_out = 0;
        for p in processors {
            if p.enabled && self.of(p.apic_id) != self.of(boot) {
                p.enabled = false;
                left_out += 1;
            }
        }
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn processors(ids: &[u32]) -> Vec<Processor> {
        let one = |id: &u32| Processor {
            apic_id: *id,
            acpi_id: *id,
            enabled: true,
        };
        ids.iter().map(one).collect()
    }

    fn leaves(set: &'static [(u32, [u32; 4])]) -> impl Fn(u32, u32) -> [u32; 4] {
        |leaf, _| {
            let found = set.iter().find(|(n, _)| *n == leaf);
            found.map_or([0; 4], |(_, regs)| *regs)
        }
    }

    #[test]
    fn intel_names_threads_in_leaf_b() {
        let two = leaves(&[(0, [0xb, 0, 0, 0]), (0xb, [1, 2, 0x100, 0])]);
        let threads = Threads::read(two);
        assert_eq!((threads.of(6), threads.of(7)), (0, 1));
        // QEMU's machine of one thread a core.
        let one = leaves(&[(0, [0xd, 0, 0, 0]), (0xb, [0, 1, 0x100, 0])]);
        assert_eq!(Threads::read(one).of(7), 0);
    }

    #[test]
    fn amd_counts_threads_of_a_core() {
        let zen = leaves(&[
            (0, [0xd, 0, 0, 0]),
            (0x8000_0000, [0x8000_001f, 0, 0, 0]),
            (0x8000_0001, [0, 0, 1 << 22, 0]),
            (0x8000_001e, [0, 0x100, 0, 0]),
        ]);
        assert_eq!(Threads::read(zen).of(5), 1);
    }

    #[test]
    fn old_intel_divides_package_by_cores() {
        // Four cores of two threads: 16 ids a package, 8 cores at most.
        let nehalem = leaves(&[
            (0, [4, 0, 0, 0]),
            (1, [0, 16 << 16, 0, 1 << 28]),
            (4, [7 << 26 | 0x21, 0, 0, 0]),
        ]);
        assert_eq!(Threads::read(nehalem).of(3), 1);
        let core2 = leaves(&[
            (0, [4, 0, 0, 0]),
            (1, [0, 2 << 16, 0, 1 << 28]),
            (4, [1 << 26 | 0x21, 0, 0, 0]),
        ]);
        assert_eq!(Threads::read(core2).of(3), 0);
        let old_amd = leaves(&[(0, [5, 0, 0, 0]), (1, [0, 2 << 16, 0, 1 << 28])]);
        assert_eq!(Threads::read(old_amd).of(1), 0);
    }

    #[test]
    fn siblings_are_left_out() {
        let threads = Threads { mask: 1 };
        let mut all = processors(&[0, 1, 2, 3, 6]);
        assert!(threads.are_shared(&all));
        assert_eq!(threads.leave_siblings_out(&mut all, 2), 2);
        let used: Vec<u32> = all
            .iter()
            .filter(|p| p.enabled)
            .map(|p| p.apic_id)
            .collect();
        assert_eq!(used, [0, 2, 6]);
        assert!(!threads.are_shared(&all));
        // The boot CPU may be any thread.
        let mut all = processors(&[0, 1, 2, 3]);
        threads.leave_siblings_out(&mut all, 1);
        assert!(all[1].enabled && !all[0].enabled);
    }
}
