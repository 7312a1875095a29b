//! Rate limits of network cards.

use std::fmt;
use std::str::FromStr;

use super::{BadValue, serde_as_text};

/// Most that a card may send: so many bytes in each interval. Text: `10Mb/s`, `1MB/s@20ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    bytes_per_second: u64,
    interval_us: u32,
}

/// Interval when none is given, µs (`xl-network-configuration`).
const DEFAULT_INTERVAL_US: u32 = 50_000;

impl Rate {
    /// Bytes in each interval, as in the backend's node `rate`.
    pub const fn bytes_per_interval(self) -> u64 {
        let bytes = self.bytes_per_second as u128 * self.interval_us as u128 / 1_000_000;
        bytes as u64
    }

    /// Length of the interval, µs.
    pub const fn interval_us(self) -> u32 {
        self.interval_us
    }
}

impl FromStr for Rate {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let bad = || {
            BadValue::new(format!(
                "`{text}` is no rate: write it as `10Mb/s` (bits) or `1MB/s@20ms` (bytes, in each 20 ms)"
            ))
        };
        let (amount, interval) = match text.trim().split_once('@') {
            Some((amount, interval)) => (amount, Some(interval)),
            None => (text.trim(), None),
        };
        let amount = amount.strip_suffix("/s").ok_or_else(bad)?;
        let (amount, bits) = match (amount.strip_suffix('b'), amount.strip_suffix('B')) {
            (Some(rest), _) => (rest, true),
            (_, Some(rest)) => (rest, false),
            _ => return Err(bad()),
        };
        let (number, factor) = match amount.chars().last() {
            Some('K' | 'k') => (&amount[..amount.len() - 1], 1_000),
            Some('M' | 'm') => (&amount[..amount.len() - 1], 1_000_000),
            Some('G' | 'g') => (&amount[..amount.len() - 1], 1_000_000_000),
            _ => (amount, 1),
        };
        let number = digits(number).ok_or_else(bad)?;
        let bytes_per_second =
            number.checked_mul(factor).ok_or_else(bad)? / if bits { 8 } else { 1 };
        let interval_us = match interval {
            None => Some(DEFAULT_INTERVAL_US),
            Some(text) => {
                let (number, factor) = if let Some(number) = text.strip_suffix("us") {
                    (number, 1)
                } else if let Some(number) = text.strip_suffix("ms") {
                    (number, 1_000)
                } else {
                    (text.strip_suffix('s').ok_or_else(bad)?, 1_000_000)
                };
                digits(number)
                    .and_then(|n| n.checked_mul(factor))
                    .and_then(|n| u32::try_from(n).ok())
            }
        };
        let rate = Self {
            bytes_per_second,
            interval_us: interval_us.filter(|us| *us > 0).ok_or_else(bad)?,
        };
        if rate.bytes_per_interval() == 0 {
            return Err(BadValue::new(format!(
                "`{text}` allows nothing in an interval"
            )));
        }
        Ok(rate)
    }
}

/// A number of digits alone.
fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}B/s@{}us", self.bytes_per_second, self.interval_us)
    }
}

serde_as_text!(Rate);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_as_in_the_manual() {
        let rate: Rate = "10Mb/s".parse().unwrap();
        assert_eq!(
            (rate.bytes_per_interval(), rate.interval_us()),
            (62_500, 50_000)
        );
        let rate: Rate = "1MB/s@20ms".parse().unwrap();
        assert_eq!(
            (rate.bytes_per_interval(), rate.interval_us()),
            (20_000, 20_000)
        );
        assert_eq!(rate.to_string().parse(), Ok(rate));
        for bad in [
            "",
            "10",
            "10M",
            "Mb/s",
            "10Mb/s@",
            "10Mb/s@20",
            "0B/s",
            "10Mb/s@0ms",
            "99999999999GB/s",
        ] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }
}
