//! The paravirtual clock: system time from the time stamp counter and what the hypervisor says of
//! it.
//!
//! Source: Xen `include/public/xen.h` (`struct vcpu_time_info`, `struct shared_info`).

use core::sync::atomic::{AtomicI64, Ordering};
use core::time::Duration;

use xen_abi::xen::VcpuTimeInfo;

/// System time in nanoseconds when the time stamp counter shows `tsc`.
///
/// `None` while the record is being written (odd version). A counter behind the record's, as
/// another vCPU may read it, counts as equal.
#[must_use]
pub fn system_time(record: &VcpuTimeInfo, tsc: u64) -> Option<u64> {
    if record.version & 1 != 0 {
        return None;
    }
    let passed = i64::try_from(tsc.wrapping_sub(record.tsc_timestamp)).unwrap_or(0);
    let passed = passed.max(0).cast_unsigned();
    let bits = u32::from(record.tsc_shift.unsigned_abs());
    let shifted = if record.tsc_shift < 0 {
        passed.checked_shr(bits)
    } else {
        passed.checked_shl(bits)
    };
    let product = u128::from(shifted.unwrap_or(0)) * u128::from(record.tsc_to_system_mul);
    // 32.32 fixed point; the product of 64 and 32 bits leaves at most 64.
    let nanoseconds = (product >> 32) as u64;
    Some(record.system_time.wrapping_add(nanoseconds))
}

/// Time stamp counter ticks in so many nanoseconds, as the record says; 0 if it says nothing.
#[must_use]
pub fn ticks(record: &VcpuTimeInfo, nanoseconds: u64) -> u64 {
    if record.tsc_to_system_mul == 0 {
        return 0;
    }
    let ticks = (u128::from(nanoseconds) << 32) / u128::from(record.tsc_to_system_mul);
    let bits = u32::from(record.tsc_shift.unsigned_abs());
    let shifted = if record.tsc_shift < 0 {
        ticks.checked_shl(bits)
    } else {
        ticks.checked_shr(bits)
    };
    u64::try_from(shifted.unwrap_or(0)).unwrap_or(u64::MAX)
}

/// Time since the Unix epoch, from that of system time 0 and system time.
#[must_use]
pub fn wall_clock(seconds: u64, nanoseconds: u32, system_time: u64) -> Duration {
    let base =
        Duration::from_secs(seconds).saturating_add(Duration::from_nanos(nanoseconds.into()));
    base.saturating_add(Duration::from_nanos(system_time))
}

/// A guest's own time. System time is that of a host, and another one's when the guest was restored
/// there; the guest's goes on from where it was.
#[derive(Debug, Default)]
pub struct Epoch(AtomicI64);

impl Epoch {
    /// The guest's time is system time.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// The guest's time at a system time, both in nanoseconds.
    pub fn guest(&self, system: u64) -> u64 {
        system.saturating_add_signed(self.0.load(Ordering::Relaxed))
    }

    /// The system time at a time of the guest's.
    pub fn system(&self, guest: u64) -> u64 {
        guest.saturating_add_signed(self.0.load(Ordering::Relaxed).saturating_neg())
    }

    /// From now on, when system time is `system`, the guest's time goes on from `guest`.
    pub fn go_on(&self, guest: u64, system: u64) {
        let ahead = i128::from(guest) - i128::from(system);
        let ahead = i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX });
        self.0.store(ahead, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::FromZeros;

    use super::*;

    fn record(mul: u32, shift: i8) -> VcpuTimeInfo {
        VcpuTimeInfo {
            version: 2,
            tsc_timestamp: 1000,
            system_time: 500,
            tsc_to_system_mul: mul,
            tsc_shift: shift,
            ..VcpuTimeInfo::new_zeroed()
        }
    }

    #[test]
    fn ticks_are_scaled_both_ways() {
        // Half a nanosecond a tick, then two.
        let half = record(1 << 31, 0);
        assert_eq!(system_time(&half, 3000), Some(1500));
        assert_eq!(ticks(&half, 1000), 2000);
        let double = record(1 << 31, 2);
        assert_eq!(system_time(&double, 1100), Some(700));
        assert_eq!(ticks(&double, 200), 100);
        let slow = record(1 << 31, -1);
        assert_eq!(system_time(&slow, 1400), Some(600));
        assert_eq!(ticks(&slow, 100), 400);
    }

    #[test]
    fn a_record_in_the_making_and_an_early_counter() {
        let mut now = record(1 << 31, 0);
        assert_eq!(system_time(&now, 10), Some(500));
        now.version = 3;
        assert_eq!(system_time(&now, 3000), None);
    }

    #[test]
    fn the_wall_clock_carries() {
        let time = wall_clock(10, 600_000_000, 900_000_000);
        assert_eq!(time, Duration::from_millis(11_500));
    }

    #[test]
    fn time_goes_on_from_one_host_to_another() {
        let epoch = Epoch::new();
        assert_eq!((epoch.guest(7), epoch.system(7)), (7, 7));
        // To a host that has been up for longer, and to one that was just started.
        for (guest, system) in [(1000, 50_000), (2000, 3)] {
            epoch.go_on(guest, system);
            assert_eq!(epoch.guest(system), guest);
            assert_eq!(epoch.guest(system + 500), guest + 500);
            assert_eq!(epoch.system(guest + 500), system + 500);
        }
        // A deadline before this host's beginning is past.
        assert_eq!(epoch.system(0), 0);
        assert_eq!(epoch.guest(u64::MAX), u64::MAX);
        for (guest, system) in [(u64::MAX, 0), (0, u64::MAX)] {
            epoch.go_on(guest, system);
            let _ = (epoch.guest(9), epoch.system(9), epoch.system(u64::MAX));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 16 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn no_record_makes_it_panic(
            version: u32, stamp: u64, base: u64, mul: u32, shift: i8, tsc: u64, nanoseconds: u64,
        ) {
            let record = VcpuTimeInfo {
                version,
                tsc_timestamp: stamp,
                system_time: base,
                tsc_to_system_mul: mul,
                tsc_shift: shift,
                ..VcpuTimeInfo::new_zeroed()
            };
            let _ = (system_time(&record, tsc), ticks(&record, nanoseconds));
        }
    }
}
