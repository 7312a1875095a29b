//! What a domain may map: its own frames, and device memory if it owns the hardware.

use super::Domain;
use crate::addr::Mfn;
use crate::irq;
use crate::pv_mm::absent::Absent;
use crate::pv_mm::{IoAccess, IoMem, NoIoMem, Rights};
use crate::sync::Once;
use alloc::vec::Vec;
use core::ops::Range;

/// Device frames that no domain may have: interrupt controllers, their messages.
static RESERVED: Once<Vec<Range<u64>>> = Once::new();

/// First frame number beyond the machine's physical addresses.
static LIMIT: Once<u64> = Once::new();

/// What entries that are not present may name in tables of domains that are not privileged.
static ABSENT: Once<Absent> = Once::new();

/// Sets it. Called once at boot, before there are domains.
pub fn restrict_absent_entries(absent: Absent) {
    ABSENT.call_once(|| absent);
}

/// Sets which device frames stay the hypervisor's, and how many frames a physical
/// address can name. Called once at boot.
pub fn reserve_device_frames(frames: Vec<Range<u64>>, limit: u64) {
    RESERVED.call_once(|| frames);
    LIMIT.call_once(|| limit);
}

/// The hardware domain's device memory: all but what is reserved; what holds messages in
/// use is only for reading.
struct AllDevices;

impl IoMem for AllDevices {
    fn may_map(&self, mfn: Mfn) -> Option<IoAccess> {
        let raw = mfn.raw();
        let inside = LIMIT.get().is_some_and(|l| raw < *l);
        let reserved = RESERVED
            .get()
            .is_none_or(|r| r.iter().any(|range| range.contains(&raw)));
        if !inside || reserved {
            None
        } else if irq::holds_messages(mfn) {
            Some(IoAccess::ReadOnly)
        } else {
            Some(IoAccess::ReadWrite)
        }
    }
}

impl Domain {
    /// On whose behalf the domain's own page-table updates happen.
    #[inline]
    #[must_use]
    pub fn rights(&self) -> Rights<'static> {
        Rights {
            tables: self.id,
            frames: self.id,
            cache_control: self.privileged,
            io: if self.privileged {
                &AllDevices
            } else {
                &NoIoMem
            },
            absent: match ABSENT.get() {
                Some(absent) if !self.privileged => *absent,
                _ => Absent::ANYTHING,
            },
        }
    }
}
