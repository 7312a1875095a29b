//! A peer's page, mapped here.

use alloc::vec::Vec;

use spin::mutex::SpinMutex;

use crate::hypercall::{Access, DomId, Errno, GrantError, GrantHandle, GrantRef, Hypervisor};
use crate::hypercall::{RawPage, Slot};
use crate::ring::Page;

/// Addresses where peers' pages are mapped; those that are free.
#[derive(Debug, Default)]
pub struct Slots(SpinMutex<Vec<Slot>>);

impl Slots {
    /// None yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(SpinMutex::new(Vec::new()))
    }

    /// Adds a free one.
    pub fn put(&self, slot: Slot) {
        self.0.lock().push(slot);
    }

    /// How many are free.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether none is free.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn take(&self) -> Option<Slot> {
        self.0.lock().pop()
    }
}

/// A peer's granted page, mapped until this is dropped.
#[derive(Debug)]
pub struct Mapping<H: Hypervisor> {
    hypervisor: H,
    slots: &'static Slots,
    page: RawPage,
    /// Given back when dropped.
    mapped: Option<(Slot, GrantHandle)>,
}

impl<H: Hypervisor> Mapping<H> {
    /// Maps a page that `domain` has granted.
    ///
    /// # Errors
    /// `ENOSPC`: no slot is free; others: what the hypervisor says of the grant.
    pub fn new(
        hypervisor: H,
        slots: &'static Slots,
        domain: DomId,
        reference: GrantRef,
        access: Access,
    ) -> Result<Self, GrantError> {
        let slot = slots
            .take()
            .ok_or(GrantError::Call(Errno(xen_abi::errno::ENOSPC)))?;
        match hypervisor.map_grant(&slot, domain, reference, access) {
            Ok((handle, page)) => Ok(Self {
                hypervisor,
                slots,
                page,
                mapped: Some((slot, handle)),
            }),
            Err(why) => {
                slots.put(slot);
                Err(why)
            }
        }
    }
}

impl<H: Hypervisor> Drop for Mapping<H> {
    fn drop(&mut self) {
        if let Some((slot, handle)) = self.mapped.take()
            && self.hypervisor.unmap_grant(&slot, handle).is_ok()
        {
            self.slots.put(slot);
            // Otherwise something is still there, and the slot serves nobody else.
        }
    }
}

impl<H: Hypervisor> Page for Mapping<H> {
    fn read(&self, offset: usize, into: &mut [u8]) {
        self.page.read(offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.page.write(offset, from);
    }

    fn load(&self, offset: usize) -> u32 {
        self.page.load(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        self.page.store(offset, value);
    }
}
