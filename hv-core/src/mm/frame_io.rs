//! Plain bytes into and out of frames that no guest runs on yet (a domain being
//! built) or that the hypervisor keeps.
#![allow(unsafe_code, reason = "copies bytes through the direct map")]

use crate::addr::{MachAddr, Mfn, PAGE_SIZE};
use crate::arch::FrameMem;

/// Copies `bytes` into RAM frame `mfn` from `offset` on.
///
/// # Panics
/// If they leave the frame.
pub fn write(mem: &impl FrameMem, mfn: Mfn, offset: usize, bytes: &[u8]) {
    assert!(offset + bytes.len() <= PAGE_SIZE as usize);
    // SAFETY: within the frame; guests that may write it too (none, while a domain is
    // built) could at worst leave other bytes there.
    unsafe {
        mem.bytes(mfn)
            .add(offset)
            .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
    }
}

/// Fills RAM frame `mfn` with `byte`.
pub fn fill(mem: &impl FrameMem, mfn: Mfn, byte: u8) {
    // SAFETY: one frame, as above.
    unsafe { mem.bytes(mfn).write_bytes(byte, PAGE_SIZE as usize) };
}

/// `len` bytes of contiguous RAM from `start` on, which nobody writes any more (a boot
/// module).
///
/// # Safety
/// The range is RAM that stays unchanged and unallocated for the slice's life.
pub unsafe fn module<'a>(mem: &impl FrameMem, start: MachAddr, len: usize) -> &'a [u8] {
    let first = mem.bytes(start.frame());
    // SAFETY: the caller's promise; the direct map is contiguous.
    unsafe { core::slice::from_raw_parts(first.add(start.page_offset() as usize), len) }
}

/// `len` bytes of contiguous frames from `first` on, to be written freely.
///
/// # Safety
/// The frames are the hypervisor's own and nobody else uses them during the life of
/// the slice.
pub unsafe fn buffer<'a>(mem: &impl FrameMem, first: Mfn, len: usize) -> &'a mut [u8] {
    // SAFETY: the caller's promise; the direct map is contiguous.
    unsafe { core::slice::from_raw_parts_mut(mem.bytes(first), len) }
}
