//! A page table that no vCPU uses: built, pinned and taken apart again.

use xen_abi::xen::{MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE, UVMF_INVLPG};

use super::frames::OwnPage;
use super::mmu::{self, DATA, ENTRIES, READ_ONLY};
use crate::hypercall::Errno;
use crate::ring::Page;

/// An L1 table. What it maps is seen nowhere.
#[derive(Debug)]
pub struct Table {
    /// Taken out when it is a page again.
    page: Option<OwnPage>,
    pinned: bool,
}

impl Table {
    /// An empty table.
    ///
    /// # Errors
    /// `ENOMEM`: no memory is left; others: the hypervisor's.
    pub fn new() -> Result<Self, Errno> {
        Self::filled(0, None)
    }

    /// A table whose first `count` entries map a page read-only.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn filled(count: usize, with: Option<&OwnPage>) -> Result<Self, Errno> {
        let page = OwnPage::new().ok_or(Errno(xen_abi::errno::ENOMEM))?;
        if let Some(with) = with {
            let entry = with.mfn() << 12 | READ_ONLY;
            for index in 0..count.min(ENTRIES) {
                page.write(index * 8, &entry.to_ne_bytes());
            }
        }
        let mut table = Self {
            page: Some(page),
            pinned: false,
        };
        table.set_writable(false)?;
        Ok(table)
    }

    fn set_writable(&mut self, writable: bool) -> Result<(), Errno> {
        match &self.page {
            Some(page) => page.set_writable(writable),
            None => Ok(()),
        }
    }

    fn mfn(&self) -> u64 {
        self.page.as_ref().map_or(0, OwnPage::mfn)
    }

    /// Makes the hypervisor check it and keep it a table.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn pin(&mut self) -> Result<(), Errno> {
        // SAFETY: no mapping of the kernel changes.
        unsafe { mmu::mmuext(MMUEXT_PIN_L1_TABLE, self.mfn(), 0) }?;
        self.pinned = true;
        Ok(())
    }

    /// Undoes [`pin`](Self::pin).
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn unpin(&mut self) -> Result<(), Errno> {
        // SAFETY: no mapping of the kernel changes.
        unsafe { mmu::mmuext(MMUEXT_UNPIN_TABLE, self.mfn(), 0) }?;
        self.pinned = false;
        Ok(())
    }

    /// Sets an entry of a pinned table: a page, read-only, or nothing.
    ///
    /// # Errors
    /// `EINVAL`: no such entry; others: the hypervisor's.
    pub fn set(&mut self, index: usize, to: Option<&OwnPage>) -> Result<(), Errno> {
        if index >= ENTRIES || !self.pinned {
            return Err(Errno(xen_abi::errno::EINVAL));
        }
        let entry = to.map_or(0, |page| page.mfn() << 12 | READ_ONLY);
        // SAFETY: the table is used by no vCPU.
        unsafe { mmu::mmu_update((self.mfn() << 12) + index as u64 * 8, entry) }
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        let free = (!self.pinned || self.unpin().is_ok()) && self.set_writable(true).is_ok();
        if !free && let Some(page) = self.page.take() {
            // Still a table: not a page that could be written.
            core::mem::forget(page);
        }
    }
}

impl OwnPage {
    /// Maps the page read-only, or writable again. A write meanwhile is an exception.
    ///
    /// # Errors
    /// The hypervisor's.
    pub fn set_writable(&self, writable: bool) -> Result<(), Errno> {
        let rights = if writable { DATA } else { READ_ONLY };
        // SAFETY: the same frame as before.
        unsafe { mmu::update_va_mapping(self.address(), self.mfn() << 12 | rights, UVMF_INVLPG) }
    }
}
