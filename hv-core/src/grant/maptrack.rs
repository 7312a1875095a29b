//! The mapper's side: handles of the grants it has mapped.

use super::{GrantError, GrantTable};
use crate::addr::DomId;
use crate::arch::index;
use crate::fallible::{self, Grow};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Handles in a block.
const PER_BLOCK: usize = 256;

/// A mapping's number, as the guest knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle(pub u32);

/// A grant that is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Whose grant it is.
    pub granter: DomId,
    /// Which one.
    pub gref: u32,
    /// In a page table.
    pub host: bool,
    /// For a device.
    pub device: bool,
    /// Only for reading.
    pub readonly: bool,
    /// For user mode, too.
    pub application: bool,
    /// Placed by the machine address of its page-table entry.
    pub by_pte: bool,
}

const HOST: u8 = 1;
const DEVICE: u8 = 2;
const READONLY: u8 = 4;
const APPLICATION: u8 = 8;
const BY_PTE: u8 = 16;
/// Taken, but its mapping is being made or unmade.
const BUSY: u8 = 128;

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// The grant's number; in a free slot, 1 + the next free handle (0: none).
    word: u32,
    granter: u16,
    /// 0: free.
    flags: u8,
}

impl Slot {
    fn mapping(self) -> Mapping {
        Mapping {
            granter: DomId(self.granter),
            gref: self.word,
            host: self.flags & HOST != 0,
            device: self.flags & DEVICE != 0,
            readonly: self.flags & READONLY != 0,
            application: self.flags & APPLICATION != 0,
            by_pte: self.flags & BY_PTE != 0,
        }
    }
}

#[derive(Debug)]
pub(super) struct MapTrack {
    blocks: Vec<Box<[Slot]>>,
    max_blocks: u32,
    /// 1 + a free handle (0: none).
    free: u32,
    used: u32,
}

impl MapTrack {
    pub(super) const fn new(max_blocks: u32) -> Self {
        Self {
            blocks: Vec::new(),
            max_blocks,
            free: 0,
            used: 0,
        }
    }

    fn slot(&mut self, handle: Handle) -> Option<&mut Slot> {
        let n = handle.0 as usize;
        index::get_mut(&mut self.blocks, n / PER_BLOCK)?.get_mut(n % PER_BLOCK)
    }

    /// Adds a block of free handles, lowest first.
    fn grow(&mut self) -> Result<(), GrantError> {
        if self.blocks.len() >= self.max_blocks as usize {
            return Err(GrantError::NoSpace);
        }
        let base = (self.blocks.len() * PER_BLOCK) as u32;
        let block = fallible::boxed_slice(PER_BLOCK, |n| Slot {
            word: if n + 1 == PER_BLOCK {
                self.free
            } else {
                base + n as u32 + 2
            },
            granter: 0,
            flags: 0,
        });
        block
            .and_then(|block| self.blocks.try_push(block))
            .map_err(|_| GrantError::NoSpace)?;
        self.free = base + 1;
        Ok(())
    }

    fn take(&mut self) -> Result<Handle, GrantError> {
        if self.free == 0 {
            self.grow()?;
        }
        let handle = Handle(self.free - 1);
        let slot = self.slot(handle).ok_or(GrantError::NoSpace)?;
        let next = slot.word;
        slot.flags = BUSY;
        self.free = next;
        self.used += 1;
        Ok(handle)
    }

    fn give(&mut self, handle: Handle) {
        let next = self.free;
        if let Some(slot) = self.slot(handle) {
            *slot = Slot {
                word: next,
                granter: 0,
                flags: 0,
            };
            self.free = handle.0 + 1;
            self.used -= 1;
        }
    }
}

impl GrantTable {
    /// Takes a handle for a mapping that is about to be made.
    ///
    /// # Errors
    /// [`GrantError::NoSpace`]: all that the domain may have are in use, or no memory.
    pub fn reserve(&self) -> Result<Handle, GrantError> {
        self.maptrack.lock().take()
    }

    /// The mapping of a reserved handle was made.
    pub fn commit(&self, handle: Handle, mapping: Mapping) {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = flag(mapping.host, HOST)
            | flag(mapping.device, DEVICE)
            | flag(mapping.readonly, READONLY)
            | flag(mapping.application, APPLICATION)
            | flag(mapping.by_pte, BY_PTE);
        if let Some(slot) = self.maptrack.lock().slot(handle)
            && slot.flags == BUSY
        {
            *slot = Slot {
                word: mapping.gref,
                granter: mapping.granter.0,
                flags,
            };
        }
    }

    /// The mapping of a reserved handle was not made.
    pub fn cancel(&self, handle: Handle) {
        let mut track = self.maptrack.lock();
        if track.slot(handle).is_some_and(|s| s.flags == BUSY) {
            track.give(handle);
        }
    }

    /// Looks up a mapping that is about to be unmade; until
    /// [`GrantTable::finish_unmap`] nobody else can do so.
    ///
    /// # Errors
    /// [`GrantError::BadHandle`].
    pub fn begin_unmap(&self, handle: Handle) -> Result<Mapping, GrantError> {
        let mut track = self.maptrack.lock();
        let slot = track.slot(handle).ok_or(GrantError::BadHandle)?;
        if slot.flags == 0 || slot.flags & BUSY != 0 {
            return Err(GrantError::BadHandle);
        }
        let mapping = slot.mapping();
        slot.flags |= BUSY;
        Ok(mapping)
    }

    /// Ends what [`GrantTable::begin_unmap`] began; `host` and `device` say which
    /// mappings are gone. The handle goes with the last.
    pub fn finish_unmap(&self, handle: Handle, host: bool, device: bool) {
        let mut track = self.maptrack.lock();
        let Some(slot) = track.slot(handle) else {
            return;
        };
        slot.flags &= !BUSY;
        if host {
            slot.flags &= !HOST;
        }
        if device {
            slot.flags &= !DEVICE;
        }
        if slot.flags & (HOST | DEVICE) == 0 {
            track.give(handle);
        }
    }

    /// Handles in use.
    #[must_use]
    pub fn mappings(&self) -> u32 {
        self.maptrack.lock().used
    }

    /// The mapping of handle `n`; `None` beyond the last handle there is.
    fn mapping_at(&self, n: u32) -> Option<Option<Mapping>> {
        let slot = *self.maptrack.lock().slot(Handle(n))?;
        Some((slot.flags & (HOST | DEVICE) != 0).then(|| slot.mapping()))
    }

    /// Shows each mapping there is, without a lock.
    pub fn for_each_mapping(&self, mut each: impl FnMut(Mapping)) {
        let all = (0..u32::MAX).map_while(|n| self.mapping_at(n));
        for mapping in all.flatten() {
            each(mapping);
        }
    }

    /// Takes up to `budget` mappings from a domain that is being destroyed; `each`
    /// unpins them. Page-table entries keep and lose their references by themselves.
    /// Answers with the handle to go on from, if any is left.
    pub fn drop_mappings(
        &self,
        from: Handle,
        budget: usize,
        mut each: impl FnMut(Mapping),
    ) -> Option<Handle> {
        let mut handle = from;
        for _ in 0..budget {
            let mapping = {
                let mut track = self.maptrack.lock();
                let slot = *track.slot(handle)?;
                if slot.flags != 0 {
                    track.give(handle);
                }
                (slot.flags & (HOST | DEVICE) != 0).then(|| slot.mapping())
            };
            if let Some(mapping) = mapping {
                each(mapping);
            }
            handle = Handle(handle.0.checked_add(1)?);
        }
        Some(handle)
    }
}
