//! Walking a guest's tables in software.
//!
//! Takes no references and no locks: see "Reaching guest memory" in [`crate::mm`].
//! Every table reached from a root with a type reference is valid, so every present
//! entry above L1 names a valid table.

use super::Mm;
use super::frame_table::FrameType;
use super::pte;
use crate::addr::{DomId, GuestVa, Mfn};
use crate::arch::{FrameMem, Tlb};
use core::sync::atomic::{AtomicU64, Ordering};

/// Where the L1 entry of an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L1Slot {
    /// The L1 table.
    pub table: Mfn,
    /// The entry's index.
    pub index: usize,
}

impl L1Slot {
    /// The entry's word.
    #[inline]
    pub fn word<M: FrameMem>(self, mem: &M) -> &AtomicU64 {
        &mem.words(self.table)[self.index & 511]
    }
}

/// Where the L1 entry of `va` is under `root`, if there is an L1 table.
#[inline]
pub fn find_l1(mem: &impl FrameMem, root: Mfn, va: GuestVa) -> Option<L1Slot> {
    find_l1_with(mem, root, va, pte::P)
}

/// As [`find_l1`], where every entry on the way has all bits of `need`.
#[inline]
pub fn find_l1_with(mem: &impl FrameMem, root: Mfn, va: GuestVa, need: u64) -> Option<L1Slot> {
    if !va.is_guest() {
        return None;
    }
    let mut table = root;
    for level in [4, 3, 2] {
        let entry = mem.words(table)[va.index(level)].load(Ordering::Acquire);
        if entry & need != need {
            return None;
        }
        table = pte::frame(entry);
    }
    Some(L1Slot {
        table,
        index: va.index(1),
    })
}

/// The L1 table slot that a guest's store to `va` would change: `va` is mapped read-only
/// and the frame is a valid L1 table of `owner`'s. The way to emulated page-table
/// writes, so it is quick to say no.
#[inline]
pub fn table_slot_at<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    owner: DomId,
    root: Mfn,
    va: GuestVa,
) -> Option<L1Slot> {
    let entry = find_l1(&mm.mem, root, va)?
        .word(&mm.mem)
        .load(Ordering::Acquire);
    if entry & (pte::P | pte::RW) != pte::P {
        return None;
    }
    let table = pte::frame(entry);
    let frame = mm.frames.get(table)?;
    let is_table = frame.kind().is_valid_as(FrameType::L1) && frame.owner() == owner;
    is_table.then_some(L1Slot {
        table,
        index: (va.page_offset() / 8) as usize,
    })
}

/// What a walk met: the entries from L4 down, and how many were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Entries, L4 first.
    pub entries: [u64; 4],
    /// How many of them were read (the last of which may be absent).
    pub read: usize,
}

impl Walk {
    /// Walks `va` under `root` (for faults and debugging).
    #[must_use]
    pub fn new(mem: &impl FrameMem, root: Mfn, va: GuestVa) -> Self {
        let mut walk = Self {
            entries: [0; 4],
            read: 0,
        };
        if !va.is_guest() {
            return walk;
        }
        let mut table = root;
        for (n, level) in [4, 3, 2, 1].into_iter().enumerate() {
            let entry = mem.words(table)[va.index(level)].load(Ordering::Acquire);
            walk.entries[n] = entry;
            walk.read = n + 1;
            if entry & pte::P == 0 {
                break;
            }
            table = pte::frame(entry);
        }
        walk
    }

    /// The L1 entry, if the walk came that far.
    #[must_use]
    pub fn l1(&self) -> Option<u64> {
        (self.read == 4).then_some(self.entries[3])
    }

    /// Bits that every entry has (writable, user), if the address is mapped at all.
    #[must_use]
    pub fn common(&self) -> Option<u64> {
        let all = self.entries.iter().fold(u64::MAX, |a, e| a & e);
        (self.read == 4 && all & pte::P != 0).then_some(all)
    }

    /// Whether instructions may be fetched, if the address is mapped at all.
    #[must_use]
    pub fn no_execute(&self) -> bool {
        self.entries[..self.read].iter().any(|e| e & pte::NX != 0)
    }
}
