//! Recounting every reference from scratch and comparing with the frame table.
//!
//! The debug command "verify frame table" and the property tests both use it. Nothing
//! may change meanwhile: no guest runs and no other CPU is in the hypervisor. It needs
//! memory for one window of frames and reads all tables once a window.

use super::promote::is_reserved;
use super::pte;
use crate::addr::{DomId, Mfn};
use crate::arch::{FrameMem, Tlb};
use crate::fallible::Grow;
use crate::mm::account::DomainPages;
use crate::mm::frame_table::{Frame, FrameType, GROUP};
use crate::mm::{FIRST_HYPERVISOR_SLOT, HYPERVISOR_SLOTS, Mm};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

/// A reference that is not in a page table: of a vCPU, a grant, the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A plain reference.
    Ref,
    /// A reference to the frame's type.
    Type(FrameType),
}

/// Something that does not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// References counted and found in the record.
    Refs {
        /// The frame.
        mfn: Mfn,
        /// As counted.
        counted: u32,
        /// As recorded.
        recorded: u32,
    },
    /// Type references counted and found in the record.
    TypeRefs {
        /// The frame.
        mfn: Mfn,
        /// As counted.
        counted: u32,
        /// As recorded.
        recorded: u32,
    },
    /// Somebody needs the frame as another type than it has.
    WrongType {
        /// The frame.
        mfn: Mfn,
        /// The type needed.
        needed: FrameType,
        /// The type it has.
        has: FrameType,
    },
    /// A guest L4 table with a wrong entry in the hypervisor's slots.
    BadSlot {
        /// The table.
        mfn: Mfn,
    },
    /// A domain's number of frames.
    Total {
        /// The domain.
        owner: DomId,
        /// As counted.
        counted: u64,
        /// As accounted.
        recorded: u64,
    },
    /// The allocator's lists contradict the record.
    FreeList {
        /// The frame.
        mfn: Mfn,
    },
    /// A present entry in a group that is not noted as occupied.
    Unnoted {
        /// The table.
        mfn: Mfn,
    },
    /// No memory for the window.
    NoMemory,
}

/// What was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Frames of RAM.
    pub frames: u64,
    /// Page tables.
    pub tables: u64,
    /// Findings.
    pub findings: u64,
}

/// Frames compared at a time.
const WINDOW: u64 = 1 << 16;

#[derive(Clone, Copy, Default)]
struct Counts {
    refs: u32,
    types: u32,
}

struct Window<'a, R> {
    first: u64,
    counts: Vec<Counts>,
    report: &'a mut R,
    findings: u64,
}

impl<R: FnMut(Finding)> Window<'_, R> {
    fn find(&mut self, finding: Finding) {
        self.findings += 1;
        (self.report)(finding);
    }

    fn count(&mut self, mm: &Mm<impl FrameMem, impl Tlb>, mfn: Mfn, held: Held) {
        let Some(counts) = mfn
            .raw()
            .checked_sub(self.first)
            .and_then(|n| self.counts.get_mut(n as usize))
        else {
            return;
        };
        match held {
            Held::Ref => counts.refs += 1,
            Held::Type(needed) => {
                counts.types += 1;
                let has = mm
                    .frames
                    .get(mfn)
                    .map_or(FrameType::None, |f| f.kind().ty());
                if has != needed {
                    self.find(Finding::WrongType { mfn, needed, has });
                }
            }
        }
    }
}

/// Calls its argument once for each reference that only its holder knows of.
pub type Others<'a> = &'a dyn Fn(&mut dyn FnMut(Mfn, Held));

/// Verifies the frame table. `others` calls its argument once for each reference that
/// is in no page table, no pin, and not an owner's own; `report` hears of findings.
pub fn audit<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    others: Others<'_>,
    mut report: impl FnMut(Finding),
) -> Summary {
    let mut summary = Summary::default();
    let mut first = 0;
    let limit = mm.frames.limit();
    let mut counts = Vec::new();
    if counts
        .try_reserve_exact(WINDOW.min(limit) as usize)
        .is_err()
    {
        report(Finding::NoMemory);
        summary.findings += 1;
        return summary;
    }
    while first < limit {
        counts.clear();
        for _ in 0..WINDOW.min(limit - first) {
            counts.push_reserved(Counts::default());
        }
        let mut window = Window {
            first,
            counts,
            report: &mut report,
            findings: 0,
        };
        summary.tables = 0;
        for mfn in (0..limit).map(Mfn::new) {
            if let Some(frame) = mm.frames.ram(mfn) {
                summary.tables += u64::from(count_frame(mm, mfn, frame, &mut window));
            }
        }
        others(&mut |mfn, held| window.count(mm, mfn, held));
        summary.frames += compare(mm, &mut window);
        summary.findings += window.findings;
        counts = window.counts;
        first += WINDOW;
    }
    summary.findings += check_totals(mm, &mut report);
    summary
}

/// Counts what a frame itself accounts for. True if it is a table.
fn count_frame<M: FrameMem, T: Tlb, R: FnMut(Finding)>(
    mm: &Mm<M, T>,
    mfn: Mfn,
    frame: &Frame,
    window: &mut Window<'_, R>,
) -> bool {
    let (count, kind) = (frame.count(), frame.kind());
    if count.is_free() {
        return false;
    }
    if count.is_allocated() {
        window.count(mm, mfn, Held::Ref);
    }
    if kind.count() == 0 {
        return false;
    }
    window.count(mm, mfn, Held::Ref);
    if kind.is_pinned() {
        window.count(mm, mfn, Held::Type(kind.ty()));
    }
    let Some(level) = kind.ty().level() else {
        return false;
    };
    let words = mm.mem.words(mfn);
    let guard = frame.lock_table();
    let (complete, half) = if kind.is_valid() {
        (words.len(), false)
    } else {
        (guard.progress(), guard.half())
    };
    let occupied = guard.occupied();
    drop(guard);
    for (index, word) in words.iter().enumerate().take(complete + usize::from(half)) {
        let entry = word.load(Ordering::Relaxed);
        if is_reserved(level, index) {
            if kind.is_valid() && entry != mm.hypervisor_slot(index - FIRST_HYPERVISOR_SLOT) {
                window.find(Finding::BadSlot { mfn });
            }
            continue;
        }
        if entry & pte::P == 0 {
            continue;
        }
        if occupied >> (index / GROUP) & 1 == 0 {
            window.find(Finding::Unnoted { mfn });
        }
        let target = pte::frame(entry);
        if level > 1 {
            let shown = mm.frames.get(target).map(|f| f.kind().ty());
            if target == mfn {
                // It holds nothing.
            } else if shown == Some(kind.ty()) {
                window.count(mm, target, Held::Type(kind.ty()));
            } else {
                let child = FrameType::table(level - 1);
                window.count(mm, target, Held::Type(child));
            }
        } else if mm.frames.ram(target).is_some() {
            let held = if entry & pte::RW != 0 {
                Held::Type(FrameType::Writable)
            } else {
                Held::Ref
            };
            window.count(mm, target, held);
        }
    }
    debug_assert_eq!(HYPERVISOR_SLOTS, 16);
    true
}

/// Compares a window's counts with the records; how many were RAM.
fn compare<M: FrameMem, T: Tlb, R: FnMut(Finding)>(
    mm: &Mm<M, T>,
    window: &mut Window<'_, R>,
) -> u64 {
    let mut frames = 0;
    for n in 0..window.counts.len() {
        let mfn = Mfn::new(window.first + n as u64);
        let Some(frame) = mm.frames.ram(mfn) else {
            continue;
        };
        frames += 1;
        let counted = window.counts[n];
        // The hypervisor's own frames have one reference that nobody lists.
        let own = u32::from(matches!(frame.owner(), DomId::INVALID | DomId::XEN));
        let (refs, types) = (frame.count().refs(), frame.kind().count());
        if frame.count().is_free() {
            if refs != 0 || counted.refs + counted.types != 0 {
                window.find(Finding::Refs {
                    mfn,
                    counted: counted.refs + counted.types,
                    recorded: refs,
                });
            }
            continue;
        }
        if counted.refs + own != refs {
            window.find(Finding::Refs {
                mfn,
                counted: counted.refs + own,
                recorded: refs,
            });
        }
        let own = u32::from(frame.owner() == DomId::XEN);
        if counted.types + own != types {
            window.find(Finding::TypeRefs {
                mfn,
                counted: counted.types + own,
                recorded: types,
            });
        }
    }
    frames
}

/// Checks the free lists and the accounts; the number of findings.
fn check_totals<M: FrameMem, T: Tlb>(mm: &Mm<M, T>, report: &mut impl FnMut(Finding)) -> u64 {
    let mut findings = 0;
    if let Err(mfn) = mm.alloc.check(&mm.frames) {
        report(Finding::FreeList { mfn });
        findings += 1;
    }
    let mut owner = None;
    // One pass for each domain that has frames, lowest number first: few domains, and
    // no memory needed.
    loop {
        let mut next = None;
        let mut counted = 0;
        for mfn in (0..mm.frames.limit()).map(Mfn::new) {
            let Some(count) = mm.frames.ram(mfn).map(Frame::count) else {
                continue;
            };
            let id = count.owner();
            if count.is_free() || count.is_hypervisor() || id.0 >= DomId::FIRST_RESERVED {
                continue;
            }
            if Some(id) == owner {
                counted += 1;
            } else if Some(id) > owner && next.is_none_or(|n| id < n) {
                next = Some(id);
            }
        }
        if let Some(owner) = owner {
            let recorded = mm.accounts.get(owner).map_or(0, DomainPages::total);
            if recorded != counted {
                report(Finding::Total {
                    owner,
                    counted,
                    recorded,
                });
                findings += 1;
            }
        }
        match next {
            None => return findings,
            next => owner = next,
        }
    }
}
