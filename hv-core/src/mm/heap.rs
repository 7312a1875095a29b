//! The hypervisor's heap: `alloc`'s collections on bare metal.
//!
//! Given memory by [`extend`] at boot; later it asks the frame allocator, through
//! the hook of [`set_grow`]. When both fail an allocation yields null: guest-driven
//! paths use `try_` methods and answer `ENOMEM`.
//!
//! Lock: [`Level::Heap`], held while the grow hook runs, so the hook may take the
//! frame allocator's lock.
#![allow(unsafe_code, reason = "this is the allocator")]

use crate::fallible::fault;
use crate::sync::{Level, Lock, Once};
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use talc::DefaultBinning;
use talc::base::{Talc, binning::Binning};
use talc::source::Source;

/// Answers at least so many bytes of memory that nothing else uses, mapped for good.
///
/// The address and length are multiples of 4096. Must not use the heap.
pub type Grow = fn(bytes: usize) -> Option<Chunk>;

/// Memory that belongs to whoever holds this: mapped, writable, used by nobody else.
#[derive(Debug)]
pub struct Chunk {
    start: NonNull<u8>,
    len: usize,
}

impl Chunk {
    /// Vouches for memory.
    ///
    /// # Safety
    /// The `len` bytes from `start` are mapped, writable and used by nobody else, for
    /// as long as the hypervisor runs.
    #[must_use]
    pub const unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len }
    }
}

/// Where blocks of [`LARGE`] bytes and more come from and go back to, past the heap:
/// the heap itself never gives memory back, and such blocks (a decompressor's window)
/// are short-lived.
#[derive(Clone, Copy, Debug)]
pub struct LargeBlocks {
    /// Answers a block of at least so many bytes, aligned to a page.
    pub take: fn(bytes: usize) -> Option<NonNull<u8>>,
    /// Takes back what `take` answered for `bytes`.
    pub give_back: fn(at: NonNull<u8>, bytes: usize),
}

/// From this size on, allocations go to [`LargeBlocks`].
pub const LARGE: usize = 512 << 10;

static BLOCKS: Once<LargeBlocks> = Once::new();
static GROW: Once<Grow> = Once::new();
static TOTAL: AtomicUsize = AtomicUsize::new(0);

#[cfg_attr(target_os = "none", global_allocator)]
static HEAP: Heap = Heap(Lock::new(Level::Heap, Memory(Talc::new(Hook))));

/// The heap behind its lock.
struct Heap(Lock<Memory>);

struct Memory(Talc<Hook, DefaultBinning>);

// SAFETY: the pointers inside lead to memory that belongs to the heap alone and is
// mapped alike on every CPU.
unsafe impl Send for Memory {}

/// Where more memory comes from.
#[derive(Debug)]
struct Hook;

// SAFETY: the hook does not use this heap (see [`Grow`]), and success is only
// reported after memory was added.
unsafe impl Source for Hook {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let grow = GROW.get().ok_or(())?;
        let want = layout
            .size()
            .checked_add(layout.align())
            .and_then(|n| n.checked_add(4096))
            .ok_or(())?;
        let chunk = grow(want).ok_or(())?;
        add(talc, chunk)
    }
}

fn add<B: Binning>(talc: &mut Talc<Hook, B>, chunk: Chunk) -> Result<(), ()> {
    // SAFETY: a `Chunk` is memory nobody else uses, for good.
    unsafe { talc.claim(chunk.start.as_ptr(), chunk.len) }.ok_or(())?;
    TOTAL.fetch_add(chunk.len, Relaxed);
    Ok(())
}

/// Gives the heap more memory. The first chunk must hold a few KiB of bookkeeping;
/// chunks that are too small are lost.
pub fn extend(chunk: Chunk) {
    // A chunk too small to use is not worth an error.
    let _ = add(&mut HEAP.0.lock().0, chunk);
}

/// Sets where the heap gets more memory from. The first call counts.
pub fn set_grow(grow: Grow) {
    GROW.call_once(|| grow);
}

/// Sets where large blocks come from. The first call counts.
pub fn set_large_blocks(blocks: LargeBlocks) {
    BLOCKS.call_once(|| blocks);
}

/// Bytes the heap was given so far.
#[must_use]
pub fn size() -> usize {
    TOTAL.load(Relaxed)
}

// SAFETY: `Talc` is a correct allocator; the lock gives it one caller at a time.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fault::strikes() {
            return core::ptr::null_mut();
        }
        if layout.size() >= LARGE
            && layout.align() <= 4096
            && let Some(blocks) = BLOCKS.get()
        {
            return (blocks.take)(layout.size()).map_or(core::ptr::null_mut(), NonNull::as_ptr);
        }
        // SAFETY: the caller of `alloc` promises a size that is not zero.
        let got = unsafe { self.0.lock().0.allocate(layout) };
        got.map_or(core::ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if layout.size() >= LARGE
            && layout.align() <= 4096
            && let Some(blocks) = BLOCKS.get()
            && let Some(at) = NonNull::new(ptr)
        {
            // Nothing that large was allocated before the source was set: the first
            // chunk is smaller.
            (blocks.give_back)(at, layout.size());
            return;
        }
        // SAFETY: the caller promises that `ptr` came from `alloc` with this layout.
        unsafe { self.0.lock().0.deallocate(ptr, layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    fn chunk(len: usize) -> Chunk {
        let memory = Box::leak(std::vec![0u8; len].into_boxed_slice());
        // SAFETY: leaked, so it is this chunk's alone.
        unsafe { Chunk::new(NonNull::from(memory).cast(), len) }
    }

    #[test]
    fn grows_when_it_is_full_and_fails_with_null() {
        let heap = &HEAP;
        let layout = Layout::from_size_align(10_000, 64).unwrap();
        // SAFETY: the layout's size is not zero; what is freed was allocated so.
        unsafe {
            assert!(heap.alloc(layout).is_null());
            extend(chunk(16 << 10));
            let first = heap.alloc(layout);
            assert!(!first.is_null() && first.align_offset(64) == 0);
            assert!(heap.alloc(layout).is_null());
            set_grow(|bytes| (bytes <= 1 << 20).then(|| chunk(bytes)));
            let second = heap.alloc(layout);
            assert!(!second.is_null());
            let large = Layout::from_size_align(2 << 20, 8).unwrap();
            assert!(heap.alloc(large).is_null());
            heap.dealloc(first, layout);
            heap.dealloc(second, layout);
        }
        assert!(size() >= (16 << 10) + 10_000);
    }
}
