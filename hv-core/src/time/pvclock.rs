//! The clock a guest reads without asking: `vcpu_time_info`, and the wall clock in the
//! shared-info page.
//!
//! What it is for: the arithmetic and the order of writes. It reads no clock and knows
//! no domain. The guest may write these words at any time; nothing here believes them,
//! they only count versions, and a guest that damages its version confuses itself.
//!
//! Layout: Xen `include/public/xen.h`, `struct vcpu_time_info` (32 bytes) and the `wc_`
//! fields of `struct shared_info`. Protocol, same place: the version is odd while the
//! rest changes, and a reader starts again if it was odd or has changed.

use super::scale::Scale;
use crate::addr::Nanos;
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Relaxed, Release},
    fence,
};

/// Flag: the time stamp counters of all CPUs agree (`XEN_PVCLOCK_TSC_STABLE_BIT`).
pub const TSC_STABLE: u8 = 1 << 0;
/// Flag: the guest was stopped for a while (`XEN_PVCLOCK_GUEST_STOPPED`).
pub const GUEST_STOPPED: u8 = 1 << 1;

const BILLION: u64 = 1_000_000_000;

/// How system time follows from the time stamp counter of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeInfo {
    /// Counter at `system_time`.
    pub tsc: u64,
    /// System time then.
    pub system_time: Nanos,
    /// From ticks to nanoseconds.
    pub scale: Scale,
    /// [`TSC_STABLE`], [`GUEST_STOPPED`].
    pub flags: u8,
}

impl TimeInfo {
    /// System time when the counter is `tsc`; a counter before the stamp counts as at it.
    #[must_use]
    #[inline]
    pub const fn at(&self, tsc: u64) -> Nanos {
        let delta = self.scale.apply(tsc.saturating_sub(self.tsc));
        Nanos(self.system_time.0.wrapping_add(delta))
    }

    /// The three words after the version's.
    #[inline]
    fn words(&self) -> [u64; 3] {
        let shift = u64::from(self.scale.shift.cast_unsigned());
        [
            self.tsc,
            self.system_time.0,
            u64::from(self.scale.mul_frac) | shift << 32 | u64::from(self.flags) << 40,
        ]
    }

    /// Writes the guest's copy (`vcpu_info.time`), unless it says so already.
    #[inline]
    pub fn publish(&self, area: &[AtomicU64; 4]) {
        let words = self.words();
        let version = area[0].load(Relaxed) as u32;
        let same = area[1..]
            .iter()
            .zip(words)
            .all(|(a, w)| a.load(Relaxed) == w);
        if same && version & 1 == 0 {
            return;
        }
        let odd = version.wrapping_add(1) | 1;
        area[0].store(odd.into(), Relaxed);
        fence(Release);
        for (a, w) in area[1..].iter().zip(words) {
            a.store(w, Relaxed);
        }
        area[0].store(odd.wrapping_add(1).into(), Release);
    }

    /// The 32 bytes of a complete copy with this version, for areas at a guest address.
    #[must_use]
    pub fn image(&self, version: u32) -> [u8; 32] {
        let [tsc, time, rate] = self.words();
        let mut image = [0; 32];
        for (to, word) in image
            .chunks_exact_mut(8)
            .zip([u64::from(version), tsc, time, rate])
        {
            to.copy_from_slice(&word.to_le_bytes());
        }
        image
    }
}

/// The date at system time 0, as Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// Seconds since 1970.
    pub seconds: u64,
    /// And nanoseconds, below 10^9.
    pub nanos: u32,
}

impl WallClock {
    /// The clock of which `seconds` and `nanos` is the date at `when`
    /// (`XENPF_settime64`). `None`: before 1970 at system time 0, or out of range.
    #[must_use]
    pub fn from_date(seconds: u64, nanos: u32, when: Nanos) -> Option<Self> {
        let date = u128::from(seconds) * u128::from(BILLION) + u128::from(nanos);
        let base = date.checked_sub(when.0.into())?;
        Some(Self {
            seconds: u64::try_from(base / u128::from(BILLION)).ok()?,
            nanos: (base % u128::from(BILLION)) as u32,
        })
    }

    /// The same for a guest whose date is `offset` seconds off.
    #[must_use]
    pub const fn offset(self, offset: i64) -> Self {
        Self {
            seconds: self.seconds.saturating_add_signed(offset),
            nanos: self.nanos,
        }
    }

    /// Writes `wc_version`, `wc_sec`, `wc_nsec` and `wc_sec_hi` of a shared-info page.
    /// The caller holds whatever keeps two CPUs from doing so for one domain at once.
    pub fn publish(&self, area: &WallClockArea<'_>) {
        let odd = area.version.load(Relaxed).wrapping_add(1) | 1;
        area.version.store(odd, Relaxed);
        fence(Release);
        area.sec.store(self.seconds as u32, Relaxed);
        area.nsec.store(self.nanos, Relaxed);
        area.sec_hi.store((self.seconds >> 32) as u32, Relaxed);
        area.version.store(odd.wrapping_add(1), Release);
    }
}

/// The wall-clock words of a shared-info page.
#[derive(Clone, Copy, Debug)]
pub struct WallClockArea<'a> {
    /// `wc_version`, at 3072.
    pub version: &'a AtomicU32,
    /// `wc_sec`, at 3076.
    pub sec: &'a AtomicU32,
    /// `wc_nsec`, at 3080.
    pub nsec: &'a AtomicU32,
    /// `wc_sec_hi`, at 3084.
    pub sec_hi: &'a AtomicU32,
}

impl<'a> WallClockArea<'a> {
    /// The words of `page`.
    #[must_use]
    pub fn of(page: &'a crate::mm::shared_page::SharedPage) -> Self {
        Self {
            version: page.u32_at(3072),
            sec: page.u32_at(3076),
            nsec: page.u32_at(3080),
            sec_hi: page.u32_at(3084),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering::{Acquire, SeqCst};

    /// What a guest does to read its clock.
    fn read(area: &[AtomicU64; 4]) -> (u64, u64, u32, i8, u8) {
        loop {
            let version = area[0].load(Acquire) as u32;
            let w: Vec<u64> = area[1..].iter().map(|a| a.load(Relaxed)).collect();
            fence(Acquire);
            if version & 1 == 0 && area[0].load(Relaxed) as u32 == version {
                let rate = w[2].to_le_bytes();
                let mul = u32::from_le_bytes([rate[0], rate[1], rate[2], rate[3]]);
                return (w[0], w[1], mul, rate[4].cast_signed(), rate[5]);
            }
            core::hint::spin_loop();
        }
    }

    fn info(n: u64) -> TimeInfo {
        TimeInfo {
            tsc: n,
            system_time: Nanos(n * 3),
            scale: Scale {
                mul_frac: n as u32 ^ 0x8000_0000,
                shift: -1,
            },
            flags: TSC_STABLE,
        }
    }

    #[test]
    fn a_reader_never_sees_half_an_update() {
        let area: [AtomicU64; 4] = Default::default();
        info(1).publish(&area);
        let rounds = if cfg!(miri) { 20 } else { 20_000 };
        std::thread::scope(|s| {
            s.spawn(|| (2..rounds).for_each(|n| info(n).publish(&area)));
            for _ in 0..rounds {
                let (tsc, time, mul, shift, flags) = read(&area);
                assert_eq!((time, mul), (tsc * 3, tsc as u32 ^ 0x8000_0000));
                assert_eq!((shift, flags), (-1, TSC_STABLE));
            }
        });
    }

    #[test]
    fn an_unchanged_clock_is_not_written() {
        let area: [AtomicU64; 4] = Default::default();
        info(7).publish(&area);
        assert_eq!(area[0].load(SeqCst), 2);
        info(7).publish(&area);
        assert_eq!(area[0].load(SeqCst), 2);
        // A guest that left its version odd gets an even one back.
        area[0].store(5, SeqCst);
        info(7).publish(&area);
        assert_eq!(area[0].load(SeqCst), 8);
    }

    #[test]
    fn time_follows_the_counter() {
        let t = TimeInfo {
            tsc: 1000,
            system_time: Nanos(5_000),
            scale: Scale::from_hz(2_000_000_000),
            flags: 0,
        };
        assert_eq!(t.at(1000), Nanos(5_000));
        assert_eq!(t.at(900), Nanos(5_000));
        assert_eq!(t.at(1000 + 2_000_000_000), Nanos(5_000 + BILLION));
        // 2^63 ticks are no overflow: the product has 96 bits.
        assert_eq!(t.at(1000 + (1 << 62)), Nanos(5_000 + (1 << 61)));
    }

    #[test]
    fn the_image_has_xens_layout() {
        let image = info(0x1122).image(4);
        assert_eq!(image[0..4], [4, 0, 0, 0]);
        assert_eq!(image[8..10], [0x22, 0x11]);
        assert_eq!(image[24..28], 0x8000_1122u32.to_le_bytes());
        assert_eq!(image[28..32], [0xff, TSC_STABLE, 0, 0]);
    }

    #[test]
    fn the_wall_clock_counts_back_to_system_time_zero() {
        let w = WallClock::from_date(1_700_000_000, 5, Nanos(2 * BILLION + 6)).unwrap();
        assert_eq!((w.seconds, w.nanos), (1_699_999_997, 999_999_999));
        assert_eq!(WallClock::from_date(1, 0, Nanos(BILLION + 1)), None);
        assert_eq!(w.offset(-1).seconds, 1_699_999_996);
        let words: [AtomicU32; 4] = Default::default();
        let area = WallClockArea {
            version: &words[0],
            sec: &words[1],
            nsec: &words[2],
            sec_hi: &words[3],
        };
        w.offset(1 << 32).publish(&area);
        let got: Vec<u32> = words.iter().map(|w| w.load(SeqCst)).collect();
        assert_eq!(got, [2, 1_699_999_997, 999_999_999, 1]);
    }
}
