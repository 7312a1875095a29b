//! The heap, which takes frames as it grows and keeps them.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};

use spin::mutex::SpinMutex;
use talc::DefaultBinning;
use talc::base::{Talc, binning::Binning};
use talc::source::Source;

use super::frames;

/// Pages that are taken at least.
const STEP: usize = 16;

#[global_allocator]
static HEAP: Heap = Heap(SpinMutex::new(Memory(Talc::new(Frames))));

struct Heap(SpinMutex<Memory>);

struct Memory(Talc<Frames, DefaultBinning>);

// SAFETY: the pointers inside lead to memory that belongs to the heap alone.
unsafe impl Send for Memory {}

#[derive(Debug)]
struct Frames;

// SAFETY: taking frames uses no heap, and success is only reported after memory was added.
unsafe impl Source for Frames {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let bytes = layout.size().checked_add(layout.align()).ok_or(())?;
        let pages = (bytes / 4096).checked_add(2).ok_or(())?.max(STEP);
        let start = frames::run(pages as u64).ok_or(())?;
        // SAFETY: these pages are mapped for good, and given to nobody else.
        unsafe { talc.claim(start as *mut u8, pages * 4096) }
            .map(drop)
            .ok_or(())
    }
}

// SAFETY: `Talc` is a correct allocator; the lock gives it one caller at a time.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller of `alloc` promises a size that is not zero.
        let got = unsafe { self.0.lock().0.allocate(layout) };
        got.map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        if let Some(ptr) = NonNull::new(ptr) {
            // SAFETY: by the caller's promise the block came from `alloc` with this layout.
            unsafe { self.0.lock().0.deallocate(ptr.as_ptr(), layout) };
        }
    }
}
