//! Device frames that hold MSI-X tables in use. The hypervisor programs and masks their
//! entries, so nobody else may write them. Pure but for its lock.
//!
//! As in Xen, what was mapped before stays mapped as it is.

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
    /// Entries in use.
    entries: u32,
}

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
        let table = Table {
            device,
            frames,
            entries: 1,
        };
        if tables.push(table).is_err() {
            log::warn!("{device}: more MSI-X tables than can be protected");
        }
    }

    /// An entry of `device`'s table is no longer in use.
    pub fn entry_given(&self, device: PciAddress) {
        let mut tables = self.0.lock();
        let Some(n) = tables.iter().position(|t| t.device == device) else {
            return;
        };
        tables[n].entries -= 1;
        if tables[n].entries == 0 {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_protected_while_entries_are_in_use() {
        let device = |devfn| PciAddress {
            segment: 0,
            bus: 0,
            devfn,
        };
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
