//! Guest page tables: validated, counted, updated.
//!
//! A PV guest writes its own page tables in terms of machine frames, but only the
//! hypervisor stores into frames that are in use as tables. This room checks what a
//! guest wants stored, keeps the references that entries stand for, and walks tables.
//! It knows domains by number, and what a domain may map by [`Rights`]; it flushes
//! nothing except through type changes in [`crate::mm`].
//!
//! **What an entry holds.** A present L1 entry of a RAM frame holds one writable
//! reference if it is writable, else one plain reference. A present entry of a higher
//! table holds one reference to the type of the next lower table (or, if it is linear,
//! to its own type: see `linear`). Entries of frames that are not RAM hold nothing. Nobody cares how an entry came to be: what it holds
//! follows from its bits alone, so whoever removes it can give it back.
//!
//! **Life of a table.** none → in transition (validated entry by entry, [`promote`])
//! → valid → in transition (taken apart from the last entry, [`demote`]) → none. Both
//! transitions can stop half way at a *partial* table, whose first `progress` entries
//! hold references, and both can start from one. A partial table's type references
//! belong to whoever was working on it: the entry above it (marked `half`) or a vCPU's
//! [`Unfinished`] list.
//!
//! **Updates** ([`update`]) happen under the table's lock, in a valid table.
//!
//! **Flushing.** Making a frame writable again after it was a table, a table after it
//! was writable, or freeing it, flushes (see [`crate::mm`]). Beyond that an update
//! needs no flush for the hypervisor's sake; [`update::Updated::stale`] says when a
//! higher-level entry was replaced, which Xen's interface flushes for the guest.
//!
//! Locks: table locks, from higher to lower levels.

pub mod absent;
pub mod audit;
pub mod demote;
pub mod descriptors;
pub mod entry;
mod linear;
pub mod pin;
pub mod promote;
pub mod rights;
pub mod run;
pub mod update;
pub use crate::mm::{pte, walk};
pub use rights::{IoAccess, IoMem, Rights};
pub use run::Budget;

#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use crate::addr::Mfn;
use crate::mm::frame_table::FrameType;
use crate::mm::page_ref::RefError;

/// What a guest did wrong with a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PtError {
    /// An entry has bits the interface does not allow.
    BadFlags,
    /// An entry that is not present names memory, which this CPU would let the guest read.
    NamesMemory,
    /// An L1 entry maps a frame that is not the domain's, or cannot be had as wished.
    FrameBusy,
    /// An L1 entry maps device memory without the right to.
    NoIoAccess,
    /// The frame of a table is not the domain's.
    NotOwned,
    /// The frame is in use as something else.
    InUseAs(FrameType),
    /// The frame is no valid table of that level.
    NotATable,
    /// A slot of the hypervisor's.
    ReservedSlot,
    /// Already (or not) pinned.
    PinState,
    /// A cache type that this frame cannot have.
    CacheType,
    /// A bad segment descriptor.
    BadDescriptor,
    /// The entry no longer is what the caller expects.
    Changed,
    /// Too many references to one frame.
    Overflow,
}

impl From<RefError> for PtError {
    fn from(e: RefError) -> Self {
        match e {
            RefError::NotOwned => Self::NotOwned,
            RefError::InUseAs(ty) => Self::InUseAs(ty),
            RefError::Overflow => Self::Overflow,
        }
    }
}

/// A type reference to a table that someone must still give back (or, if the table is
/// partial, go on validating first).
#[must_use = "the reference must be given back"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The table.
    pub mfn: Mfn,
    /// Its level.
    pub level: u8,
}

/// Why an operation on a table did not succeed.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The caller wanted to be interrupted; doing the same again goes on from here.
    /// Until then the reference to the unfinished table is the caller's to keep.
    Interrupted(Leftover),
    /// The guest's mistake; nothing changed. The reference, if any, is the caller's
    /// to give back.
    Failed(PtError, Option<Leftover>),
}

impl From<PtError> for Stop {
    fn from(e: PtError) -> Self {
        Self::Failed(e, None)
    }
}

/// What a vCPU still has to finish of interrupted page-table operations.
///
/// At most two references: to a table being validated for the operation that will be
/// tried again, and to one being taken apart. [`Unfinished::ready`] must succeed
/// before the next operation starts, [`Unfinished::settle`] follows its end.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    resuming: Option<Leftover>,
    retiring: Option<Leftover>,
    /// The operation that left `resuming` will be tried again.
    retrying: bool,
}

impl Unfinished {
    /// Nothing to finish.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            resuming: None,
            retiring: None,
            retrying: false,
        }
    }

    /// Whether there is nothing to finish.
    #[must_use]
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.resuming.is_none() && self.retiring.is_none()
    }

    /// The references held here (for the audit).
    pub fn iter(&self) -> impl Iterator<Item = Leftover> + '_ {
        self.resuming.iter().chain(&self.retiring).copied()
    }
}
