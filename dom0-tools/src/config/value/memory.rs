//! Amounts of memory.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::BadValue;

/// An amount of memory in whole KiB. As a plain number it is MiB, as in `xl.cfg`; as text
/// it may carry a unit (`K`, `M`, `G`, `T`, with or without `iB` or `B`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Memory(u64);

impl Memory {
    /// Most that x86-64 PV can have in all (`MACH2PHYS_VIRT` and p2m sizes aside): 16 TiB,
    /// in KiB. Keeps later arithmetic away from overflow.
    pub const MOST_KIB: u64 = 16 << 30;

    /// So many KiB.
    ///
    /// # Errors
    /// More than [`Self::MOST_KIB`].
    pub fn from_kib(kib: u64) -> Result<Self, BadValue> {
        if kib > Self::MOST_KIB {
            return Err(BadValue::new(format!(
                "{kib} KiB is more than any machine has (at most {} MiB)",
                Self::MOST_KIB / 1024
            )));
        }
        Ok(Self(kib))
    }

    /// So many MiB.
    ///
    /// # Errors
    /// More than [`Self::MOST_KIB`].
    pub fn from_mib(mib: u64) -> Result<Self, BadValue> {
        Self::from_kib(mib.saturating_mul(1024))
    }

    /// In KiB.
    pub const fn kib(self) -> u64 {
        self.0
    }

    /// In MiB, rounded down.
    pub const fn mib(self) -> u64 {
        self.0 / 1024
    }

    /// In pages of 4 KiB, rounded down.
    pub const fn pages(self) -> u64 {
        self.0 / 4
    }

    /// In bytes.
    pub const fn bytes(self) -> u64 {
        self.0 * 1024
    }

    /// A number with a unit; without one it is `unit_kib` KiB each.
    ///
    /// # Errors
    /// Not a number, an unknown unit, or too much.
    pub fn parse(text: &str, unit_kib: u64) -> Result<Self, BadValue> {
        let text = text.trim();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let bad = || {
            BadValue::new(format!(
                "`{text}` is no amount of memory: write a number, with `K`, `M`, `G` or `T` behind it if it is not MiB"
            ))
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        let unit = match unit.trim().to_ascii_lowercase().as_str() {
            "" => unit_kib,
            "k" | "kb" | "kib" => 1,
            "m" | "mb" | "mib" => 1 << 10,
            "g" | "gb" | "gib" => 1 << 20,
            "t" | "tb" | "tib" => 1 << 30,
            _ => return Err(bad()),
        };
        Self::from_kib(number.saturating_mul(unit))
    }
}

impl FromStr for Memory {
    type Err = BadValue;

    /// Without a unit: MiB.
    fn from_str(text: &str) -> Result<Self, BadValue> {
        Self::parse(text, 1024)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1024) {
            write!(f, "{}", self.0 / 1024)
        } else {
            write!(f, "{}K", self.0)
        }
    }
}

impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1024) {
            to.serialize_u64(self.0 / 1024)
        } else {
            to.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Memory;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of MiB, or text such as \"512M\"")
            }

            fn visit_i64<E: de::Error>(self, mib: i64) -> Result<Memory, E> {
                let mib = u64::try_from(mib)
                    .map_err(|_| E::custom(format!("{mib} MiB is less than nothing")))?;
                self.visit_u64(mib)
            }

            fn visit_u64<E: de::Error>(self, mib: u64) -> Result<Memory, E> {
                Memory::from_mib(mib).map_err(E::custom)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Memory, E> {
                text.parse().map_err(E::custom)
            }
        }

        from.deserialize_any(Either)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let kib = |text: &str| text.parse::<Memory>().map(Memory::kib);
        assert_eq!(kib("512"), Ok(512 << 10));
        assert_eq!(kib("512M"), Ok(512 << 10));
        assert_eq!(kib("2GiB"), Ok(2 << 20));
        assert_eq!(kib("100k"), Ok(100));
        for bad in [
            "",
            "M",
            "-1",
            "1.5G",
            "1P",
            "99999999999999999999",
            "16385G",
        ] {
            assert!(kib(bad).is_err(), "{bad}");
        }
    }
}
