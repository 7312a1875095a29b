//! What a domain may map: its own frames, and device memory if it owns the hardware or was given it.

use super::Domain;
use super::devices::Devices;
use crate::addr::Mfn;
use crate::irq;
use crate::pv_mm::rights::Trust;
use crate::pv_mm::{IoAccess, IoMem, Rights};
use crate::sync::Once;
use alloc::vec::Vec;
use core::ops::{Range, RangeInclusive};

/// Device frames that no domain may have: interrupt controllers, their messages.
static RESERVED: Once<Vec<Range<u64>>> = Once::new();

/// First frame number beyond the machine's physical addresses.
static LIMIT: Once<u64> = Once::new();

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

/// Another domain's: what it was given, of what the hardware domain may map.
impl IoMem for Devices {
    fn may_map(&self, mfn: Mfn) -> Option<IoAccess> {
        self.has_frame(mfn)
            .then(|| AllDevices.may_map(mfn))
            .flatten()
    }
}

/// Whether all these frames are ones that some domain may have: the hardware domain has them, and
/// tools may give them to others.
pub(crate) fn may_be_given(frames: &RangeInclusive<u64>) -> bool {
    let inside = LIMIT.get().is_some_and(|limit| frames.end() < limit);
    let apart = |range: &Range<u64>| range.end <= *frames.start() || *frames.end() < range.start;
    inside && RESERVED.get().is_some_and(|r| r.iter().all(apart))
}

impl Domain {
    /// On whose behalf the domain's own page-table updates happen: the one place where rights
    /// are made.
    #[inline]
    #[must_use]
    pub fn rights(&self) -> Rights<'_> {
        if self.privileged {
            Rights::of(self.id, Trust::All, true, &AllDevices)
        } else {
            let cache_control = self.devices.has_any();
            Rights::of(self.id, Trust::Own, cache_control, &self.devices)
        }
    }
}
