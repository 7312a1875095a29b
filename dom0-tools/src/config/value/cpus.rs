//! Sets of physical CPUs.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{BadValue, serde_as_text};

/// First CPU number that no machine has here; keeps sets small.
const LIMIT: u32 = 4096;

/// A set of physical CPUs: `all`, `0-3,^2`, `all,^0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuSet {
    /// `cpus` are those that are missing from all, rather than those that are in it.
    all_but: bool,
    cpus: BTreeSet<u32>,
}

impl CpuSet {
    /// Every CPU.
    pub const fn all() -> Self {
        Self {
            all_but: true,
            cpus: BTreeSet::new(),
        }
    }

    /// Those whose bit is set, of the first `count`.
    pub fn from_bits(bits: &[u8], count: u32) -> Self {
        let cpus: BTreeSet<u32> = (0..count)
            .filter(|cpu| {
                bits.get(*cpu as usize / 8)
                    .is_some_and(|byte| byte >> (cpu % 8) & 1 == 1)
            })
            .collect();
        if cpus.len() == count as usize {
            Self::all()
        } else {
            Self {
                all_but: false,
                cpus,
            }
        }
    }

    /// Is it every CPU?
    pub fn is_all(&self) -> bool {
        self.all_but && self.cpus.is_empty()
    }

    /// Is this CPU in it?
    pub fn contains(&self, cpu: u32) -> bool {
        self.cpus.contains(&cpu) != self.all_but
    }

    /// One bit a CPU, the lowest first, for a machine of `count` CPUs (Xen's
    /// `xenctl_bitmap`). Bits beyond the machine are clear, except that "all" is all ones
    /// in the last byte too, as `xl` passes it.
    ///
    /// # Errors
    /// None of the machine's CPUs is in the set.
    pub fn bits(&self, count: u32) -> Result<Vec<u8>, BadValue> {
        let mut bits = vec![0; count.div_ceil(8) as usize];
        let mut any = false;
        for cpu in (0..count).filter(|cpu| self.contains(*cpu)) {
            bits[cpu as usize / 8] |= 1 << (cpu % 8);
            any = true;
        }
        if !any {
            return Err(BadValue::new(format!(
                "`{self}` names no CPU of this machine, which has {count}"
            )));
        }
        if self.is_all() {
            bits.fill(0xff);
        }
        Ok(bits)
    }

    /// Adds or takes away one part of the text.
    fn take(&mut self, part: &str) -> Result<(), BadValue> {
        let (exclude, range) = match part.strip_prefix('^') {
            Some(rest) => (true, rest.trim()),
            None => (false, part),
        };
        if range == "all" {
            *self = Self::all();
            self.all_but = !exclude;
            return Ok(());
        }
        if range.starts_with("node:") || range.starts_with("nodes:") {
            return Err(BadValue::new(format!(
                "`{part}`: NUMA nodes are not known here, name CPUs"
            )));
        }
        let number = |text: &str| {
            text.trim()
                .parse::<u32>()
                .ok()
                .filter(|cpu| *cpu < LIMIT)
                .ok_or_else(|| {
                    BadValue::new(format!(
                        "`{part}` is no CPU: write `all`, `2`, `0-3` or `^2`"
                    ))
                })
        };
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(range)?, number(range)?),
        };
        if first > last {
            return Err(BadValue::new(format!("`{part}` goes backwards")));
        }
        for cpu in first..=last {
            // In the set exactly when it is listed, or the other way round.
            if exclude == self.all_but {
                self.cpus.insert(cpu);
            } else {
                self.cpus.remove(&cpu);
            }
        }
        Ok(())
    }
}

impl FromStr for CpuSet {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let mut set = Self {
            all_but: false,
            cpus: BTreeSet::new(),
        };
        for part in text.split(',') {
            set.take(part.trim())?;
        }
        if !set.all_but && set.cpus.is_empty() {
            return Err(BadValue::new(format!("`{text}` leaves no CPU")));
        }
        Ok(set)
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = Vec::new();
        let not = if self.all_but {
            parts.push("all".into());
            "^"
        } else {
            ""
        };
        let mut cpus = self.cpus.iter().copied().peekable();
        while let Some(first) = cpus.next() {
            let mut last = first;
            while cpus.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            parts.push(if first == last {
                format!("{not}{first}")
            } else {
                format!("{not}{first}-{last}")
            });
        }
        f.pad(&parts.join(","))
    }
}

serde_as_text!(CpuSet);

/// Where a domain's vCPUs may run. In TOML a text for all of them, or a list with one for
/// each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// The same set for all vCPUs.
    Same(CpuSet),
    /// The first for vCPU 0 and so on; those behind the list may run anywhere.
    Each(Vec<CpuSet>),
}

impl Affinity {
    /// The set of this vCPU.
    pub fn of(&self, vcpu: u32) -> CpuSet {
        match self {
            Self::Same(set) => set.clone(),
            Self::Each(sets) => sets.get(vcpu as usize).cloned().unwrap_or_else(CpuSet::all),
        }
    }

    /// May every vCPU run anywhere?
    pub fn is_all(&self) -> bool {
        match self {
            Self::Same(set) => set.is_all(),
            Self::Each(sets) => sets.iter().all(CpuSet::is_all),
        }
    }
}

impl Default for Affinity {
    fn default() -> Self {
        Self::Same(CpuSet::all())
    }
}

impl Serialize for Affinity {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Same(set) => set.serialize(to),
            Self::Each(sets) => sets.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Affinity {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Affinity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("CPUs as text (\"0-3,^2\"), or a list with such a text for each vCPU")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Affinity, E> {
                text.parse().map(Affinity::Same).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Affinity, A::Error> {
                let mut sets = Vec::new();
                while let Some(set) = from.next_element()? {
                    sets.push(set);
                }
                Ok(Affinity::Each(sets))
            }
        }

        from.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sets_as_in_the_manual() {
        let set: CpuSet = "0-3,5,^1".parse().unwrap();
        assert_eq!(set.to_string(), "0,2-3,5");
        assert_eq!(set.bits(8), Ok(vec![0b0010_1101]));
        let set: CpuSet = "all,^0".parse().unwrap();
        assert!(set.contains(7) && !set.contains(0));
        assert_eq!(set.to_string(), "all,^0");
        assert_eq!("all".parse::<CpuSet>().unwrap().bits(2), Ok(vec![0xff]));
        for bad in [
            "", "^0", "3-1", "x", "4096", "0-", "node:1", "1,^1", "all,^all", "-1",
        ] {
            assert!(bad.parse::<CpuSet>().is_err(), "{bad}");
        }
        assert!("9".parse::<CpuSet>().unwrap().bits(2).is_err());
    }

    proptest! {
        #[test]
        fn what_prints_reads_back(all in any::<bool>(), cpus in proptest::collection::btree_set(0_u32..100, 1..20)) {
            let set = CpuSet { all_but: all, cpus };
            prop_assert_eq!(set.to_string().parse::<CpuSet>(), Ok(set));
        }

        #[test]
        fn any_text_is_answered(text: String) {
            let _ = text.parse::<CpuSet>();
        }
    }
}
