//! A screen's memory.
#![allow(unsafe_code, reason = "writes device memory")]

use crate::arch::ScreenMem;
use core::ptr::NonNull;

/// A mapping of a screen's memory.
#[derive(Debug)]
pub struct ScreenMemory {
    base: NonNull<u8>,
    size: usize,
}

// SAFETY: the mapping is every CPU's, and nobody forms references into it.
unsafe impl Send for ScreenMemory {}
// SAFETY: as above; bytes that two CPUs write at once are only looked at by the display.
unsafe impl Sync for ScreenMemory {}

impl ScreenMemory {
    /// The screen's memory mapped at `base`.
    ///
    /// # Safety
    /// `size` bytes are mapped there for writing, for good, and nobody reads them.
    #[must_use]
    pub const unsafe fn new(base: NonNull<u8>, size: usize) -> Self {
        Self { base, size }
    }
}

impl ScreenMem for ScreenMemory {
    fn size(&self) -> usize {
        self.size
    }

    fn write(&self, at: usize, bytes: &[u8]) {
        assert!(at <= self.size && bytes.len() <= self.size - at);
        // SAFETY: the bytes lie inside the mapping, and `bytes` does not: nobody has a
        // reference into it.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.as_ptr().add(at), bytes.len());
        }
    }

    fn settle(&self) {
        // Empties the buffers of write-combining memory. Source: Intel SDM volume 3, 11.3.1.
        // SAFETY: a fence has no other effect.
        unsafe { core::arch::x86_64::_mm_sfence() };
    }
}
