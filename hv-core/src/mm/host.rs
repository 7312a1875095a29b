//! The host's one [`Mm`]: its tables' own memory, and the handle everybody uses.
#![allow(unsafe_code, reason = "maps the tables it then hands out")]

use super::frame_table::{CHUNK_FRAMES, Frame, FrameTable};
use super::guest_copy::GuestSpace;
use super::host_map::{self, DirectMap, Prot};
use super::m2p::M2p;
use super::memory_map::MemoryMap;
use super::{Mm, early, heap, layout};
use crate::addr::{Mfn, PAGE_SHIFT, PAGE_SIZE};
use crate::arch::{FrameMem, machine};
use crate::mm::frame_alloc::Request;
use crate::sync::Once;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

/// The host's memory, as the hypervisor has it.
pub type HostMm = Mm<DirectMap, machine::MachineTlb>;

static MM: Once<HostMm> = Once::new();

/// RAM below this is the firmware's and the hypervisor's (start-up code of CPUs); to
/// domains it is device memory, as in Xen.
const LOW_END: u64 = 1 << 20;

/// The host's memory.
///
/// # Panics
/// Before [`init`].
#[inline]
pub fn get() -> &'static HostMm {
    MM.get().expect("memory is set up before anything uses it")
}

/// The host's memory of tests that run hypercalls: `frames` of it. The first call counts.
#[cfg(test)]
pub fn fake(frames: usize) -> &'static HostMm {
    use super::testing;
    MM.call_once(|| {
        host_map::fake::make(frames);
        let mm = testing::mm_of(frames, 0, DirectMap, machine::MachineTlb);
        mm.add_ram(Mfn::new(0), frames as u64);
        mm
    })
}

/// The guest address space below `root`, a kernel's or a user's.
#[inline]
#[must_use]
pub fn guest_space(root: Mfn) -> HostGuestSpace {
    debug_assert!(machine::takes_part(), "a walk that no flush waits for");
    GuestSpace::new(get(), root)
}

/// A guest address space on this host.
pub type HostGuestSpace = GuestSpace<'static, DirectMap>;

/// Makes frame table and machine-to-physical table for the RAM in `map` and hands all
/// memory that is still free to the frame allocator.
///
/// # Panics
/// If there is no memory for the tables.
#[allow(clippy::disallowed_methods, reason = "at boot only")]
pub fn init(map: &MemoryMap) {
    let ram = map.ram();
    let limit = map.ram_end() >> PAGE_SHIFT;
    let chunks = limit.div_ceil(CHUNK_FRAMES);
    let present: &'static [AtomicU64] = Box::leak(
        (0..chunks.div_ceil(64))
            .map(|_| AtomicU64::new(0))
            .collect(),
    );
    for range in ram.iter() {
        for chunk in range.start >> 21..range.end.div_ceil(1 << 21) {
            let word = &present[(chunk / 64) as usize];
            if word.load(Ordering::Relaxed) >> (chunk % 64) & 1 == 0 {
                map_chunk(chunk);
                word.fetch_or(1 << (chunk % 64), Ordering::Relaxed);
            }
        }
    }
    let blocks = map_m2p(present, chunks);
    let base = layout::FRAME_TABLE_START as *mut Frame;
    // SAFETY: `map_chunk` mapped zeroed records for every bit set.
    let frames = unsafe { FrameTable::new(base, limit, present) };
    // SAFETY: `map_m2p` mapped a frame of entries for every bit set.
    let m2p = unsafe { M2p::new(layout::M2P_RW_START as *mut u64, limit, present) };
    let mm = MM.call_once(|| Mm::new(frames, m2p, DirectMap, machine::MachineTlb));
    for (n, entry) in host_map::template().iter().enumerate() {
        mm.set_hypervisor_slot(n, *entry);
    }
    give_out(mm, ram.iter());
    for block in M2P_BLOCKS.call_once(|| blocks) {
        for n in 0..block.pages {
            mm.share_read_only(block.first.offset(n));
        }
    }
    mm.set_reserve(reserve_of(mm.alloc.total_frames()));
    host_map::set_table_source(|| get().alloc_hypervisor(Request::anywhere(0)));
    heap::set_grow(grow_heap);
    heap::set_large_blocks(heap::LargeBlocks {
        take: take_block,
        give_back: give_back_block,
    });
}

/// Frames of the machine-to-physical table that lie behind each other.
#[derive(Clone, Copy, Debug)]
struct M2pBlock {
    first: Mfn,
    pages: u64,
}

/// One block for each GiB of machine addresses, up to the last with memory; one without
/// memory has no pages.
static M2P_BLOCKS: Once<Vec<M2pBlock>> = Once::new();

/// First frame of the part of the machine-to-physical table (2 MiB) that describes GiB
/// `n` of memory; of one without memory, that of the nearest part before. `None` beyond
/// the last.
#[must_use]
pub fn m2p_part(n: usize) -> Option<Mfn> {
    let parts = M2P_BLOCKS.get()?.get(..=n)?;
    parts.iter().rev().find(|b| b.pages > 0).map(|b| b.first)
}

/// Maps the machine-to-physical entries of all chunks with memory (and of those between
/// them in the same GiB), nothing being anyone's yet. Tools map the table by parts that
/// each describe one GiB.
#[allow(clippy::disallowed_methods, reason = "at boot only")]
fn map_m2p(present: &[AtomicU64], chunks: u64) -> Vec<M2pBlock> {
    let has =
        |chunk: u64| present[(chunk / 64) as usize].load(Ordering::Relaxed) >> (chunk % 64) & 1;
    let mut blocks = Vec::new();
    for start in (0..chunks).step_by(M2P_PART as usize) {
        let last = (start..chunks.min(start + M2P_PART))
            .rev()
            .find(|c| has(*c) != 0);
        let pages = last.map_or(0, |last| last - start + 1);
        let align = if pages == M2P_PART { M2P_PART } else { 1 };
        let first = if pages == 0 {
            Mfn::new(0)
        } else {
            early::alloc(pages, align).expect("memory for the machine-to-physical table")
        };
        for n in 0..pages {
            super::frame_io::fill(&DirectMap, first.offset(n), 0xff);
        }
        let at = start * PAGE_SIZE;
        // SAFETY: fresh frames, at addresses that are this table's own.
        unsafe {
            host_map::map_pages(layout::M2P_RW_START + at, first, pages, Prot::RW)
                .and_then(|()| {
                    host_map::map_pages(layout::M2P_START + at, first, pages, Prot::USER_RO)
                })
                .expect("memory for the machine-to-physical table's page tables");
        }
        blocks.push(M2pBlock { first, pages });
    }
    blocks
}

/// Pages of the machine-to-physical table that describe one GiB.
const M2P_PART: u64 = 512;

/// Maps the records of chunk `chunk`.
fn map_chunk(chunk: u64) {
    let pages = FrameTable::CHUNK_BYTES / PAGE_SIZE;
    let records = early::alloc(pages, 1).expect("memory for the frame table");
    for n in 0..pages {
        super::frame_io::fill(&DirectMap, records.offset(n), 0);
    }
    let va = layout::FRAME_TABLE_START + chunk * FrameTable::CHUNK_BYTES;
    // SAFETY: fresh frames, at addresses that are this table's own.
    unsafe {
        host_map::map_pages(va, records, pages, Prot::RW)
            .expect("memory for the frame table's page tables");
    }
}

/// Splits RAM into what is free and what is in use.
fn give_out(mm: &HostMm, ram: impl Iterator<Item = Range<u64>>) {
    let free = early::hand_over();
    for range in ram {
        let end = range.end >> PAGE_SHIFT;
        let mut at = range.start.max(LOW_END).div_ceil(PAGE_SIZE);
        for part in free
            .iter()
            .filter(|f| f.start < range.end && f.end > range.start)
        {
            let first = (part.start.max(range.start)).div_ceil(PAGE_SIZE).max(at);
            let last = part.end.min(range.end) >> PAGE_SHIFT;
            if first >= last {
                continue;
            }
            mm.keep_ram(Mfn::new(at), first - at);
            mm.add_ram(Mfn::new(first), last - first);
            at = last;
        }
        if at < end {
            mm.keep_ram(Mfn::new(at), end - at);
        }
    }
}

/// Order of a block of at least `bytes`.
fn order_of(bytes: usize) -> u32 {
    bytes
        .div_ceil(PAGE_SIZE as usize)
        .next_power_of_two()
        .trailing_zeros()
}

fn take_block(bytes: usize) -> Option<NonNull<u8>> {
    let first = get().alloc_hypervisor(Request::anywhere(order_of(bytes)))?;
    NonNull::new(DirectMap.bytes(first))
}

fn give_back_block(at: NonNull<u8>, bytes: usize) {
    let first = Mfn::new((at.as_ptr() as u64 - layout::DIRECT_MAP_START) >> PAGE_SHIFT);
    get().free_hypervisor(first, order_of(bytes));
}

/// Frames that no domain gets, of so many: 1/128, at least 4 MiB and at most 16 MiB.
fn reserve_of(total: u64) -> u64 {
    const LEAST: u64 = (4 << 20) / PAGE_SIZE;
    const MOST: u64 = (16 << 20) / PAGE_SIZE;
    (total / 128).clamp(LEAST, MOST)
}

/// Gives the heap more memory: at least `bytes`, contiguous. What is left of memory may be in
/// small pieces.
fn grow_heap(bytes: usize) -> Option<heap::Chunk> {
    const USUAL: usize = 256 << 10;
    let least = order_of(bytes);
    let usual = order_of(USUAL).max(least);
    let take = |order| {
        let first = get().alloc_hypervisor(Request::anywhere(order))?;
        Some((first, order))
    };
    let (first, order) = take(usual).or_else(|| take(least))?;
    let start = NonNull::new(DirectMap.bytes(first))?;
    // SAFETY: the block was just allocated and the direct map shows it for good.
    Some(unsafe { heap::Chunk::new(start, (PAGE_SIZE as usize) << order) })
}
