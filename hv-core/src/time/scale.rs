//! Counter ticks to nanoseconds and back, by multiplication.

/// A rate as `ns = ((ticks << shift) * mul_frac) >> 32`, a negative shift meaning a
/// right shift. The same form as Xen's `vcpu_time_info` (public `xen.h`), so a guest
/// given these two numbers computes what we compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale {
    /// Fraction of 2^32; its top bit is set.
    pub mul_frac: u32,
    /// Binary exponent.
    pub shift: i8,
}

const BILLION: u64 = 1_000_000_000;

impl Scale {
    /// The scale of a counter that ticks `hz` times a second, to nanoseconds.
    ///
    /// # Panics
    /// If `hz` is zero.
    #[must_use]
    pub const fn from_hz(hz: u64) -> Self {
        Self::ratio(BILLION, hz)
    }

    /// The scale from nanoseconds to ticks of a counter of `hz`.
    ///
    /// # Panics
    /// If `hz` is zero.
    #[must_use]
    pub const fn to_hz(hz: u64) -> Self {
        Self::ratio(hz, BILLION)
    }

    /// The scale that multiplies by `num / den`, within 2^-31 of it.
    const fn ratio(num: u64, den: u64) -> Self {
        assert!(num != 0 && den != 0);
        // Find the shift that brings num * 2^32 / (den * 2^shift) into 2^31..2^32.
        let mut shift = 0i8;
        let mut num = num as u128;
        let mut den = den as u128;
        while num >= den {
            den <<= 1;
            shift += 1;
        }
        while num << 1 < den {
            num <<= 1;
            shift -= 1;
        }
        Self {
            mul_frac: ((num << 32) / den) as u32,
            shift,
        }
    }

    /// Applies the scale; wraps beyond 2^64.
    #[must_use]
    #[inline]
    pub const fn apply(self, ticks: u64) -> u64 {
        let shifted = if self.shift < 0 {
            (ticks >> -self.shift) as u128
        } else {
            (ticks as u128) << self.shift
        };
        ((shifted * self.mul_frac as u128) >> 32) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_gigahertz_is_the_identity() {
        let s = Scale::from_hz(BILLION);
        assert_eq!(
            s,
            Scale {
                mul_frac: 1 << 31,
                shift: 1
            }
        );
        assert_eq!(s.apply(12_345), 12_345);
    }

    #[test]
    fn linux_computes_the_same_khz() {
        // Linux: khz = (10^6 << 32) / mul, then shifted by -shift.
        for khz in [1_000_000u64, 2_294_608, 3_892_217, 24_000] {
            let s = Scale::from_hz(khz * 1000);
            let raw = (1_000_000u64 << 32) / u64::from(s.mul_frac);
            let back = if s.shift < 0 {
                raw << -s.shift
            } else {
                raw >> s.shift
            };
            assert!(back.abs_diff(khz) <= 2, "{khz} {back}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 8 } else { 256 }))]
        #[test]
        fn there_and_back(hz in 1_000_000u64..10_000_000_000, secs in 1u64..100_000) {
            let ns = Scale::from_hz(hz).apply(hz * secs);
            prop_assert!(ns.abs_diff(secs * BILLION) <= ((secs * BILLION) >> 30) + 2);
            let ticks = Scale::to_hz(hz).apply(secs * BILLION);
            prop_assert!(ticks.abs_diff(hz * secs) <= ((hz * secs) >> 30) + 2);
        }
    }
}
