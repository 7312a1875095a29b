//! Sets of physical CPUs.

use std::collections::BTreeSet;
use std::fmt;

/// A set of physical CPUs, or of NUMA nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// CPUs below `count`.
    #[must_use]
    pub fn first(count: u32) -> Self {
        Self((0..count).collect())
    }

    /// Whether it has the CPU.
    #[must_use]
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many CPUs it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The CPUs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// As a bitmap of `bits` bits; CPUs beyond are left out.
    pub(super) fn to_bitmap(&self, bits: u32) -> Vec<u8> {
        let mut bytes = vec![0; bitmap_bytes(bits)];
        for cpu in self.iter().filter(|&cpu| cpu < bits) {
            bytes[(cpu / 8) as usize] |= 1 << (cpu % 8);
        }
        bytes
    }

    /// From a bitmap.
    pub(super) fn from_bitmap(bytes: &[u8]) -> Self {
        let bit = |n: u32| bytes[(n / 8) as usize] & 1 << (n % 8) != 0;
        let bits = u32::try_from(bytes.len() * 8).unwrap_or(u32::MAX);
        Self((0..bits).filter(|&n| bit(n)).collect())
    }
}

/// Bytes of a bitmap; the hypervisor counts in whole bytes, its callers in words.
pub(super) const fn bitmap_bytes(bits: u32) -> usize {
    bits.div_ceil(64) as usize * 8
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    /// Ranges, as in `0-3,7`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            if first == last {
                write!(f, "{separator}{first}")?;
            } else {
                write!(f, "{separator}{first}-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn shown_as_ranges() {
        let set: CpuSet = [7, 0, 2, 1, 9, 10].into_iter().collect();
        assert_eq!(set.to_string(), "0-2,7,9-10");
        assert_eq!(CpuSet::default().to_string(), "");
    }

    proptest! {
        #[test]
        fn a_bitmap_and_back(cpus: std::collections::BTreeSet<u8>) {
            let set: CpuSet = cpus.iter().map(|&c| u32::from(c)).collect();
            prop_assert_eq!(CpuSet::from_bitmap(&set.to_bitmap(256)), set);
        }
    }
}
