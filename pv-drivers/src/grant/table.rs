//! The table of what this domain grants (version 1 entries).

use alloc::vec::Vec;
use core::ops::Deref;
use core::sync::atomic::{AtomicU16, AtomicU32, Ordering, fence};

use spin::mutex::SpinMutex;
use xen_abi::grant_table::{
    GNTTAB_NR_RESERVED_ENTRIES, GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_WRITING,
    GrantEntryV1,
};

use crate::hypercall::{Access, DomId, GrantRef, Share};

/// Entries of one frame of the table.
pub const ENTRIES_PER_FRAME: usize = 4096 / size_of::<GrantEntryV1>();

/// One entry of the table, which the hypervisor reads and writes too.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Entry {
    flags: AtomicU16,
    domain: AtomicU16,
    frame: AtomicU32,
}

const _: () = assert!(size_of::<Entry>() == size_of::<GrantEntryV1>());

impl Entry {
    /// Grants a frame.
    fn set(&self, domain: DomId, frame: u32, access: Access) {
        self.frame.store(frame, Ordering::Relaxed);
        self.domain.store(domain.0, Ordering::Relaxed);
        let read_only = match access {
            Access::Read => GTF_READONLY,
            Access::Write => 0,
        };
        // Release: the grant is whole before it is valid.
        self.flags
            .store(GTF_PERMIT_ACCESS | read_only, Ordering::Release);
    }

    /// Ends the grant, unless the peer uses it.
    fn end(&self) -> bool {
        let mut flags = self.flags.load(Ordering::Acquire);
        while flags & (GTF_READING | GTF_WRITING) == 0 {
            // In one step: the peer may map it at this moment.
            match self
                .flags
                .compare_exchange(flags, 0, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => {
                    fence(Ordering::SeqCst);
                    return true;
                }
                Err(now) => flags = now,
            }
        }
        false
    }

    /// Flags, domain and frame, as the hypervisor reads them.
    #[cfg(test)]
    pub(crate) fn get(&self) -> (u16, DomId, u32) {
        let flags = self.flags.load(Ordering::Acquire);
        let domain = DomId(self.domain.load(Ordering::Relaxed));
        (flags, domain, self.frame.load(Ordering::Relaxed))
    }

    /// Sets and clears flags, as the hypervisor does.
    #[cfg(test)]
    pub(crate) fn change(&self, set: u16, clear: u16) {
        self.flags.fetch_or(set, Ordering::AcqRel);
        self.flags.fetch_and(!clear, Ordering::AcqRel);
    }
}

/// Where the table's frames come from.
pub trait TableSource: Send + Sync {
    /// The frame with this index, mapped; none when the table can grow no more.
    fn frame(&self, index: usize) -> Option<&'static [Entry; ENTRIES_PER_FRAME]>;
}

/// No entry is left; the page comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted<P>(pub P);

struct Inner<P> {
    frames: Vec<&'static [Entry; ENTRIES_PER_FRAME]>,
    free: Vec<GrantRef>,
    /// What a peer still used when its grant ended.
    held: Vec<(GrantRef, P)>,
    /// How often the table was [renewed](GrantTable::renew).
    incarnation: u32,
}

/// The domain's grant table, with pages of type `P` behind its entries.
pub struct GrantTable<P> {
    source: &'static dyn TableSource,
    inner: SpinMutex<Inner<P>>,
}

impl<P> core::fmt::Debug for GrantTable<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let inner = self.inner.lock();
        f.debug_struct("GrantTable")
            .field("frames", &inner.frames.len())
            .field("free", &inner.free.len())
            .field("held", &inner.held.len())
            .finish()
    }
}

impl<P: Share> GrantTable<P> {
    /// A table that has given nothing yet. The entries that belong to the toolstack stay as they
    /// are.
    #[must_use]
    pub const fn new(source: &'static dyn TableSource) -> Self {
        Self {
            source,
            inner: SpinMutex::new(Inner {
                frames: Vec::new(),
                free: Vec::new(),
                held: Vec::new(),
                incarnation: 0,
            }),
        }
    }

    /// Lets `domain` use a page, until the grant is dropped and the peer has let go.
    ///
    /// # Errors
    /// [`Exhausted`]: no entry is left, or the frame's number does not fit one.
    pub fn grant(
        &self,
        domain: DomId,
        page: P,
        access: Access,
    ) -> Result<Grant<'_, P>, Exhausted<P>> {
        let Ok(frame) = u32::try_from(page.frame().number()) else {
            return Err(Exhausted(page));
        };
        let mut inner = self.inner.lock();
        let Some(reference) = inner.take(self.source) else {
            return Err(Exhausted(page));
        };
        if let Some(entry) = inner.entry(reference) {
            entry.set(domain, frame, access);
        }
        Ok(Grant {
            table: self,
            reference,
            incarnation: inner.incarnation,
            page: Some(page),
        })
    }

    /// The table was made anew, empty, at the same addresses: the guest was restored. Grants given
    /// before are over, whoever used them, and their pages belong to the guest alone.
    pub fn renew(&self) {
        let mut inner = self.inner.lock();
        inner.incarnation = inner.incarnation.wrapping_add(1);
        inner.free.clear();
        for index in 0..inner.frames.len() {
            inner.add_free(index);
        }
        let held = core::mem::take(&mut inner.held);
        // Pages go where they came from without this lock.
        drop(inner);
        drop(held);
    }

    /// How many frames of the table are in use.
    pub fn frames(&self) -> usize {
        self.inner.lock().frames.len()
    }

    /// Looks at what peers still used; returns how many pages they hold yet.
    pub fn reap(&self) -> usize {
        let mut inner = self.inner.lock();
        inner.reap();
        inner.held.len()
    }

    /// Ends a grant of an incarnation, if the peer does not use it.
    fn end(&self, reference: GrantRef, incarnation: u32) -> bool {
        let mut inner = self.inner.lock();
        if incarnation != inner.incarnation {
            // Gone with its table; the entry may be another's.
            return true;
        }
        let ended = inner.entry(reference).is_some_and(Entry::end);
        if ended {
            inner.free.push(reference);
        }
        ended
    }

    fn hold(&self, reference: GrantRef, page: P) {
        self.inner.lock().held.push((reference, page));
    }
}

impl<P> Inner<P> {
    fn entry(&self, reference: GrantRef) -> Option<&'static Entry> {
        let index = reference.0 as usize;
        self.frames
            .get(index / ENTRIES_PER_FRAME)?
            .get(index % ENTRIES_PER_FRAME)
    }

    fn take(&mut self, source: &'static dyn TableSource) -> Option<GrantRef> {
        if self.free.is_empty() {
            self.reap();
        }
        if self.free.is_empty() {
            let index = self.frames.len();
            let frame = source.frame(index)?;
            self.frames.push(frame);
            self.add_free(index);
        }
        self.free.pop()
    }

    /// The entries of a frame are free, but for the toolstack's.
    fn add_free(&mut self, index: usize) {
        let first = (index * ENTRIES_PER_FRAME) as u32;
        let last = first + ENTRIES_PER_FRAME as u32;
        let first = first.max(GNTTAB_NR_RESERVED_ENTRIES);
        // The lowest comes out first.
        self.free.extend((first..last).rev().map(GrantRef));
    }

    fn reap(&mut self) {
        let mut at = 0;
        while let Some(&(reference, _)) = self.held.get(at) {
            if self.entry(reference).is_some_and(Entry::end) {
                self.held.swap_remove(at);
                self.free.push(reference);
            } else {
                at += 1;
            }
        }
    }
}

/// A page that a peer may use.
///
/// When dropped, the grant ends; while the peer still uses the page, page and entry are kept
/// aside. It also ends when the guest is restored: the page is then the owner's alone.
pub struct Grant<'t, P: Share> {
    table: &'t GrantTable<P>,
    reference: GrantRef,
    /// That of the table when it was given.
    incarnation: u32,
    /// There until the grant has ended.
    page: Option<P>,
}

impl<P: Share> Grant<'_, P> {
    /// By what the peer finds it.
    #[must_use]
    pub const fn reference(&self) -> GrantRef {
        self.reference
    }

    /// Ends the grant and gives the page back.
    ///
    /// # Errors
    /// The grant itself: the peer still uses the page.
    pub fn end(mut self) -> Result<P, Self> {
        if self.table.end(self.reference, self.incarnation)
            && let Some(page) = self.page.take()
        {
            return Ok(page);
        }
        Err(self)
    }
}

impl<P: Share> Drop for Grant<'_, P> {
    fn drop(&mut self) {
        if let Some(page) = self.page.take()
            && !self.table.end(self.reference, self.incarnation)
        {
            self.table.hold(self.reference, page);
        }
    }
}

impl<P: Share> Deref for Grant<'_, P> {
    type Target = P;

    fn deref(&self) -> &P {
        match &self.page {
            Some(page) => page,
            None => unreachable!("the page is taken when the grant is gone"),
        }
    }
}

impl<P: Share> core::fmt::Debug for Grant<'_, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Grant").field(&self.reference).finish()
    }
}
