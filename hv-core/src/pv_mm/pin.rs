//! Pins: a type reference that a guest holds by name, so that a table stays one while
//! nothing points to it.

use super::demote::release_table;
use super::promote::acquire_table;
use super::{Budget, Leftover, PtError, Rights, Stop};
use crate::addr::{DomId, Mfn};
use crate::arch::{FrameMem, Tlb};
use crate::mm::Mm;

/// Pins `mfn` as table of `level`, validating it if need be.
///
/// # Errors
/// As [`acquire_table`]; [`PtError::PinState`] if it is pinned already.
pub fn pin<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    mfn: Mfn,
    level: u8,
    budget: &Budget,
) -> Result<(), Stop> {
    acquire_table(mm, rights, mfn, level, budget)?;
    if mm.record(mfn).set_pinned() {
        return Ok(());
    }
    let leftover = release_table(mm, mfn, level, budget).err();
    Err(Stop::Failed(PtError::PinState, leftover))
}

/// Removes the pin of `owner`'s table `mfn`, which may stay a table for other reasons.
/// Answers what is left to give back, if that was interrupted.
///
/// # Errors
/// [`PtError::NotOwned`], [`PtError::PinState`].
pub fn unpin<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    owner: DomId,
    mfn: Mfn,
    budget: &Budget,
) -> Result<Option<Leftover>, PtError> {
    let page = mm.page(mfn, owner)?;
    let frame = mm.record(mfn);
    if !frame.clear_pinned() {
        return Err(PtError::PinState);
    }
    // The pin's type reference is ours now, so the type cannot change.
    let level = frame.kind().ty().level().ok_or(PtError::NotATable)?;
    let leftover = release_table(mm, mfn, level, budget).err();
    drop(page);
    Ok(leftover)
}
