//! EFI: what its tables say (pure: the caller reads memory), and its runtime services.
//!
//! Source: UEFI Specification 2.10, sections 4.3 and 4.6.

pub mod firmware;
pub mod runtime;

pub use firmware::{Caching, Firmware, Region, Service, Services};

use crate::sync::Once;

/// What is known of this machine's firmware.
#[derive(Debug)]
pub struct Facts {
    /// The system table.
    pub firmware: Firmware,
    /// The vendor's name, with a NUL.
    pub vendor: heapless::Vec<u16, { firmware::MAX_VENDOR }>,
    /// Version of the runtime services, if they can be called.
    pub services_revision: Option<u32>,
    /// The memory map.
    pub map: &'static [Region],
}

static FACTS: Once<Facts> = Once::new();

/// Notes what is known. The first call counts.
pub fn set_facts(facts: Facts) {
    FACTS.call_once(|| facts);
}

/// What is known; `None` on a machine without EFI firmware.
#[must_use]
pub fn facts() -> Option<&'static Facts> {
    FACTS.get()
}

/// Bytes of the 64-bit system table.
pub const SYSTEM_TABLE: usize = 120;
/// Bytes of an entry of the list of tables.
pub const ENTRY: usize = 24;
/// Most entries believed.
const MOST: u64 = 256;

const SIGNATURE: &[u8; 8] = b"IBI SYST";
/// `8868e871-e4f1-11d3-bc22-0080c73c8881`: the root pointer of ACPI 2.0 and later.
const ACPI_20: [u8; 16] = *b"\x71\xe8\x68\x88\xf1\xe4\xd3\x11\xbc\x22\x00\x80\xc7\x3c\x88\x81";
/// `eb9d2d30-2d88-11d3-9a16-0090273fc14d`: that of ACPI 1.0.
const ACPI_10: [u8; 16] = *b"\x30\x2d\x9d\xeb\x88\x2d\xd3\x11\x9a\x16\x00\x90\x27\x3f\xc1\x4d";

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*word))
}

/// Machine address and number of entries of the list of tables.
#[must_use]
pub fn list_of_tables(system_table: &[u8]) -> Option<(u64, usize)> {
    if !system_table.starts_with(SIGNATURE) {
        return None;
    }
    let (count, at) = (word(system_table, 104)?, word(system_table, 112)?);
    (count <= MOST && at != 0).then_some((at, count as usize))
}

/// Machine address of ACPI's root pointer, the newer one if there are two.
#[must_use]
pub fn acpi_root(list: &[u8]) -> Option<u64> {
    let find = |id: &[u8; 16]| {
        let (entries, _) = list.as_chunks::<ENTRY>();
        let entry = entries.iter().find(|entry| entry.starts_with(id))?;
        word(entry, 16).filter(|at| *at != 0)
    };
    find(&ACPI_20).or_else(|| find(&ACPI_10))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn list(entries: &[([u8; 16], u64)]) -> Vec<u8> {
        let bytes = |(id, at): &([u8; 16], u64)| [&id[..], &at.to_le_bytes()].concat();
        entries.iter().flat_map(bytes).collect()
    }

    #[test]
    fn the_newer_root_pointer_counts() {
        let other = [7; 16];
        assert_eq!(
            acpi_root(&list(&[(other, 1), (ACPI_10, 2), (ACPI_20, 3)])),
            Some(3)
        );
        assert_eq!(acpi_root(&list(&[(other, 1), (ACPI_10, 2)])), Some(2));
        assert_eq!(acpi_root(&list(&[(other, 1), (ACPI_20, 0)])), None);
        assert_eq!(acpi_root(&list(&[(ACPI_20, 3)])[..23]), None);
    }

    #[test]
    fn a_system_table_is_recognised() {
        let mut table = [0; SYSTEM_TABLE];
        table[..8].copy_from_slice(SIGNATURE);
        table[104] = 9;
        table[113] = 0x10;
        assert_eq!(list_of_tables(&table), Some((0x1000, 9)));
        assert_eq!(list_of_tables(&table[..100]), None);
        table[110] = 1;
        assert_eq!(list_of_tables(&table), None);
        assert_eq!(list_of_tables(&[0; SYSTEM_TABLE]), None);
    }
}
