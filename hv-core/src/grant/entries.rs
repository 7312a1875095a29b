//! The granter's side: entries shared with the guest, and what is in use of them.

use super::{GrantError, GrantTable, Pages};
use crate::addr::{DomId, Mfn};
use crate::arch::index;
use crate::fallible::{self, Grow};
use crate::mm::page_ref::RefError;
use crate::mm::shared_page::SharedPage;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use xen_abi::grant_table as abi;

/// Entries in a frame (8 bytes each).
const PER_FRAME: u32 = 512;

// An entry's first word has the flags in its low and the grantee in its high half.
const READONLY: u32 = abi::GTF_READONLY as u32;
const READING: u32 = abi::GTF_READING as u32;
const WRITING: u32 = abi::GTF_WRITING as u32;
const TYPE_MASK: u32 = abi::GTF_TYPE_MASK as u32;
const PERMIT_ACCESS: u32 = abi::GTF_PERMIT_ACCESS as u32;
const SUB_PAGE: u32 = abi::GTF_SUB_PAGE as u32;

/// Times an entry that keeps changing is tried again. Its owner may rightly change
/// it once or twice meanwhile (to make it read-only, say).
const RETRIES: u32 = 5;

/// Most pins of one kind on an entry, as in Xen.
const MAX_PINS: u8 = 128;

/// A frame of entries. It belongs to the hypervisor and the guest may map it.
#[derive(Debug)]
pub struct GrantFrame {
    /// Its contents, all zero at first.
    pub page: SharedPage,
    /// Its number.
    pub mfn: Mfn,
}

/// Who uses a pin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// A page-table entry.
    Host,
    /// A device.
    Device,
    /// A copy by the hypervisor.
    Copy,
}

/// How an entry is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// By whom.
    pub user: Use,
    /// Only for reading.
    pub readonly: bool,
}

impl Pin {
    const fn index(self) -> usize {
        match (self.user, self.readonly) {
            (Use::Host | Use::Copy, true) => 0,
            (Use::Host | Use::Copy, false) => 1,
            (Use::Device, true) => 2,
            (Use::Device, false) => 3,
        }
    }
}

/// What is in use of one entry.
#[derive(Clone, Copy, Debug, Default)]
struct Active {
    /// Pins: host reading, host writing, device reading, device writing.
    pins: [u8; 4],
    /// The frame, while there are pins.
    frame: u32,
    /// The grantee, while there are pins.
    grantee: u16,
}

impl Active {
    fn is_pinned(&self) -> bool {
        self.pins != [0; 4]
    }

    fn is_written(&self) -> bool {
        self.pins[1] != 0 || self.pins[3] != 0
    }
}

#[derive(Debug)]
struct Block {
    frame: GrantFrame,
    active: Box<[Active]>,
}

#[derive(Debug)]
pub(super) struct Entries {
    blocks: Vec<Block>,
    max_blocks: u32,
    pins: u64,
}

impl Entries {
    pub(super) const fn new(max_blocks: u32) -> Self {
        Self {
            blocks: Vec::new(),
            max_blocks,
            pins: 0,
        }
    }

    /// First word, second word and use of entry `gref`.
    fn entry(&mut self, gref: u32) -> Result<Entry<'_>, GrantError> {
        let block = index::get_mut(&mut self.blocks, (gref / PER_FRAME) as usize)
            .ok_or(GrantError::BadRef)?;
        let n = (gref % PER_FRAME) as usize;
        Ok(Entry {
            header: block.frame.page.u32_at(n * 8),
            frame: block.frame.page.u32_at(n * 8 + 4),
            active: block.active.get_mut(n).ok_or(GrantError::BadRef)?,
            pins: &mut self.pins,
        })
    }
}

struct Entry<'a> {
    header: &'a AtomicU32,
    frame: &'a AtomicU32,
    active: &'a mut Active,
    pins: &'a mut u64,
}

impl Entry<'_> {
    /// Checks that the entry grants `pin` to `grantee`, and marks it in use, in one step.
    fn mark(&self, grantee: DomId, pin: Pin) -> Result<(), GrantError> {
        let mut mask = TYPE_MASK;
        if pin.user != Use::Copy {
            mask |= SUB_PAGE;
        }
        let mut seen = self.header.load(Ordering::SeqCst);
        for _ in 0..RETRIES {
            let granted = seen & mask == PERMIT_ACCESS && seen >> 16 == u32::from(grantee.0);
            if !granted && !self.active.is_pinned() {
                return Err(GrantError::General);
            }
            let mut new = seen | READING;
            if !pin.readonly {
                if seen & READONLY != 0 {
                    return Err(GrantError::General);
                }
                new |= WRITING;
            }
            match self
                .header
                .compare_exchange(seen, new, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
        Err(GrantError::General)
    }

    /// Takes away the marks that no pin needs.
    fn unmark(&self) {
        let mut stale = 0;
        if !self.active.is_written() {
            stale |= WRITING;
        }
        if !self.active.is_pinned() {
            stale |= READING;
        }
        if stale != 0 {
            self.header.fetch_and(!stale, Ordering::SeqCst);
        }
    }

    fn pin(
        &mut self,
        owner: DomId,
        grantee: DomId,
        pin: Pin,
        pages: &impl Pages,
    ) -> Result<Mfn, GrantError> {
        let pinned = self.active.is_pinned();
        if pinned {
            let full = self.active.pins.iter().any(|n| *n >= MAX_PINS);
            if full || self.active.grantee != grantee.0 {
                return Err(GrantError::General);
            }
        }
        if !pinned || (!pin.readonly && !self.active.is_written()) {
            self.mark(grantee, pin)?;
        }
        // While it is in use, the entry stands for the frame it named first.
        let frame = if pinned {
            self.active.frame
        } else {
            self.frame.load(Ordering::SeqCst)
        };
        let mfn = Mfn::new(u64::from(frame));
        if let Err(e) = pages.get(mfn, owner, !pin.readonly) {
            self.unmark();
            return Err(match e {
                RefError::NotOwned if !pinned => GrantError::BadPage,
                RefError::NotOwned | RefError::InUseAs(_) | RefError::Overflow => {
                    GrantError::General
                }
            });
        }
        self.active.frame = frame;
        self.active.grantee = grantee.0;
        self.active.pins[pin.index()] += 1;
        *self.pins += 1;
        Ok(mfn)
    }
}

impl GrantTable {
    /// Uses entry `gref` on behalf of `grantee`, who thereby gets a reference on the
    /// frame: a writable one unless the use is read-only.
    ///
    /// # Errors
    /// [`GrantError::BadRef`], [`GrantError::General`], [`GrantError::BadPage`].
    pub fn pin(
        &self,
        gref: u32,
        grantee: DomId,
        pin: Pin,
        pages: &impl Pages,
    ) -> Result<Mfn, GrantError> {
        let mut entries = self.entries.lock();
        entries.entry(gref)?.pin(self.owner, grantee, pin, pages)
    }

    /// Ends a use. No CPU may still have the mapping in its TLB. The reference on the
    /// frame is the caller's to give back.
    pub fn unpin(&self, gref: u32, pin: Pin) {
        let mut entries = self.entries.lock();
        let Ok(entry) = entries.entry(gref) else {
            return;
        };
        if let Some(n) = entry.active.pins[pin.index()].checked_sub(1) {
            entry.active.pins[pin.index()] = n;
            *entry.pins -= 1;
        }
        entry.unmark();
    }

    /// The frame entry `gref` stands for while it is in use.
    ///
    /// # Errors
    /// [`GrantError::BadRef`], or [`GrantError::General`] if it is not in use.
    pub fn pinned_frame(&self, gref: u32) -> Result<Mfn, GrantError> {
        let mut entries = self.entries.lock();
        let entry = entries.entry(gref)?;
        if !entry.active.is_pinned() {
            return Err(GrantError::General);
        }
        Ok(Mfn::new(u64::from(entry.active.frame)))
    }

    /// Uses of this domain's entries by anyone. Until it is 0 the table must stay.
    #[must_use]
    pub fn pins(&self) -> u64 {
        self.entries.lock().pins
    }

    /// Frames of entries: how many there are, and how many there may be.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        let entries = self.entries.lock();
        (entries.blocks.len() as u32, entries.max_blocks)
    }

    /// Names each frame of entries.
    pub fn for_each_frame(&self, mut each: impl FnMut(Mfn)) {
        for block in &self.entries.lock().blocks {
            each(block.frame.mfn);
        }
    }

    /// The `n`th frame of entries.
    #[must_use]
    pub fn frame(&self, n: u32) -> Option<Mfn> {
        Some(
            index::get(&self.entries.lock().blocks, n as usize)?
                .frame
                .mfn,
        )
    }

    /// Makes the table at least `frames` long, with zeroed frames from `alloc`.
    ///
    /// # Errors
    /// [`GrantError::General`]: more than the domain may have, or no memory. Frames
    /// added before memory ran out stay.
    pub fn grow(
        &self,
        frames: u32,
        mut alloc: impl FnMut() -> Option<GrantFrame>,
    ) -> Result<(), GrantError> {
        let mut entries = self.entries.lock();
        if frames > entries.max_blocks {
            return Err(GrantError::General);
        }
        while entries.blocks.len() < frames as usize {
            let active = fallible::boxed_slice(PER_FRAME as usize, |_| Active::default())
                .map_err(|_| GrantError::General)?;
            entries
                .blocks
                .try_reserve(1)
                .map_err(|_| GrantError::General)?;
            let frame = alloc().ok_or(GrantError::General)?;
            entries.blocks.push_reserved(Block { frame, active });
        }
        Ok(())
    }

    /// Writes an entry in the guest's stead (a domain builder, for the reserved ones).
    /// `false` if the table is too short.
    pub fn write_entry(&self, gref: u32, entry: abi::GrantEntryV1) -> bool {
        let mut entries = self.entries.lock();
        let Ok(at) = entries.entry(gref) else {
            return false;
        };
        at.frame.store(entry.frame, Ordering::SeqCst);
        let header = u32::from(entry.domid) << 16 | u32::from(entry.flags);
        at.header.store(header, Ordering::SeqCst);
        true
    }

    /// Takes the table apart, for its frames to be freed. Only without pins.
    ///
    /// # Errors
    /// Number of pins there still are; nothing changed.
    pub fn take_frames(&self) -> Result<impl Iterator<Item = GrantFrame> + use<>, u64> {
        let mut entries = self.entries.lock();
        if entries.pins != 0 {
            return Err(entries.pins);
        }
        let blocks = core::mem::take(&mut entries.blocks);
        entries.max_blocks = 0;
        Ok(blocks.into_iter().map(|b| b.frame))
    }
}
