//! The machine-to-physical table: which PFN a frame is to its owner.
//!
//! An array of u64 by frame number, which guests see read-only at the start of the
//! hypervisor's address range. The hypervisor writes it through a view of its own.
//! One 4 KiB frame of the table describes one chunk of [`CHUNK_FRAMES`] frames;
//! chunks without memory (and no other chunk after them in the same GiB) are not there.
//!
//! Guests write what they like into their own frames' entries: nothing here may
//! depend on a value.
//!
//! Source: Xen `include/public/arch-x86/xen-x86_64.h` (`MACH2PHYS_VIRT_START`).
#![allow(unsafe_code, reason = "a sparse array reached by pointer arithmetic")]

use super::frame_table::CHUNK_FRAMES;
use crate::addr::{Mfn, Pfn};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// Entry of a frame that is no guest's.
pub const INVALID: u64 = !0;

/// The hypervisor's view of the table.
#[derive(Debug)]
pub struct M2p {
    base: NonNull<AtomicU64>,
    limit: u64,
    present: &'static [AtomicU64],
}

// SAFETY: only atomics are reached through it, in memory that stays for ever.
unsafe impl Send for M2p {}
// SAFETY: as above.
unsafe impl Sync for M2p {}

impl M2p {
    /// The table at `base` for frames below `limit`; `present` as for
    /// [`super::frame_table::FrameTable::new`].
    ///
    /// # Panics
    /// If `present` is too short for `limit`.
    ///
    /// # Safety
    /// For every bit `n` set in `present`, the 4096 bytes from `base + 4096 * n` are
    /// mapped writable for ever and used as atomics only.
    #[must_use]
    pub unsafe fn new(base: *mut u64, limit: u64, present: &'static [AtomicU64]) -> Self {
        assert!(present.len() as u64 * 64 * CHUNK_FRAMES >= limit);
        Self {
            base: NonNull::new(base.cast()).expect("the table is not at address 0"),
            limit,
            present,
        }
    }

    /// A table over entries that are all there, from frame 0.
    #[must_use]
    pub fn from_slice(entries: &'static [AtomicU64], present: &'static [AtomicU64]) -> Self {
        let base = entries.as_ptr().cast_mut().cast();
        // SAFETY: the slice covers every entry below `limit`, for ever.
        unsafe { Self::new(base, entries.len() as u64, present) }
    }

    #[inline]
    fn entry(&self, mfn: Mfn) -> Option<&AtomicU64> {
        let raw = mfn.raw();
        if raw >= self.limit {
            return None;
        }
        let word = self.present.get((raw >> 15) as usize)?;
        if word.load(Ordering::Relaxed) >> (raw >> 9 & 63) & 1 == 0 {
            return None;
        }
        // SAFETY: below the limit and present, so mapped (promised to `new`).
        Some(unsafe { self.base.add(raw as usize).as_ref() })
    }

    /// Writes the raw entry of `mfn`; false if there is no such entry.
    #[inline]
    pub fn set_raw(&self, mfn: Mfn, value: u64) -> bool {
        self.entry(mfn)
            .map(|e| e.store(value, Ordering::Relaxed))
            .is_some()
    }

    /// Notes that `mfn` is `pfn` to its owner.
    #[inline]
    pub fn set(&self, mfn: Mfn, pfn: Pfn) {
        self.set_raw(mfn, pfn.0);
    }

    /// Notes that `mfn` is no guest's.
    #[inline]
    pub fn clear(&self, mfn: Mfn) {
        self.set_raw(mfn, INVALID);
    }

    /// What the entry of `mfn` says (guests may have lied).
    #[must_use]
    #[inline]
    pub fn get(&self, mfn: Mfn) -> Option<Pfn> {
        let value = self.entry(mfn)?.load(Ordering::Relaxed);
        (value != INVALID).then_some(Pfn(value))
    }
}
