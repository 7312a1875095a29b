//! PCI configuration space.
//!
//! The first 256 bytes of segment 0 go through ports 0xcf8/0xcfc under a lock (level
//! `Device`); the rest, and other segments, through the windows the MCFG names.
#![allow(unsafe_code, reason = "the configuration ports")]

use super::physical::Registers;
use super::port;
use crate::addr::MachAddr;
use crate::arch::msi::{ConfigSpace, PciAddress};
use crate::arch::platform::McfgRegion;
use crate::sync::{Level, Lock, Once};
use alloc::vec::Vec;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

/// Guards the pair of ports.
static PORTS: Lock<()> = Lock::new(Level::Device, ());
static WINDOWS: Once<Vec<McfgRegion>> = Once::new();

/// Notes the memory-mapped windows.
pub fn init(mcfg: &[McfgRegion]) {
    WINDOWS.call_once(|| mcfg.to_vec());
}

/// Width of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
}

impl Width {
    const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    const fn ones(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
        }
    }
}

/// Reads from a function's configuration space. All ones if there is nothing, or if
/// the offset is not aligned to the width.
#[must_use]
pub fn read(function: PciAddress, offset: u16, width: Width) -> u32 {
    if !offset.is_multiple_of(width.bytes()) {
        return width.ones();
    }
    if function.segment == 0 && offset < 256 {
        let _guard = PORTS.lock();
        select(function, offset);
        let data = DATA + (offset & 3);
        // SAFETY: a configuration read, of the register just selected.
        return unsafe {
            match width {
                Width::Byte => u32::from(port::read8(data)),
                Width::Word => u32::from(port::read16(data)),
                Width::Dword => port::read32(data),
            }
        };
    }
    let Some(space) = window(function).filter(|_| offset < 4096) else {
        return width.ones();
    };
    let dword = space.read32(usize::from(offset & !3));
    dword >> (8 * u32::from(offset & 3)) & width.ones()
}

/// Writes to a function's configuration space. Dropped if there is nothing, or if the
/// offset is not aligned to the width.
pub fn write(function: PciAddress, offset: u16, width: Width, value: u32) {
    if !offset.is_multiple_of(width.bytes()) {
        return;
    }
    if function.segment == 0 && offset < 256 {
        let _guard = PORTS.lock();
        select(function, offset);
        let data = DATA + (offset & 3);
        // SAFETY: a configuration write to the register just selected. What devices
        // may be told is decided by the caller; dom0 is trusted with them.
        unsafe {
            match width {
                Width::Byte => port::write8(data, value as u8),
                Width::Word => port::write16(data, value as u16),
                Width::Dword => port::write32(data, value),
            }
        }
        return;
    }
    let Some(space) = window(function).filter(|_| offset < 4096) else {
        return;
    };
    match width {
        Width::Byte => {
            // The register block has no byte access: merge. Status bits that clear on
            // writing ones are in words of their own.
            let at = usize::from(offset & !1);
            let shift = 8 * u32::from(offset & 1);
            let old = u32::from(space.read16(at)) & !(0xff << shift);
            space.write16(at, (old | (value & 0xff) << shift) as u16);
        }
        Width::Word => space.write16(usize::from(offset), value as u16),
        Width::Dword => space.write32(usize::from(offset), value),
    }
}

fn select(function: PciAddress, offset: u16) {
    let address = ENABLE
        | u32::from(function.bus) << 16
        | u32::from(function.devfn) << 8
        | u32::from(offset & 0xfc);
    // SAFETY: selects a register; the lock is held until it has been used.
    unsafe { port::write32(ADDRESS, address) };
}

/// The function's 4 KiB, if a window shows them.
fn window(function: PciAddress) -> Option<Registers> {
    let region = WINDOWS.get()?.iter().find(|r| {
        r.segment == function.segment && (r.first_bus..=r.last_bus).contains(&function.bus)
    })?;
    // The whole bus, so that the list of mappings stays short.
    let bus = region.base.raw() + (u64::from(function.bus) << 20);
    let all = Registers::map(MachAddr::from_guest(bus)?, 1 << 20)?;
    all.part(usize::from(function.devfn) << 12, 4096)
}

/// A function's configuration space.
#[derive(Clone, Copy, Debug)]
pub struct Function(pub PciAddress);

impl Function {
    /// Whether a function answers there.
    #[must_use]
    pub fn is_present(&self) -> bool {
        read(self.0, 0, Width::Word) != 0xffff
    }

    /// Whether the function answers to its memory BARs.
    #[must_use]
    pub fn decodes_memory(&self) -> bool {
        self.read16(4) & 2 != 0
    }
}

impl ConfigSpace for Function {
    fn read32(&self, offset: u16) -> u32 {
        read(self.0, offset, Width::Dword)
    }

    fn write32(&self, offset: u16, value: u32) {
        write(self.0, offset, Width::Dword, value);
    }

    fn write16(&self, offset: u16, value: u16) {
        write(self.0, offset, Width::Word, u32::from(value));
    }
}

/// Function and width of a domain's access to segment 0.
fn domain_access(bdf: u16, bytes: u8) -> (PciAddress, Width) {
    let function = PciAddress {
        segment: 0,
        bus: (bdf >> 8) as u8,
        devfn: bdf as u8,
    };
    let width = match bytes {
        1 => Width::Byte,
        2 => Width::Word,
        _ => Width::Dword,
    };
    (function, width)
}

/// Reads `bytes` (1, 2 or 4) of a function's configuration space.
#[must_use]
pub fn pci_read(bdf: u16, offset: u16, bytes: u8) -> u32 {
    let (function, width) = domain_access(bdf, bytes);
    read(function, offset, width)
}

/// Writes `bytes` (1, 2 or 4) of a function's configuration space.
pub fn pci_write(bdf: u16, offset: u16, bytes: u8, value: u32) {
    let (function, width) = domain_access(bdf, bytes);
    write(function, offset, width, value);
}
