//! Changing one entry of a table that is in use.
//!
//! New references are taken first, then the entry changes atomically, then what the
//! old entry held is given back. The table's lock keeps it a table meanwhile and keeps
//! other updates out; the MMU (and guest copies) may still set accessed and dirty bits
//! at any time.

use super::demote::release_table;
use super::entry::{acquire_l1, check_l1, release_l1, same_ram};
use super::linear::{link, release_entry, unlink};
use super::promote::{check_upper, is_reserved};
use super::walk::L1Slot;
use super::{Budget, Leftover, PtError, Rights, Stop, pte};
use crate::addr::{DomId, MachAddr, Mfn};
use crate::arch::{FrameMem, Tlb};
use crate::mm::Mm;
use crate::mm::frame_table::{Frame, FrameType, TableGuard};
use core::sync::atomic::{AtomicU64, Ordering};

/// How a new value replaces the old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Unconditionally.
    Set,
    /// Keeping the old accessed and dirty bits set.
    PreserveAd,
    /// Only if the entry is exactly this.
    IfEquals(u64),
}

/// What an update did.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Updated {
    /// The entry before.
    pub old: u64,
    /// An entry above L1 that was present has changed: paging-structure caches of the
    /// domain's CPUs may be stale.
    pub stale: bool,
    /// What is left to give back.
    pub leftover: Option<Leftover>,
}

/// `mmu_update`'s store of `new` at machine address `addr`: as an entry if the frame is
/// a table, else as eight plain bytes.
///
/// # Errors
/// As for the level; the interrupted store must be tried again.
pub fn store<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    addr: MachAddr,
    new: u64,
    how: Store,
    budget: &Budget,
) -> Result<Updated, Stop> {
    let mfn = addr.frame();
    let index = (addr.page_offset() / 8) as usize;
    let frame = mm.frames.get(mfn).ok_or(PtError::NotOwned)?;
    if frame.owner() != rights.tables {
        return Err(PtError::NotOwned.into());
    }
    if let Some(guard) = lock_valid(frame, rights.tables) {
        let word = &mm.mem.words(mfn)[index];
        let level = frame.kind().ty().level().unwrap_or(1);
        if new & pte::P != 0 {
            guard.occupy(index);
        }
        if level == 1 {
            let old = set_l1(mm, rights, word, new, how)?;
            return Ok(Updated {
                old,
                stale: false,
                leftover: None,
            });
        }
        return set_upper(mm, rights, guard, (mfn, level), index, new, how, budget);
    }
    mm.get_writable_at(mfn, frame, rights.tables)
        .map_err(PtError::from)?;
    let word = &mm.mem.words(mfn)[index];
    let old = word.swap(new, Ordering::AcqRel);
    mm.put_writable_at(mfn, frame);
    Ok(Updated {
        old,
        stale: false,
        leftover: None,
    })
}

/// As [`store`], if `addr` is in a valid L1 table, which is what it nearly always is.
#[inline]
pub fn store_l1<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    addr: MachAddr,
    new: u64,
    how: Store,
) -> Option<Result<u64, PtError>> {
    let slot = L1Slot {
        table: addr.frame(),
        index: (addr.page_offset() / 8) as usize,
    };
    match write_l1(mm, rights, slot, new, how) {
        Err(PtError::NotATable) => None,
        done => Some(done),
    }
}

/// The lock of `owner`'s frame, if it is a valid table. While the lock is held it
/// stays one: taking a table apart needs the lock.
#[inline]
fn lock_valid(frame: &Frame, owner: DomId) -> Option<TableGuard<'_>> {
    // A look before the lock: only tables are ever locked.
    frame.kind().ty().level()?;
    let guard = frame.lock_table();
    let kind = frame.kind();
    let good = kind.is_valid() && kind.ty().level().is_some() && frame.owner() == owner;
    good.then_some(guard)
}

/// Checked store of an L1 entry into `table`. Answers the entry before.
///
/// # Errors
/// [`PtError::NotATable`] unless `table` is a valid L1 table of `rights.tables`; the
/// guest's mistakes; [`PtError::Changed`] for [`Store::IfEquals`].
#[inline]
pub fn write_l1<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    slot: L1Slot,
    new: u64,
    how: Store,
) -> Result<u64, PtError> {
    let guard = lock_l1(mm, rights.tables, slot.table)?;
    if new & pte::P != 0 {
        guard.occupy(slot.index);
    }
    set_l1(mm, rights, slot.word(&mm.mem), new, how)
}

/// Locks a valid L1 table of `owner`'s.
#[inline]
fn lock_l1<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    owner: DomId,
    table: Mfn,
) -> Result<TableGuard<'_>, PtError> {
    let frame = mm.frames.get(table).ok_or(PtError::NotATable)?;
    // A look before the lock: only tables are ever locked.
    if frame.kind().ty() != FrameType::L1 {
        return Err(PtError::NotATable);
    }
    let guard = frame.lock_table();
    if frame.kind().is_valid_as(FrameType::L1) && frame.owner() == owner {
        Ok(guard)
    } else {
        Err(PtError::NotATable)
    }
}

/// Stores an L1 entry whose references the caller has taken already (a grant mapping):
/// a writable reference if it is writable, else a plain one. What the old entry held
/// is given back. Answers the entry before.
///
/// # Errors
/// [`PtError::NotATable`], [`PtError::BadFlags`]; the references stay the caller's.
pub fn replace_l1<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    slot: L1Slot,
    new: u64,
) -> Result<u64, PtError> {
    let new = check_l1(rights, new)?;
    let guard = lock_l1(mm, rights.tables, slot.table)?;
    guard.occupy(slot.index);
    let old = slot.word(&mm.mem).swap(new, Ordering::AcqRel);
    if old & pte::P != 0 {
        release_l1(mm, old);
    }
    Ok(old)
}

/// Clears (or replaces by `new`, with references the caller has taken) an L1 entry if
/// it maps `mfn` with exactly this right to write. The references of the old entry
/// become the caller's to give back.
///
/// # Errors
/// [`PtError::NotATable`]; [`PtError::Changed`] if it maps something else.
pub fn clear_if_maps<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    owner: DomId,
    slot: L1Slot,
    mfn: Mfn,
    writable: bool,
    new: u64,
) -> Result<u64, PtError> {
    let guard = lock_l1(mm, owner, slot.table)?;
    guard.occupy(slot.index);
    let word = slot.word(&mm.mem);
    let old = word.load(Ordering::Acquire);
    let maps = old & pte::P != 0 && pte::frame(old) == mfn && (old & pte::RW != 0) == writable;
    if !maps {
        return Err(PtError::Changed);
    }
    Ok(word.swap(new, Ordering::AcqRel))
}

/// What [`exchange`] needs undone if it fails.
enum Taken<'a> {
    Nothing,
    Upgrade(&'a Frame),
    Downgrade(&'a Frame),
    All,
}

/// Checked store into a valid, locked L1 table.
#[inline]
fn set_l1<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    word: &AtomicU64,
    new: u64,
    how: Store,
) -> Result<u64, PtError> {
    if new & pte::P == 0 {
        rights.absent.check(new)?;
        let old = match how {
            Store::IfEquals(_) => exchange(word, word.load(Ordering::Acquire), new, how)?,
            Store::Set | Store::PreserveAd => word.swap(new, Ordering::AcqRel),
        };
        if old & pte::P != 0 {
            release_l1(mm, old);
        }
        return Ok(old);
    }
    let mut new = check_l1(rights, new)?;
    let mut how = how;
    let old = word.load(Ordering::Acquire);
    let mut taken = Taken::All;
    if old & pte::P != 0 {
        if (old ^ new) & !pte::L1_HARMLESS == 0 {
            taken = Taken::Nothing;
            if is_others(mm, rights.tables, old) {
                // Unmapping a grant flushes only what was accessed: that must not be
                // forgotten.
                new |= old & pte::A;
                if how == Store::Set {
                    how = Store::PreserveAd;
                }
            }
        } else if let Some(frame) = same_ram(mm, old, new) {
            taken = if new & pte::RW != 0 {
                mm.upgrade_at(frame, rights.frames)
                    .map_err(|_| PtError::FrameBusy)?;
                Taken::Upgrade(frame)
            } else if frame.add_ref() {
                Taken::Downgrade(frame)
            } else {
                return Err(PtError::Overflow);
            };
        }
    }
    if let Taken::All = taken {
        new = acquire_l1(mm, rights, new)?;
    }
    match (exchange(word, old, new, how), taken) {
        (Ok(before), Taken::Nothing | Taken::Upgrade(_)) => Ok(before),
        (Ok(before), Taken::Downgrade(frame)) => {
            mm.finish_downgrade_at(frame);
            Ok(before)
        }
        (Ok(before), Taken::All) => {
            if before & pte::P != 0 {
                release_l1(mm, before);
            }
            Ok(before)
        }
        (Err(e), Taken::Nothing) => Err(e),
        (Err(e), Taken::Upgrade(frame)) => {
            if frame.add_ref() {
                mm.finish_downgrade_at(frame);
            }
            Err(e)
        }
        (Err(e), Taken::Downgrade(frame)) => {
            // The entry's own writable reference keeps the frame.
            frame.put_ref();
            Err(e)
        }
        (Err(e), Taken::All) => {
            release_l1(mm, new);
            Err(e)
        }
    }
}

/// Whether a present entry of `owner`'s table maps memory of another domain.
#[inline]
fn is_others<M: FrameMem, T: Tlb>(mm: &Mm<M, T>, owner: DomId, entry: u64) -> bool {
    mm.frames
        .get(pte::frame(entry))
        .is_some_and(|frame| frame.owner() != owner)
}

/// The atomic change itself. `old` is a recent look at the entry.
#[inline]
fn exchange(word: &AtomicU64, mut old: u64, new: u64, how: Store) -> Result<u64, PtError> {
    loop {
        let value = match how {
            Store::Set => return Ok(word.swap(new, Ordering::AcqRel)),
            Store::PreserveAd => new | old & (pte::A | pte::D),
            Store::IfEquals(expected) if expected != old => return Err(PtError::Changed),
            Store::IfEquals(_) => new,
        };
        match word.compare_exchange(old, value, Ordering::AcqRel, Ordering::Acquire) {
            Ok(before) => return Ok(before),
            Err(now) => old = now,
        }
    }
}

/// Checked store into a valid, locked table of level 2 to 4.
#[allow(clippy::too_many_arguments, reason = "one caller")]
fn set_upper<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    guard: TableGuard<'_>,
    table: (Mfn, u8),
    index: usize,
    new: u64,
    how: Store,
    budget: &Budget,
) -> Result<Updated, Stop> {
    let (mfn, level) = table;
    let word = &mm.mem.words(mfn)[index];
    if is_reserved(level, index) {
        return Err(PtError::ReservedSlot.into());
    }
    if rights.frames != rights.tables {
        return Err(PtError::NotOwned.into());
    }
    let mut new = new;
    let old = word.load(Ordering::Acquire);
    if new & pte::P != 0 {
        new = check_upper(new, level)?;
        if old & pte::P != 0 && (old ^ new) & !pte::UPPER_HARMLESS == 0 {
            let before = exchange(word, old, new, how)?;
            return Ok(Updated {
                old: before,
                stale: (before ^ new) & !(pte::A | pte::D) != 0,
                leftover: None,
            });
        }
        link(mm, rights, table, new, budget)?;
    } else {
        rights.absent.check(new)?;
    }
    let before = match exchange(word, old, new, how) {
        Ok(before) => before,
        Err(e) => {
            let leftover = if new & pte::P != 0 {
                release_entry(mm, table, new, false, budget).err()
            } else {
                None
            };
            return Err(Stop::Failed(e, leftover));
        }
    };
    let held = if before & pte::P != 0 {
        unlink(mm, table, before, false)
    } else {
        None
    };
    drop(guard);
    let leftover = held.and_then(|l| release_table(mm, l.mfn, l.level, budget).err());
    Ok(Updated {
        old: before,
        stale: before & pte::P != 0,
        leftover,
    })
}
