//! Making a frame a page table: every entry is checked and takes what it stands for.

use super::demote::{release_spare, release_table};
use super::entry::{acquire_l1, check_l1, release_l1};
use super::linear::{link, release_spare_entry};
use super::{Budget, Leftover, PtError, Rights, Stop, pte};
use crate::addr::Mfn;
use crate::arch::{FrameMem, Tlb};
use crate::mm::frame_table::{Acquired, Frame, FrameType, GROUP, TableGuard};
use crate::mm::{FIRST_HYPERVISOR_SLOT, HYPERVISOR_SLOTS, Mm};
use core::sync::atomic::Ordering;

/// Entries of a page table.
pub(super) const ENTRIES: usize = 512;

/// Instructions of making an empty frame a table, about: flush, lock, a look at every group.
const TABLE_COST: u32 = 2_500;
/// Of checking an entry and taking what it stands for.
const ENTRY_COST: u32 = 50;

/// Whether entry `index` of a table of `level` is the hypervisor's.
#[inline]
pub(super) fn is_reserved(level: u8, index: usize) -> bool {
    level == 4 && index.wrapping_sub(FIRST_HYPERVISOR_SLOT) < HYPERVISOR_SLOTS
}

/// Takes a type reference to `mfn` as table of `level`, validating it if it is not one
/// yet. The reference is the caller's: [`release_table`] gives it back.
///
/// # Errors
/// [`Stop::Interrupted`] if `budget` was spent; the caller keeps the leftover and tries
/// again. [`Stop::Failed`] if the frame cannot be that table.
pub fn acquire_table<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    mfn: Mfn,
    level: u8,
    budget: &Budget,
) -> Result<(), Stop> {
    let ty = FrameType::table(level);
    let frame = mm.frames.get(mfn).ok_or(PtError::NotOwned)?;
    if frame.owner() != rights.tables {
        return Err(PtError::NotOwned.into());
    }
    if frame.share_type(ty) {
        if frame.owner() == rights.tables {
            return Ok(());
        }
        // Freed and another's table between the two looks.
        return Err(match release_table(mm, mfn, level, budget) {
            Ok(()) => PtError::NotOwned.into(),
            Err(l) => Stop::Failed(PtError::NotOwned, Some(l)),
        });
    }
    // The type keeps the frame; this reference bridges the time until it does, and
    // becomes the type's if there is none.
    if !frame.get_ref(rights.tables) {
        return Err(PtError::NotOwned.into());
    }
    loop {
        match frame.get_type(ty, true) {
            Acquired::Held => {
                mm.put_ref(mfn, frame);
                return Ok(());
            }
            Acquired::Claimed(before) => {
                mm.flush_before_reuse(frame, before, ty);
                mm.make_coherent(mfn, frame);
                let guard = frame.lock_table();
                guard.set_progress(0, false);
                guard.clear_occupied();
                return validate(mm, rights, mfn, frame, level, guard, budget);
            }
            Acquired::Resume => {
                mm.put_ref(mfn, frame);
                let guard = frame.lock_table();
                return validate(mm, rights, mfn, frame, level, guard, budget);
            }
            Acquired::Wait | Acquired::NeedsRef => crate::arch::machine::relax(),
            Acquired::Conflict(other) => {
                mm.put_ref(mfn, frame);
                return Err(PtError::InUseAs(other).into());
            }
            Acquired::Overflow => {
                mm.put_ref(mfn, frame);
                return Err(PtError::Overflow.into());
            }
        }
    }
}

/// Validates a table in transition from where it stands, and publishes the outcome.
fn validate<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    mfn: Mfn,
    frame: &Frame,
    level: u8,
    guard: TableGuard<'_>,
    budget: &Budget,
) -> Result<(), Stop> {
    budget.charge(TABLE_COST);
    let outcome = if level == 1 {
        validate_l1(mm, rights, mfn, &guard, budget)
    } else {
        validate_upper(mm, rights, mfn, level, &guard, budget)
    };
    match outcome {
        Ok(()) => {
            frame.publish_valid();
            Ok(())
        }
        Err(Halt::Interrupted) => {
            frame.publish_partial();
            Err(Stop::Interrupted(Leftover { mfn, level }))
        }
        Err(Halt::Failed(e)) => {
            let cheap = level == 1 || guard.progress() == 0 && !guard.half();
            frame.publish_partial();
            drop(guard);
            if cheap && release_table(mm, mfn, level, &Budget::new(0)).is_ok() {
                return Err(e.into());
            }
            Err(Stop::Failed(e, Some(Leftover { mfn, level })))
        }
    }
}

enum Halt {
    Interrupted,
    Failed(PtError),
}

/// Whether entries need no look, from all their bits together.
#[inline]
fn is_idle(rights: &Rights<'_>, all: u64) -> bool {
    all & pte::P == 0 && (all & pte::FRAME == 0 || rights.absent.is_anything())
}

fn validate_l1<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    mfn: Mfn,
    guard: &TableGuard<'_>,
    budget: &Budget,
) -> Result<(), Halt> {
    let words = mm.mem.words(mfn);
    for (n, group) in words.as_chunks::<GROUP>().0.iter().enumerate() {
        // Most tables are sparse.
        let all = mm.mem.gather(mfn, n);
        if is_idle(rights, all) {
            continue;
        }
        budget.charge(GROUP as u32 * ENTRY_COST);
        if all & pte::P != 0 {
            guard.occupy(n * GROUP);
        }
        for (k, word) in group.iter().enumerate() {
            // Nobody else writes here: no guest can map it writable, and the MMU does
            // not use a table before it is valid.
            let entry = word.load(Ordering::Relaxed);
            let stored = if entry & pte::P == 0 {
                rights.absent.check(entry).map(|()| entry)
            } else {
                check_l1(rights, entry).and_then(|e| acquire_l1(mm, rights, e))
            };
            match stored {
                Ok(stored) => {
                    if stored != entry {
                        word.store(stored, Ordering::Relaxed);
                    }
                }
                Err(e) => {
                    release_first(mm, mfn, guard, n * GROUP + k);
                    guard.set_progress(0, false);
                    return Err(Halt::Failed(e));
                }
            }
        }
    }
    guard.set_progress(ENTRIES, false);
    Ok(())
}

/// Gives back what the first `count` entries of an L1 table hold.
pub(super) fn release_first<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    mfn: Mfn,
    guard: &TableGuard<'_>,
    count: usize,
) {
    let words = &mm.mem.words(mfn)[..count];
    let mut occupied = guard.occupied();
    while occupied != 0 {
        let first = occupied.trailing_zeros() as usize * GROUP;
        occupied &= occupied - 1;
        for word in words.iter().skip(first).take(GROUP) {
            let entry = word.load(Ordering::Relaxed);
            if entry & pte::P != 0 {
                release_l1(mm, entry);
            }
        }
    }
}

fn validate_upper<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    mfn: Mfn,
    level: u8,
    guard: &TableGuard<'_>,
    budget: &Budget,
) -> Result<(), Halt> {
    let words = mm.mem.words(mfn);
    let start = guard.progress();
    // Of an interrupted child there is a reference already; once the child is
    // acquired again there is one too many.
    let mut half = guard.half();
    let mut next = start;
    while next < ENTRIES {
        if next.is_multiple_of(GROUP) && is_idle(rights, mm.mem.gather(mfn, next / GROUP)) {
            next += GROUP;
            continue;
        }
        let (index, word) = (next, &words[next]);
        next += 1;
        if is_reserved(level, index) {
            continue;
        }
        let entry = word.load(Ordering::Relaxed);
        if entry & pte::P == 0 {
            if let Err(e) = rights.absent.check(entry) {
                guard.set_progress(index, half);
                return Err(Halt::Failed(e));
            }
            continue;
        }
        guard.occupy(index);
        if index > start && budget.is_spent() {
            guard.set_progress(index, false);
            return Err(Halt::Interrupted);
        }
        budget.charge(ENTRY_COST);
        let outcome = check_upper(entry, level)
            .map_err(Stop::from)
            .and_then(|e| link(mm, rights, (mfn, level), e, budget).map(|()| e));
        let child = |l: &Leftover| (l.mfn, l.level);
        match outcome {
            Ok(stored) => {
                if half {
                    release_spare_entry(mm, (mfn, level), entry);
                    half = false;
                }
                if stored != entry {
                    word.store(stored, Ordering::Relaxed);
                }
            }
            Err(stop) => {
                let (leftover, halt) = match stop {
                    Stop::Interrupted(l) => (Some(l), Halt::Interrupted),
                    Stop::Failed(e, l) => (l, Halt::Failed(e)),
                };
                if let Some((child, level)) = leftover.as_ref().map(child) {
                    if half {
                        // Two references to the same child: not the last.
                        release_spare(mm, child, level);
                    }
                    half = true;
                }
                guard.set_progress(index, half);
                return Err(halt);
            }
        }
    }
    if level == 4 {
        for n in 0..HYPERVISOR_SLOTS {
            words[FIRST_HYPERVISOR_SLOT + n].store(mm.hypervisor_slot(n), Ordering::Relaxed);
        }
    }
    guard.set_progress(ENTRIES, false);
    Ok(())
}

/// Checks the bits of a present entry of a table of `level` 2 to 4, and puts them as
/// they will be stored.
#[inline]
pub(super) fn check_upper(entry: u64, level: u8) -> Result<u64, PtError> {
    if entry & pte::UPPER_BAD != 0 {
        return Err(PtError::BadFlags);
    }
    Ok(pte::adjust_upper(entry, level))
}
