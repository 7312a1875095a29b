//! Frames before the frame allocator: handed out lowest first, never taken back.
//!
//! Lock: [`Level::FrameAlloc`], whose place it keeps until [`hand_over`].

use super::memory_map::MemoryMap;
use super::ranges::RangeSet;
use crate::addr::{MachAddr, Mfn, PAGE_SIZE};
use crate::sync::{Level, Lock};
use core::ops::Range;

/// Below this only [`EarlyAllocator::take_low`] takes: real-mode code of starting
/// CPUs can run nowhere else.
const LOW_END: u64 = 1 << 20;

static EARLY: Lock<EarlyAllocator> = Lock::new(Level::FrameAlloc, EarlyAllocator::new());

/// Free memory as ranges of whole frames.
#[derive(Debug)]
pub struct EarlyAllocator {
    free: RangeSet,
}

impl EarlyAllocator {
    /// Nothing free.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            free: RangeSet::new(),
        }
    }

    /// Everything that is RAM below `limit` and not in `used` (bytes) nor frame 0.
    pub fn add(&mut self, map: &MemoryMap, used: &[Range<u64>], limit: u64) {
        self.free = map.ram();
        self.free.remove(0..PAGE_SIZE);
        self.free.remove(limit..u64::MAX);
        for r in used {
            let end = r.end.next_multiple_of(PAGE_SIZE);
            self.free.remove(r.start & !(PAGE_SIZE - 1)..end);
        }
    }

    /// `frames` contiguous frames at a multiple of `align` frames (a power of two),
    /// the lowest above 1 MiB.
    pub fn alloc(&mut self, frames: u64, align: u64) -> Option<Mfn> {
        self.take(frames, align, LOW_END..u64::MAX)
    }

    /// A frame below 640 KiB.
    pub fn take_low(&mut self) -> Option<Mfn> {
        self.take(1, 1, 0..0xa_0000)
    }

    fn take(&mut self, frames: u64, align: u64, within: Range<u64>) -> Option<Mfn> {
        let len = frames.checked_mul(PAGE_SIZE)?;
        let align = align.checked_mul(PAGE_SIZE)?;
        let start = self.free.iter().find_map(|r| {
            let start = r.start.max(within.start).checked_next_multiple_of(align)?;
            (start.checked_add(len)? <= r.end.min(within.end)).then_some(start)
        })?;
        self.free.remove(start..start + len);
        Some(MachAddr::new(start).frame())
    }
}

impl Default for EarlyAllocator {
    fn default() -> Self {
        Self::new()
    }
}

/// Starts with what the memory map calls RAM, without `used` (bytes: the image,
/// modules) and only below `limit`.
pub fn init(map: &MemoryMap, used: &[Range<u64>], limit: u64) {
    EARLY.lock().add(map, used, limit);
}

/// `frames` contiguous frames at a multiple of `align` frames (a power of two).
/// Their contents are anything.
pub fn alloc(frames: u64, align: u64) -> Option<Mfn> {
    EARLY.lock().alloc(frames, align)
}

/// A frame below 640 KiB, for code that starts in real mode.
pub fn alloc_low() -> Option<Mfn> {
    EARLY.lock().take_low()
}

/// What is free now, in bytes; whole frames.
#[must_use]
pub fn free_ranges() -> RangeSet {
    EARLY.lock().free.clone()
}

/// As [`free_ranges`], and from here on there is nothing left to allocate: the frame
/// allocator owns it.
#[must_use]
pub fn hand_over() -> RangeSet {
    core::mem::take(&mut EARLY.lock().free)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::memory_map::{Region, RegionKind};

    #[test]
    fn avoids_what_is_used_and_low_memory() {
        let mut map = MemoryMap::new();
        for (start, end) in [(0, 0x9_fc00), (0x10_0000, 0x100_0000)] {
            map.push(Region {
                start,
                len: end - start,
                kind: RegionKind::Ram,
            });
        }
        let mut early = EarlyAllocator::new();
        early.add(
            &map,
            &[0x10_0000..0x20_0001, 0x30_0000..0x30_0800],
            0x80_0000,
        );
        assert_eq!(early.alloc(1, 1), Some(Mfn::new(0x201)));
        assert_eq!(early.alloc(2, 2), Some(Mfn::new(0x202)));
        // 1 MiB does not fit below the module.
        assert_eq!(early.alloc(0x100, 1), Some(Mfn::new(0x301)));
        assert_eq!(early.alloc(0x200, 0x200), Some(Mfn::new(0x600)));
        assert_eq!(early.alloc(0x200, 1), None);
        assert_eq!(early.alloc(u64::MAX, 1), None);
        assert_eq!(early.take_low(), Some(Mfn::new(1)));
        assert!(!early.free.contains(&(0x60_0000..0x60_1000)));
    }
}
