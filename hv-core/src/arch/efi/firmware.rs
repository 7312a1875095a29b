//! What EFI firmware says of itself, and which memory it goes on using. Pure.
//!
//! Source: UEFI Specification 2.10, 4.2 (headers), 4.3 (system table), 4.5 (runtime services),
//! 7.2 (memory descriptors).

use super::{list_of_tables, word};
use core::ops::Range;

/// Most regions of the memory map kept.
pub const MAX_REGIONS: usize = 512;
/// Bytes of a memory descriptor that count; firmware's may be longer.
pub const DESCRIPTOR: usize = 40;
/// Bytes of the table of runtime services.
pub const RUNTIME_SERVICES: usize = 136;
/// Characters of the vendor's name kept, its final NUL among them.
pub const MAX_VENDOR: usize = 100;

const RUNTIME_SIGNATURE: &[u8; 8] = b"RUNTSERV";
const PAGE_SIZE: u64 = 4096;
/// Runtime services are called with this memory mapped one to one, so it has to be in the lower
/// half of the address space.
const LOWER_HALF: u64 = 1 << 47;

/// Memory types that matter. Source: table 7.6.
const RUNTIME_SERVICES_CODE: u32 = 5;

/// Attribute bits of a region. Source: table 7.7.
const UNCACHED: u64 = 1;
const WRITE_COMBINING: u64 = 1 << 1;
const WRITE_THROUGH: u64 = 1 << 2;
const WRITE_BACK: u64 = 1 << 3;
const RUNTIME: u64 = 1 << 63;

/// A region of firmware's memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Type.
    pub kind: u32,
    /// First machine address.
    pub start: u64,
    /// Pages of 4 KiB.
    pub pages: u64,
    /// Attributes.
    pub attributes: u64,
}

/// How memory is cached, as far as firmware says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// Memory.
    WriteBack,
    /// Memory that devices watch.
    WriteThrough,
    /// A buffer of a device.
    WriteCombining,
    /// Registers.
    Uncached,
}

impl Region {
    /// Reads a memory descriptor. `None` if it is too short.
    #[must_use]
    pub fn read(descriptor: &[u8]) -> Option<Self> {
        Some(Self {
            kind: word(descriptor, 0)? as u32,
            start: word(descriptor, 8)?,
            pages: word(descriptor, 24)?,
            attributes: word(descriptor, 32)?,
        })
    }

    /// Its machine addresses; empty if the numbers make no sense.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        let end = self
            .pages
            .checked_mul(PAGE_SIZE)
            .and_then(|len| self.start.checked_add(len));
        self.start..end.unwrap_or(self.start)
    }

    /// Whether runtime services use it, and it can be mapped for them.
    #[must_use]
    pub fn is_runtime(&self) -> bool {
        let range = self.range();
        self.attributes & RUNTIME != 0
            && !range.is_empty()
            && range.start.is_multiple_of(PAGE_SIZE)
            && range.end <= LOWER_HALF
    }

    /// Whether it holds code (with its data: the parts are not told apart here).
    #[must_use]
    pub const fn is_code(&self) -> bool {
        self.kind == RUNTIME_SERVICES_CODE
    }

    /// The fastest way of caching that firmware allows.
    #[must_use]
    pub const fn caching(&self) -> Caching {
        if self.attributes & WRITE_BACK != 0 {
            Caching::WriteBack
        } else if self.attributes & WRITE_THROUGH != 0 {
            Caching::WriteThrough
        } else if self.attributes & (WRITE_COMBINING | UNCACHED) == WRITE_COMBINING {
            Caching::WriteCombining
        } else {
            Caching::Uncached
        }
    }
}

/// What the system table says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// Version of the specification it follows.
    pub revision: u32,
    /// Machine address of the vendor's name.
    pub vendor_at: u64,
    /// The vendor's own version.
    pub vendor_revision: u32,
    /// Machine address of the table of runtime services.
    pub services_at: u64,
    /// Machine address and number of the configuration tables.
    pub tables: (u64, usize),
}

impl Firmware {
    /// Reads the system table.
    #[must_use]
    pub fn read(system_table: &[u8]) -> Option<Self> {
        Some(Self {
            tables: list_of_tables(system_table)?,
            revision: word(system_table, 8)? as u32,
            vendor_at: word(system_table, 24)?,
            vendor_revision: word(system_table, 32)? as u32,
            services_at: word(system_table, 88)?,
        })
    }
}

/// The runtime services that are offered to dom0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// `GetTime`.
    GetTime = 24,
    /// `SetTime`.
    SetTime = 32,
    /// `GetWakeupTime`.
    GetWakeupTime = 40,
    /// `SetWakeupTime`.
    SetWakeupTime = 48,
    /// `GetVariable`.
    GetVariable = 72,
    /// `GetNextVariableName`.
    GetNextVariableName = 80,
    /// `SetVariable`.
    SetVariable = 88,
    /// `GetNextHighMonotonicCount`.
    GetNextHighMonotonicCount = 96,
    /// `QueryVariableInfo`, since version 2.0.
    QueryVariableInfo = 128,
}

/// The table of runtime services.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services {
    /// Its version.
    pub revision: u32,
    table: [u8; RUNTIME_SERVICES],
}

impl Services {
    /// Reads the table. `None` if it is not one.
    #[must_use]
    pub fn read(table: &[u8]) -> Option<Self> {
        let table: [u8; RUNTIME_SERVICES] = table.get(..RUNTIME_SERVICES)?.try_into().ok()?;
        table.starts_with(RUNTIME_SIGNATURE).then_some(Self {
            revision: word(&table, 8)? as u32,
            table,
        })
    }

    /// Whether the services of version 2.0 are there.
    #[must_use]
    pub const fn has_version_2(&self) -> bool {
        self.revision >> 16 >= 2
    }

    /// Machine address of a service's code.
    #[must_use]
    pub fn address(&self, service: Service) -> Option<u64> {
        word(&self.table, service as usize).filter(|at| *at != 0)
    }
}

/// The region that holds `address`.
#[must_use]
pub fn region_of(map: &[Region], address: u64) -> Option<&Region> {
    map.iter().find(|region| region.range().contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn region(kind: u32, start: u64, pages: u64, attributes: u64) -> Region {
        Region {
            kind,
            start,
            pages,
            attributes,
        }
    }

    #[test]
    fn descriptors_are_read() {
        let mut bytes = Vec::new();
        for word in [6, 0x7e00_0000, 0, 16, RUNTIME | WRITE_BACK | UNCACHED, 99] {
            bytes.extend(u64::to_le_bytes(word));
        }
        let read = Region::read(&bytes).expect("long enough");
        assert_eq!(read, region(6, 0x7e00_0000, 16, RUNTIME | 9));
        assert_eq!(read.range(), 0x7e00_0000..0x7e01_0000);
        assert!(read.is_runtime() && !read.is_code());
        assert_eq!(read.caching(), Caching::WriteBack);
        assert_eq!(Region::read(&bytes[..DESCRIPTOR - 1]), None);
    }

    #[test]
    fn only_what_can_be_mapped_is_for_runtime_services() {
        assert!(region(5, 0x1000, 1, RUNTIME).is_runtime());
        assert!(region(5, 0x1000, 1, RUNTIME).is_code());
        for wrong in [
            region(5, 0x1000, 1, 0),
            region(5, 0x1001, 1, RUNTIME),
            region(5, 0x1000, 0, RUNTIME),
            region(5, 0x1000, u64::MAX, RUNTIME),
            region(5, u64::MAX - 4095, 1, RUNTIME),
            region(5, LOWER_HALF - 4096, 2, RUNTIME),
        ] {
            assert!(!wrong.is_runtime(), "{wrong:?}");
        }
    }

    #[test]
    fn caching() {
        for (attributes, caching) in [
            (0xf, Caching::WriteBack),
            (0x7, Caching::WriteThrough),
            (0x3, Caching::Uncached),
            (0x2, Caching::WriteCombining),
            (0x1, Caching::Uncached),
            (0, Caching::Uncached),
        ] {
            assert_eq!(region(11, 0, 1, attributes).caching(), caching);
        }
    }

    #[test]
    fn the_tables_are_read() {
        let mut system = [0; 120];
        system[..8].copy_from_slice(b"IBI SYST");
        system[8..12].copy_from_slice(&0x2_0046_u32.to_le_bytes());
        system[25] = 0x20;
        system[32] = 7;
        system[89] = 0x30;
        (system[104], system[113]) = (2, 0x40);
        let firmware = Firmware::read(&system).expect("a system table");
        assert_eq!((firmware.revision, firmware.vendor_at), (0x2_0046, 0x2000));
        assert_eq!(
            (firmware.vendor_revision, firmware.services_at),
            (7, 0x3000)
        );
        assert_eq!(firmware.tables, (0x4000, 2));
        assert_eq!(Firmware::read(&[0; 120]), None);

        let mut table = [0; RUNTIME_SERVICES];
        table[..8].copy_from_slice(RUNTIME_SIGNATURE);
        table[10] = 2;
        table[73] = 0x50;
        let services = Services::read(&table).expect("a table of services");
        assert!(services.has_version_2());
        assert_eq!(services.address(Service::GetVariable), Some(0x5000));
        assert_eq!(services.address(Service::SetVariable), None);
        assert_eq!(Services::read(&table[..135]), None);
        table[10] = 1;
        assert!(!Services::read(&table).expect("a table").has_version_2());
        table[0] = 0;
        assert_eq!(Services::read(&table), None);
    }

    #[test]
    fn regions_are_found_by_address() {
        let map = [region(5, 0x1000, 1, 0), region(6, 0x4000, 2, 0)];
        assert_eq!(region_of(&map, 0x5fff), Some(&map[1]));
        assert_eq!(region_of(&map, 0x2000), None);
    }
}
