//! Giving a table's type reference back; with the last one the table is taken apart,
//! from its last entry to its first.

use super::linear::release_entry;
use super::promote::{is_reserved, release_first};
use super::{Budget, Leftover, Unfinished, pte};
use crate::addr::Mfn;
use crate::arch::{FrameMem, Tlb};
use crate::mm::Mm;
use crate::mm::frame_table::{GROUP, Released, TableGuard};
use core::sync::atomic::Ordering;

/// Instructions of making an empty table a plain frame, about.
const TABLE_COST: u32 = 1_000;
/// Of giving back what an entry holds.
const ENTRY_COST: u32 = 40;

/// Gives back a type reference to `mfn` as table of `level`, of which there is another: there is
/// nothing to take apart. (Were there, it would stay as it is for good.)
pub(super) fn release_spare<M: FrameMem, T: Tlb>(mm: &Mm<M, T>, mfn: Mfn, level: u8) {
    let done = release_table(mm, mfn, level, &Budget::new(0));
    debug_assert!(done.is_ok(), "the last reference to a table");
}

/// Gives back a type reference to `mfn` as table of `level`.
///
/// # Errors
/// The same reference, still the caller's, if `budget` was spent before it was done.
///
/// # Panics
/// If the frame has no record: then there was no reference.
pub fn release_table<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    mfn: Mfn,
    level: u8,
    budget: &Budget,
) -> Result<(), Leftover> {
    let frame = mm.record(mfn);
    debug_assert_eq!(frame.kind().ty().level(), Some(level));
    match frame.put_type(|| mm.stamp_now()) {
        Released::Shared => Ok(()),
        Released::Last => unreachable!("a table is taken apart"),
        Released::Dismantle => {
            let guard = frame.lock_table();
            budget.charge(TABLE_COST);
            let done = if level == 1 {
                let groups = guard.occupied().count_ones();
                budget.charge(groups * GROUP as u32 * ENTRY_COST);
                take_apart_l1(mm, mfn, &guard);
                true
            } else {
                take_apart_upper(mm, mfn, level, &guard, budget)
            };
            if !done {
                frame.publish_partial();
                return Err(Leftover { mfn, level });
            }
            frame.publish_dismantled(mm.stamp_now());
            drop(guard);
            mm.put_ref(mfn, frame);
            Ok(())
        }
    }
}

fn take_apart_l1<M: FrameMem, T: Tlb>(mm: &Mm<M, T>, mfn: Mfn, guard: &TableGuard<'_>) {
    release_first(mm, mfn, guard, guard.progress());
    guard.set_progress(0, false);
}

/// False if interrupted.
fn take_apart_upper<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    mfn: Mfn,
    level: u8,
    guard: &TableGuard<'_>,
    budget: &Budget,
) -> bool {
    let words = mm.mem.words(mfn);
    let mut end = guard.progress();
    let half = guard.half();
    if half {
        // The entry above the last complete one.
        end += 1;
    }
    let top = end;
    while end > 0 {
        let index = end - 1;
        if guard.occupied() >> (index / GROUP) & 1 == 0 {
            end = index / GROUP * GROUP;
            continue;
        }
        let entry = words[index].load(Ordering::Relaxed);
        if entry & pte::P != 0 && !is_reserved(level, index) {
            if end != top && budget.is_spent() {
                guard.set_progress(end, false);
                return false;
            }
            budget.charge(ENTRY_COST);
            let unfinished = half && end == top;
            if release_entry(mm, (mfn, level), entry, unfinished, budget).is_err() {
                guard.set_progress(index, true);
                return false;
            }
        }
        end = index;
    }
    guard.set_progress(0, false);
    true
}

impl Unfinished {
    /// Finishes taking apart what was interrupted, and what was left by an operation
    /// that will not be tried again. Call before each operation that may leave something.
    ///
    /// # Errors
    /// [`StillUnfinished`]: call again.
    #[inline]
    pub fn ready<M: FrameMem, T: Tlb>(
        &mut self,
        mm: &Mm<M, T>,
        budget: &Budget,
    ) -> Result<(), StillUnfinished> {
        if self.is_empty() {
            return Ok(());
        }
        finish(&mut self.retiring, mm, budget)?;
        if self.retrying {
            return Ok(());
        }
        finish(&mut self.resuming, mm, budget)
    }

    /// Notes that the operation begun has ended, well or not.
    #[inline]
    pub fn settle(&mut self) {
        self.retrying = false;
    }

    /// Finishes everything: the interrupted operation will not be tried again.
    ///
    /// # Errors
    /// [`StillUnfinished`]: call again.
    pub fn finish<M: FrameMem, T: Tlb>(
        &mut self,
        mm: &Mm<M, T>,
        budget: &Budget,
    ) -> Result<(), StillUnfinished> {
        finish(&mut self.retiring, mm, budget)?;
        finish(&mut self.resuming, mm, budget)
    }

    /// Keeps the reference of an operation that will be tried again.
    ///
    /// # Panics
    /// In debug builds, if [`Unfinished::ready`] was not called before the operation.
    pub fn resume_later<M: FrameMem, T: Tlb>(&mut self, mm: &Mm<M, T>, leftover: Leftover) {
        self.retrying = true;
        match self.resuming {
            Some(old) if old == leftover => {
                // A second reference to the same table: not the last one.
                release_spare(mm, leftover.mfn, leftover.level);
            }
            old => {
                if let Some(old) = old {
                    self.retire(mm, old);
                }
                self.resuming = Some(leftover);
            }
        }
    }

    /// Keeps a reference that is only to be given back.
    pub fn retire<M: FrameMem, T: Tlb>(&mut self, mm: &Mm<M, T>, leftover: Leftover) {
        debug_assert!(self.retiring.is_none());
        if let Some(old) = self.retiring.replace(leftover) {
            // Not reached.
            release_spare(mm, old.mfn, old.level);
        }
    }
}

/// Interrupted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StillUnfinished;

fn finish<M: FrameMem, T: Tlb>(
    slot: &mut Option<Leftover>,
    mm: &Mm<M, T>,
    budget: &Budget,
) -> Result<(), StillUnfinished> {
    if let Some(l) = *slot {
        release_table(mm, l.mfn, l.level, budget).map_err(|_| StillUnfinished)?;
        *slot = None;
    }
    Ok(())
}
