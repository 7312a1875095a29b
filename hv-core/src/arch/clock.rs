//! What `arch` measured of the machine's counters, as plain data, and the arithmetic
//! of measuring.

/// A free-running counter other than the TSC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// "HPET", "PM timer" or "PIT".
    pub name: &'static str,
    /// Ticks a second.
    pub hz: u64,
    /// Bits that count.
    pub mask: u64,
}

/// What each CPU's own one-shot timer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuTimer {
    /// Down from a 32-bit count, at `hz`.
    Count {
        /// Ticks a second.
        hz: u64,
    },
    /// Fires when the TSC passes a value.
    TscDeadline,
}

impl core::fmt::Display for CpuTimer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Count { hz } => {
                write!(f, "timer {}.{:03} MHz", hz / 1_000_000, hz / 1000 % 1000)
            }
            Self::TscDeadline => f.write_str("timer by TSC deadline"),
        }
    }
}

/// The rates of this machine's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// TSC ticks a second.
    pub tsc_hz: u64,
    /// Whether CPUID promises a TSC that neither stops nor changes rate.
    pub tsc_invariant: bool,
    /// Each CPU's timer.
    pub timer: CpuTimer,
    /// What the rates were measured against, still readable by `read_reference`.
    pub reference: Reference,
}

/// The battery clock's registers (MC146818), as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RtcFields {
    /// Seconds.
    pub second: u8,
    /// Minutes.
    pub minute: u8,
    /// Hours; in 12-hour mode bit 7 is "p.m.".
    pub hour: u8,
    /// Day of the month.
    pub day: u8,
    /// Month, from 1.
    pub month: u8,
    /// Year within the century.
    pub year: u8,
    /// Century (0: not known).
    pub century: u8,
    /// Register B: bit 2 binary (else BCD), bit 1 24-hour mode.
    pub status_b: u8,
}

/// Rate of a counter that made `ticks` while `reference` made `reference_ticks`.
/// `None` if the reference stood still or the result is zero.
#[must_use]
pub fn rate_against(ticks: u64, reference_ticks: u64, reference: &Reference) -> Option<u64> {
    let hz = u128::from(ticks) * u128::from(reference.hz) / u128::from(reference_ticks).max(1);
    (reference_ticks != 0 && hz != 0)
        .then_some(hz)
        .and_then(|hz| u64::try_from(hz).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let pm = Reference {
            name: "PM timer",
            hz: 3_579_545,
            mask: 0xff_ffff,
        };
        assert_eq!(rate_against(23_000_000, 35_795, &pm), Some(2_300_028_914));
        assert_eq!(rate_against(1, 0, &pm), None);
        assert_eq!(rate_against(0, 10, &pm), None);
    }
}
