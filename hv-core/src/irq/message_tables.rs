//! Device frames that hold MSI-X tables in use. The hypervisor programs and masks their
//! entries, so nobody else may write them. Pure but for its lock.
//!
//! A table is in use from the moment the hardware domain prepares the function for another
//! domain, or has an entry numbered. As in Xen, what was mapped before that stays mapped as it
//! is: dom0 maps the tables of its own devices first, and is trusted with them. Whoever passes a
//! device on (Linux' `xen-pciback` does) prepares it before the other domain has its memory.

use crate::addr::Mfn;
use crate::arch::msi::PciAddress;
use crate::sync::{Level, Lock};
use core::ops::Range;

/// Functions with MSI-X that can be told apart; tables of further ones stay writable.
const MOST: usize = 128;

#[derive(Debug)]
struct Table {
    device: PciAddress,
    frames: Range<u64>,
    /// Whether it is kept for a function that is prepared.
    prepared: bool,
    /// Entries in use.
    entries: u32,
}

/// Why a function was not prepared or released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InUse;

/// The tables in use.
#[derive(Debug)]
pub struct MessageTables(Lock<heapless::Vec<Table, MOST>>);

impl Default for MessageTables {
    fn default() -> Self {
        Self::new()
    }
}

impl MessageTables {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(Lock::new(Level::Device, heapless::Vec::new()))
    }

    /// An entry of `device`'s table, which is in `frames`, came into use.
    pub fn entry_taken(&self, device: PciAddress, frames: Range<u64>) {
        let mut tables = self.0.lock();
        if let Some(table) = tables.iter_mut().find(|t| t.device == device) {
            table.entries += 1;
            return;
        }
        add(&mut tables, device, frames, false);
    }

    /// `device`, whose table is in `frames`, is prepared for another domain.
    ///
    /// # Errors
    /// [`InUse`].
    pub fn prepare(&self, device: PciAddress, frames: Range<u64>) -> Result<(), InUse> {
        let mut tables = self.0.lock();
        if tables.iter().any(|t| t.device == device) {
            return Err(InUse);
        }
        add(&mut tables, device, frames, true);
        Ok(())
    }

    /// `device` is no longer prepared.
    ///
    /// # Errors
    /// [`InUse`]: it was not, or has entries in use.
    pub fn release(&self, device: PciAddress) -> Result<(), InUse> {
        let mut tables = self.0.lock();
        let found = |t: &Table| t.device == device && t.prepared && t.entries == 0;
        let n = tables.iter().position(found).ok_or(InUse)?;
        tables.swap_remove(n);
        Ok(())
    }

    /// An entry of `device`'s table is no longer in use.
    pub fn entry_given(&self, device: PciAddress) {
        let mut tables = self.0.lock();
        let Some(n) = tables.iter().position(|t| t.device == device) else {
            return;
        };
        let table = &mut tables[n];
        table.entries = table.entries.saturating_sub(1);
        if table.entries == 0 && !table.prepared {
            tables.swap_remove(n);
        }
    }

    /// Whether frame `mfn` holds a part of a table in use.
    #[must_use]
    pub fn contains(&self, mfn: Mfn) -> bool {
        let tables = self.0.lock();
        tables.iter().any(|t| t.frames.contains(&mfn.raw()))
    }
}

/// Adds a table, with one entry in use unless the function is only prepared.
fn add(
    tables: &mut heapless::Vec<Table, MOST>,
    device: PciAddress,
    frames: Range<u64>,
    prepared: bool,
) {
    let table = Table {
        device,
        frames,
        prepared,
        entries: (!prepared).into(),
    };
    if tables.push(table).is_err() {
        log::warn!("{device}: more MSI-X tables than can be protected");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn device(devfn: u8) -> PciAddress {
        PciAddress {
            segment: 0,
            bus: 0,
            devfn,
        }
    }

    #[test]
    fn a_prepared_function_is_protected_before_it_has_entries() {
        let tables = MessageTables::new();
        let mfn = Mfn::new(0xfebc1);
        tables.prepare(device(8), 0xfebc1..0xfebc2).unwrap();
        assert!(tables.contains(mfn));
        assert_eq!(tables.prepare(device(8), 0xfebc1..0xfebc2), Err(InUse));
        tables.entry_taken(device(8), 0xfebc1..0xfebc2);
        assert_eq!(tables.release(device(8)), Err(InUse));
        tables.entry_given(device(8));
        assert!(tables.contains(mfn), "still prepared");
        tables.release(device(8)).unwrap();
        assert!(!tables.contains(mfn));
        assert_eq!(tables.release(device(8)), Err(InUse));
        // What is in use by itself is not prepared, and stays.
        tables.entry_taken(device(8), 0xfebc1..0xfebc2);
        assert_eq!(tables.prepare(device(8), 0xfebc1..0xfebc2), Err(InUse));
        assert_eq!(tables.release(device(8)), Err(InUse));
        assert!(tables.contains(mfn));
    }

    #[test]
    fn a_table_is_protected_while_entries_are_in_use() {
        let tables = MessageTables::new();
        let mfn = Mfn::new(0xfebc1);
        tables.entry_taken(device(8), 0xfebc1..0xfebc2);
        tables.entry_taken(device(8), 0xfebc1..0xfebc2);
        tables.entry_taken(device(16), 0xfebd0..0xfebd2);
        assert!(tables.contains(mfn) && tables.contains(Mfn::new(0xfebd1)));
        assert!(!tables.contains(Mfn::new(0xfebc2)));
        tables.entry_given(device(8));
        assert!(tables.contains(mfn));
        tables.entry_given(device(8));
        tables.entry_given(device(24));
        assert!(!tables.contains(mfn) && tables.contains(Mfn::new(0xfebd0)));
    }
}
