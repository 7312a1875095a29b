//! References to frames, general and typed.
//!
//! A *reference* keeps a frame allocated and its owner unchanged. A *writable
//! reference* also keeps it from becoming a page table or descriptor page. What
//! outlives a scope (a page-table entry, a vCPU's root) holds references as numbers:
//! the functions on [`Mm`] come in get/put pairs, and [`PageRef`] is the form that
//! cannot be forgotten.

use super::Mm;
use super::frame_table::{Acquired, Frame, FrameType, Released};
use crate::addr::{CpuMask, DomId, Mfn};
use crate::arch::{FlushStamp, FrameMem, Tlb};

/// Why there is no reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefError {
    /// Not RAM, free, or somebody else's.
    NotOwned,
    /// In use as this.
    InUseAs(FrameType),
    /// Too many references.
    Overflow,
}

/// CPUs whose TLBs may matter: all (those that have flushed since are left alone).
const ALL: CpuMask = CpuMask::ALL;

/// Keeps a frame; dropping gives the reference back.
#[must_use = "if unused the reference is given back at once"]
#[derive(Debug)]
pub struct PageRef<'a, M: FrameMem, T: Tlb> {
    mm: &'a Mm<M, T>,
    mfn: Mfn,
}

impl<M: FrameMem, T: Tlb> PageRef<'_, M, T> {
    /// The frame.
    #[must_use]
    pub fn mfn(&self) -> Mfn {
        self.mfn
    }

    /// Turns the guard into a reference the caller must put by [`Mm::put_page`].
    pub fn forget(self) -> Mfn {
        let mfn = self.mfn;
        core::mem::forget(self);
        mfn
    }
}

impl<M: FrameMem, T: Tlb> Drop for PageRef<'_, M, T> {
    fn drop(&mut self) {
        self.mm.put_page(self.mfn);
    }
}

impl<M: FrameMem, T: Tlb> Mm<M, T> {
    /// A reference to a frame that `owner` owns.
    ///
    /// # Errors
    /// [`RefError::NotOwned`] (or too many references).
    pub fn page(&self, mfn: Mfn, owner: DomId) -> Result<PageRef<'_, M, T>, RefError> {
        self.get_page(mfn, owner)?;
        Ok(PageRef { mm: self, mfn })
    }

    /// As [`Self::page`], for who keeps the number; give back with [`Self::put_page`].
    ///
    /// # Errors
    /// [`RefError::NotOwned`] (or too many references).
    #[inline]
    pub fn get_page(&self, mfn: Mfn, owner: DomId) -> Result<(), RefError> {
        match self.frames.get(mfn) {
            Some(frame) if frame.get_ref(owner) => Ok(()),
            _ => Err(RefError::NotOwned),
        }
    }

    /// Gives a reference back.
    ///
    /// # Panics
    /// If the frame has no record (nobody can have had a reference).
    #[inline]
    pub fn put_page(&self, mfn: Mfn) {
        self.put_ref(mfn, self.record(mfn));
    }

    #[inline]
    pub(crate) fn put_ref(&self, mfn: Mfn, frame: &Frame) {
        if frame.put_ref() {
            self.free_last(mfn, frame);
        }
    }

    /// The last reference is gone.
    #[cold]
    fn free_last(&self, mfn: Mfn, frame: &Frame) {
        debug_assert!(frame.kind().count() == 0, "freeing a typed frame");
        self.make_coherent(mfn, frame);
        frame.set_stamp(self.tlb.now());
        let count = frame.count();
        let owner = count.owner();
        let account = self.accounts.get(owner);
        // The next one with a dying domain's number is another domain.
        let last = match account {
            Some(account) if !account.is_dying() => owner,
            _ => DomId::INVALID,
        };
        self.m2p.clear(mfn);
        self.alloc.free_block(&self.frames, mfn, 0, last);
        // Last: an empty account lets the number be used again.
        match account {
            Some(account) if count.is_hypervisor() => account.remove_shared(),
            Some(account) => account.uncharge(1),
            None => {}
        }
    }

    /// Gives up a frame of `owner`'s memory: the owner's own reference goes. The frame
    /// is freed when nobody else refers to it.
    ///
    /// # Errors
    /// [`RefError::NotOwned`]: not (any longer) part of its memory.
    pub fn release_frame(&self, mfn: Mfn, owner: DomId) -> Result<(), RefError> {
        let page = self.page(mfn, owner)?;
        let frame = self.record(mfn);
        if !frame.clear_allocated() {
            return Err(RefError::NotOwned);
        }
        self.put_ref(mfn, frame);
        drop(page);
        Ok(())
    }

    /// Takes a frame of `owner`'s memory that nobody else refers to away from it. It
    /// stays counted as the owner's until [`Self::free_stolen`] or [`Self::unsteal`].
    ///
    /// # Errors
    /// [`RefError::NotOwned`]: not its memory. [`RefError::Overflow`]: others refer to it.
    pub fn steal(&self, mfn: Mfn, owner: DomId) -> Result<(), RefError> {
        let frame = self.frames.get(mfn).ok_or(RefError::NotOwned)?;
        if frame.steal(owner) {
            Ok(())
        } else if frame.owner() == owner && frame.count().refs() > 0 {
            Err(RefError::Overflow)
        } else {
            Err(RefError::NotOwned)
        }
    }

    /// Gives a stolen frame back to its owner.
    pub fn unsteal(&self, mfn: Mfn, owner: DomId) {
        let word = super::frame_table::CountWord::used(owner, 1, true, false);
        self.record(mfn).set_count(word);
    }

    /// Frees a stolen frame.
    pub fn free_stolen(&self, mfn: Mfn) {
        self.free_last(mfn, self.record(mfn));
    }

    /// A writable reference to a frame that `owner` owns; it keeps the frame, too.
    /// Give back with [`Self::put_writable`].
    ///
    /// # Errors
    /// See [`RefError`].
    pub fn get_writable(&self, mfn: Mfn, owner: DomId) -> Result<(), RefError> {
        let frame = self.frames.get(mfn).ok_or(RefError::NotOwned)?;
        self.get_writable_at(mfn, frame, owner)
    }

    #[inline]
    pub(crate) fn get_writable_at(
        &self,
        mfn: Mfn,
        frame: &Frame,
        owner: DomId,
    ) -> Result<(), RefError> {
        if frame.owner() != owner {
            return Err(RefError::NotOwned);
        }
        if frame.share_type(FrameType::Writable) {
            if frame.owner() == owner {
                return Ok(());
            }
            // Freed and given to another between the look and the count.
            self.put_writable_at(mfn, frame);
            return Err(RefError::NotOwned);
        }
        self.get_simple_slow(mfn, frame, owner, FrameType::Writable)
    }

    /// A reference to a type whose contents need no checking, the long way.
    fn get_simple_slow(
        &self,
        mfn: Mfn,
        frame: &Frame,
        owner: DomId,
        ty: FrameType,
    ) -> Result<(), RefError> {
        if !frame.get_ref(owner) {
            return Err(RefError::NotOwned);
        }
        // From here the frame stays, and stays `owner`'s.
        let outcome = loop {
            match frame.get_type(ty, true) {
                Acquired::Held => break Ok(true),
                Acquired::Claimed(before) => {
                    self.flush_before_reuse(frame, before, ty);
                    frame.publish_valid();
                    break Ok(false);
                }
                Acquired::Wait | Acquired::Resume | Acquired::NeedsRef => {
                    crate::arch::machine::relax();
                }
                Acquired::Conflict(other) => break Err(RefError::InUseAs(other)),
                Acquired::Overflow => break Err(RefError::Overflow),
            }
        };
        match outcome {
            Ok(false) => Ok(()),
            Ok(true) => {
                self.put_ref(mfn, frame);
                Ok(())
            }
            Err(e) => {
                self.put_ref(mfn, frame);
                Err(e)
            }
        }
    }

    /// Before a frame that was `before` is used as `ty`: no TLB may remember the old
    /// use (a writable mapping, or a place in the paging-structure caches).
    #[inline]
    pub(crate) fn flush_before_reuse(&self, frame: &Frame, before: FrameType, ty: FrameType) {
        if before != ty && before != FrameType::None {
            self.tlb.flush_since(frame.stamp(), &ALL);
        }
    }

    /// Before the contents of a frame are checked, or others have it: what is read is what is
    /// in memory, though a guest may have written it past the cache. No TLB lets it any more.
    #[inline]
    pub(crate) fn make_coherent(&self, mfn: Mfn, frame: &Frame) {
        if frame.take_non_coherent() {
            self.mem.flush_cache(mfn);
        }
    }

    /// Gives a writable reference back.
    ///
    /// # Panics
    /// If the frame has no record.
    #[inline]
    pub fn put_writable(&self, mfn: Mfn) {
        self.put_writable_at(mfn, self.record(mfn));
    }

    #[inline]
    pub(crate) fn put_writable_at(&self, mfn: Mfn, frame: &Frame) {
        debug_assert_eq!(frame.kind().ty(), FrameType::Writable);
        self.put_simple_at(mfn, frame);
    }

    /// Gives back a reference to a type without contents to take apart.
    #[inline]
    pub(crate) fn put_simple_at(&self, mfn: Mfn, frame: &Frame) {
        match frame.put_type(|| self.tlb.now()) {
            Released::Shared => {}
            Released::Last => self.put_ref(mfn, frame),
            Released::Dismantle => unreachable!("not a table"),
        }
    }

    /// Turns a plain reference the caller has into a writable one.
    ///
    /// # Errors
    /// See [`RefError`]; the plain reference is still the caller's.
    pub(crate) fn upgrade_at(&self, frame: &Frame, owner: DomId) -> Result<(), RefError> {
        if frame.owner() != owner {
            return Err(RefError::NotOwned);
        }
        if frame.share_type(FrameType::Writable) {
            // The type keeps the frame, so this is not the last.
            frame.put_ref();
            return Ok(());
        }
        loop {
            match frame.get_type(FrameType::Writable, true) {
                Acquired::Held => {
                    frame.put_ref();
                    return Ok(());
                }
                Acquired::Claimed(before) => {
                    self.flush_before_reuse(frame, before, FrameType::Writable);
                    frame.publish_valid();
                    return Ok(());
                }
                Acquired::Wait | Acquired::Resume | Acquired::NeedsRef => {
                    crate::arch::machine::relax();
                }
                Acquired::Conflict(other) => return Err(RefError::InUseAs(other)),
                Acquired::Overflow => return Err(RefError::Overflow),
            }
        }
    }

    /// Turns a writable reference into a plain one the caller took by
    /// [`Frame::add_ref`] beforehand.
    #[inline]
    pub(crate) fn finish_downgrade_at(&self, frame: &Frame) {
        match frame.put_type(|| self.tlb.now()) {
            Released::Shared => {}
            Released::Last => {
                // The plain reference is still there.
                frame.put_ref();
            }
            Released::Dismantle => unreachable!("not a table"),
        }
    }

    /// Marks a frame of the hypervisor's so that privileged guests may map it read-only
    /// (the machine-to-physical table), as owned by `DOMID_XEN`.
    ///
    /// # Panics
    /// If the frame is not the hypervisor's own.
    pub fn share_read_only(&self, mfn: Mfn) {
        let frame = self.record(mfn);
        assert!(frame.owner() == DomId::INVALID && frame.count().refs() == 1);
        frame.set_count(super::frame_table::CountWord::used(
            DomId::XEN,
            2,
            false,
            true,
        ));
        let taken = frame.get_type(FrameType::ReadOnly, true);
        assert!(matches!(taken, Acquired::Claimed(_)));
        frame.publish_valid();
    }

    /// Time stamp for an access that goes away now.
    #[inline]
    pub(crate) fn stamp_now(&self) -> FlushStamp {
        self.tlb.now()
    }
}
