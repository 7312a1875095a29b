//! Bytes from one frame to another, which guests may be writing at the same time.
#![allow(unsafe_code, reason = "copies bytes through the view of RAM")]

use crate::addr::{Mfn, PAGE_SIZE};
use crate::arch::FrameMem;

/// Copies `len` bytes between two places, each a RAM frame and an offset. The places
/// may overlap.
///
/// # Panics
/// If a place leaves its frame.
#[inline]
pub fn copy(mem: &impl FrameMem, from: (Mfn, usize), to: (Mfn, usize), len: usize) {
    let fits = |offset: usize| {
        offset
            .checked_add(len)
            .is_some_and(|e| e <= PAGE_SIZE as usize)
    };
    assert!(fits(from.1) && fits(to.1));
    // SAFETY: both ranges lie within RAM frames, which stay mapped. Guests may write
    // them meanwhile: then the bytes are some mixture, which nothing here looks at.
    unsafe {
        let source = mem.bytes(from.0).add(from.1);
        mem.bytes(to.0).add(to.1).copy_from(source, len);
    }
}
