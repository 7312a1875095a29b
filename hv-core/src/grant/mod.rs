//! Grant tables as a state machine over ids and page references.
//!
//! A [`GrantTable`] belongs to one domain and has two sides. As *granter*, the domain
//! writes entries into frames it shares with the hypervisor; the table notes which
//! of them are in use and how often ([`GrantTable::pin`]). As *mapper*, it has
//! handles for the grants of others that it has mapped. The table does not know
//! domains, page tables or TLBs: references come from [`Pages`], and putting a
//! mapping into a page table is the caller's work between two calls.
//!
//! A mapping's life: [`GrantTable::reserve`] a handle of the mapper, `pin` the
//! entry of the granter (which takes a reference on the frame), write the
//! page-table entry (which takes over the reference), [`GrantTable::commit`] the
//! handle. And back: [`GrantTable::begin_unmap`], clear the page-table entry,
//! [`GrantTable::finish_unmap`], **flush the TLBs**, and only then `unpin`, which
//! tells the granter that nobody can reach its frame any more.
//!
//! Invariants: an entry is marked `GTF_reading` (`GTF_writing`) while it has pins
//! (pins for writing), unless its owner scribbles over it; every pin belongs to a
//! handle or to a copy in progress. The reference that keeps a mapped frame
//! allocated belongs to the mapping, not to this table: a granter may die while
//! its frames are mapped, and its table has to outlive the last pin
//! ([`GrantTable::pins`]).
//!
//! Locks: each side has its own lock at `Level::Grant`, and no function holds two.

mod entries;
mod maptrack;
#[cfg(test)]
mod tests;

pub use entries::{GrantFrame, Pin, Use};
pub use maptrack::{Handle, Mapping};

use crate::addr::{DomId, Mfn};
use crate::arch::{FrameMem, Tlb};
use crate::mm::Mm;
use crate::mm::page_ref::RefError;
use crate::sync::{Level, Lock};
use xen_abi::grant_table as abi;

/// Why an operation on a grant failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// The entry does not grant this, is in other use, or keeps changing; or the
    /// frame cannot be used in this way; or a page-table entry is not as expected.
    General,
    /// No such domain.
    BadDomain,
    /// No such entry.
    BadRef,
    /// No such handle.
    BadHandle,
    /// The guest gave an address that cannot be used.
    BadAddress,
    /// The caller lacks the right.
    Denied,
    /// The granted frame is not the granter's.
    BadPage,
    /// A copy would leave its page.
    BadCopy,
    /// No handle is left.
    NoSpace,
}

impl GrantError {
    /// `GNTST_*` of this error.
    ///
    /// Source: Xen `include/public/grant_table.h`.
    #[must_use]
    pub const fn status(self) -> i16 {
        match self {
            Self::General => abi::GNTST_GENERAL_ERROR,
            Self::BadDomain => abi::GNTST_BAD_DOMAIN,
            Self::BadRef => abi::GNTST_BAD_GNTREF,
            Self::BadHandle => abi::GNTST_BAD_HANDLE,
            Self::BadAddress => abi::GNTST_BAD_VIRT_ADDR,
            Self::Denied => abi::GNTST_PERMISSION_DENIED,
            Self::BadPage => abi::GNTST_BAD_PAGE,
            Self::BadCopy => abi::GNTST_BAD_COPY_ARG,
            Self::NoSpace => abi::GNTST_NO_SPACE,
        }
    }
}

/// Takes and gives back references on frames.
pub trait Pages {
    /// Takes a reference on a frame that `owner` owns, for writing or just to keep it.
    ///
    /// # Errors
    /// See [`RefError`].
    fn get(&self, mfn: Mfn, owner: DomId, writable: bool) -> Result<(), RefError>;

    /// Gives such a reference back.
    fn put(&self, mfn: Mfn, writable: bool);
}

impl<M: FrameMem, T: Tlb> Pages for Mm<M, T> {
    #[inline]
    fn get(&self, mfn: Mfn, owner: DomId, writable: bool) -> Result<(), RefError> {
        if writable {
            self.get_writable(mfn, owner)
        } else {
            self.get_page(mfn, owner)
        }
    }

    #[inline]
    fn put(&self, mfn: Mfn, writable: bool) {
        if writable {
            self.put_writable(mfn);
        } else {
            self.put_page(mfn);
        }
    }
}

/// Most frames of entries a domain has unless it was created with another limit.
/// Source: Xen 4.17's default of `gnttab_max_frames`.
pub const DEFAULT_MAX_FRAMES: u32 = 64;
/// Most frames of handles, likewise (`gnttab_max_maptrack_frames`).
pub const DEFAULT_MAX_MAPTRACK_FRAMES: u32 = 1024;

/// A domain's grants: those it gives, and those it uses.
#[derive(Debug)]
pub struct GrantTable {
    owner: DomId,
    entries: Lock<entries::Entries>,
    maptrack: Lock<maptrack::MapTrack>,
}

impl GrantTable {
    /// A table without frames that may grow to `max_frames` of 512 entries each, and
    /// to `max_maptrack` blocks of 256 handles each.
    #[must_use]
    pub const fn new(owner: DomId, max_frames: u32, max_maptrack: u32) -> Self {
        Self {
            owner,
            entries: Lock::new(Level::Grant, entries::Entries::new(max_frames)),
            maptrack: Lock::new(Level::Grant, maptrack::MapTrack::new(max_maptrack)),
        }
    }

    /// The domain this table belongs to.
    #[must_use]
    pub fn owner(&self) -> DomId {
        self.owner
    }
}
