//! A frame that a guest and the hypervisor write at the same time, seen as atomics.
//!
//! Whoever makes a [`SharedPage`] keeps the frame allocated for as long as the view
//! lives (a counted reference held by the domain that registered it).
#![allow(
    unsafe_code,
    reason = "views of guest-shared frames as atomics of several widths"
)]

use crate::addr::{Mfn, PAGE_SIZE};
use crate::arch::FrameMem;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// View of one machine frame as atomics.
#[derive(Clone, Copy, Debug)]
pub struct SharedPage {
    base: *mut u8,
}

// SAFETY: the view hands out atomics only, so it may be used from any CPU.
unsafe impl Send for SharedPage {}
// SAFETY: as above.
unsafe impl Sync for SharedPage {}

impl SharedPage {
    /// A view of RAM frame `mfn`.
    pub fn new(mem: &impl FrameMem, mfn: Mfn) -> Self {
        Self {
            base: mem.bytes(mfn),
        }
    }

    /// The byte at `offset`.
    ///
    /// # Panics
    /// If `offset` is outside the page (offsets are ours, or checked when registered).
    #[must_use]
    #[inline]
    pub fn u8_at(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < PAGE_SIZE as usize);
        // SAFETY: in bounds of a RAM frame that stays mapped in the direct map.
        unsafe { AtomicU8::from_ptr(self.base.add(offset)) }
    }

    /// The 32-bit word at `offset`.
    ///
    /// # Panics
    /// If `offset` is unaligned or outside the page.
    #[must_use]
    #[inline]
    pub fn u32_at(&self, offset: usize) -> &AtomicU32 {
        assert!(offset < PAGE_SIZE as usize && offset.is_multiple_of(4));
        // SAFETY: in bounds and aligned, as above.
        unsafe { AtomicU32::from_ptr(self.base.add(offset).cast()) }
    }

    /// The 64-bit word at `offset`.
    ///
    /// # Panics
    /// If `offset` is unaligned or outside the page.
    #[must_use]
    #[inline]
    pub fn u64_at(&self, offset: usize) -> &AtomicU64 {
        assert!(offset < PAGE_SIZE as usize && offset.is_multiple_of(8));
        // SAFETY: in bounds and aligned, as above.
        unsafe { AtomicU64::from_ptr(self.base.add(offset).cast()) }
    }

    /// `N` 64-bit words from `offset` on.
    ///
    /// # Panics
    /// If they are unaligned or leave the page.
    #[must_use]
    #[inline]
    pub fn words_at<const N: usize>(&self, offset: usize) -> &[AtomicU64; N] {
        assert!(offset.is_multiple_of(8) && offset + N * 8 <= PAGE_SIZE as usize);
        // SAFETY: in bounds and aligned; an array of atomics has the layout of its words.
        unsafe { &*self.base.add(offset).cast() }
    }
}

/// Bytes of a `vcpu_info`, the unit an [`InfoSlot`] points at.
pub const INFO_SIZE: usize = 64;

/// View of one vCPU's `vcpu_info`, wherever the guest keeps it.
///
/// Layout: Xen `include/public/xen.h`, `struct vcpu_info` (64 bytes).
#[derive(Clone, Copy, Debug)]
pub struct InfoWindow {
    base: *mut u8,
}

impl InfoWindow {
    /// `evtchn_upcall_pending`.
    #[must_use]
    #[inline]
    pub fn upcall_pending(&self) -> &AtomicU8 {
        // SAFETY: InfoSlot::set checked that 64 bytes lie within a pinned frame.
        unsafe { AtomicU8::from_ptr(self.base) }
    }

    /// `evtchn_upcall_mask`.
    #[must_use]
    #[inline]
    pub fn upcall_mask(&self) -> &AtomicU8 {
        // SAFETY: as above.
        unsafe { AtomicU8::from_ptr(self.base.add(1)) }
    }

    /// `evtchn_pending_sel`.
    #[must_use]
    #[inline]
    pub fn pending_sel(&self) -> &AtomicU64 {
        // SAFETY: as above; the base is 8-byte aligned.
        unsafe { AtomicU64::from_ptr(self.base.add(8).cast()) }
    }

    /// `arch.cr2`.
    #[must_use]
    #[inline]
    pub fn cr2(&self) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(self.base.add(16).cast()) }
    }

    /// The four 64-bit words of `vcpu_time_info`.
    #[must_use]
    #[inline]
    pub fn time(&self) -> &[AtomicU64; 4] {
        // SAFETY: as above; bytes 32..64.
        unsafe { &*self.base.add(32).cast() }
    }

    /// All eight words (for copying an old area to a newly registered one).
    #[must_use]
    pub fn words(&self) -> &[AtomicU64; 8] {
        // SAFETY: as above; bytes 0..64.
        unsafe { &*self.base.cast() }
    }
}

/// Where a vCPU's `vcpu_info` is now. It moves at most twice: into the shared-info
/// page, then to where the guest registers it.
#[derive(Debug, Default)]
pub struct InfoSlot {
    base: core::sync::atomic::AtomicPtr<u8>,
}

impl InfoSlot {
    /// Whether a `vcpu_info` can be at `offset` of a page.
    #[must_use]
    pub const fn fits(offset: usize) -> bool {
        offset.is_multiple_of(8) && offset <= PAGE_SIZE as usize - INFO_SIZE
    }

    /// Points the slot at `offset` of `page`, whose frame the caller keeps allocated
    /// for the life of the vCPU. `false` if 64 bytes do not fit there or are unaligned.
    #[must_use]
    pub fn set(&self, page: SharedPage, offset: usize) -> bool {
        if !Self::fits(offset) {
            return false;
        }
        // A pointer good for all 64 bytes.
        let base = page.words_at::<8>(offset).as_ptr().cast_mut().cast();
        self.base.store(base, core::sync::atomic::Ordering::Release);
        true
    }

    /// The current place, if the vCPU has one.
    #[must_use]
    #[inline]
    pub fn get(&self) -> Option<InfoWindow> {
        let base = self.base.load(core::sync::atomic::Ordering::Acquire);
        (!base.is_null()).then_some(InfoWindow { base })
    }
}
