//! PCI configuration space.
//!
//! The first 256 bytes of segment 0 go through ports 0xcf8/0xcfc under a lock (level
//! `Device`); the rest, and other segments, through the windows the MCFG names.
#![allow(unsafe_code, reason = "the configuration ports")]

use super::physical::Registers;
use super::port;
use crate::addr::MachAddr;
use crate::arch::config_access::{self, ConfigRegisters, Width};
use crate::arch::msi::{ConfigSpace, PciAddress};
use crate::arch::platform::McfgRegion;
use crate::sync::{Guard, Level, Lock, Once};
use alloc::vec::Vec;

const ADDRESS: u16 = 0xcf8;
const DATA: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;

/// Guards the pair of ports.
static PORTS: Lock<()> = Lock::new(Level::Device, ());
static WINDOWS: Once<Vec<McfgRegion>> = Once::new();

/// Notes the memory-mapped windows.
#[allow(clippy::disallowed_methods, reason = "at boot only")]
pub fn init(mcfg: &[McfgRegion]) {
    WINDOWS.call_once(|| mcfg.to_vec());
}

/// Reads from a function's configuration space. All ones if there is nothing, or if
/// the offset is not aligned to the width.
#[must_use]
pub fn read(function: PciAddress, offset: u16, width: Width) -> u32 {
    if function.segment == 0 && offset < 256 {
        return config_access::read(&DataPort::new(function), offset, width);
    }
    match window(function).filter(|_| offset < 4096) {
        Some(space) => config_access::read(&space, offset, width),
        None => width.ones(),
    }
}

/// Writes to a function's configuration space. Dropped if there is nothing, or if the
/// offset is not aligned to the width.
pub fn write(function: PciAddress, offset: u16, width: Width, value: u32) {
    if function.segment == 0 && offset < 256 {
        config_access::write(&DataPort::new(function), offset, width, value);
    } else if let Some(space) = window(function).filter(|_| offset < 4096) {
        config_access::write(&space, offset, width, value);
    }
}

/// The ports, held for an access to one function.
struct DataPort {
    function: PciAddress,
    _ports: Guard<'static, ()>,
}

impl DataPort {
    fn new(function: PciAddress) -> Self {
        let _ports = PORTS.lock();
        Self { function, _ports }
    }

    /// Selects the register of `offset`, and answers the port where it is.
    fn select(&self, offset: u16) -> u16 {
        select(self.function, offset);
        DATA + (offset & 3)
    }
}

/// An access to a register just selected, with the ports held. What devices may be told is decided
/// by the caller; dom0 is trusted with them.
impl ConfigRegisters for DataPort {
    fn read8(&self, offset: u16) -> u8 {
        // SAFETY: a configuration read.
        unsafe { port::read8(self.select(offset)) }
    }
    fn read16(&self, offset: u16) -> u16 {
        // SAFETY: as above.
        unsafe { port::read16(self.select(offset)) }
    }
    fn read32(&self, offset: u16) -> u32 {
        // SAFETY: as above.
        unsafe { port::read32(self.select(offset)) }
    }
    fn write8(&self, offset: u16, value: u8) {
        // SAFETY: a configuration write.
        unsafe { port::write8(self.select(offset), value) }
    }
    fn write16(&self, offset: u16, value: u16) {
        // SAFETY: as above.
        unsafe { port::write16(self.select(offset), value) }
    }
    fn write32(&self, offset: u16, value: u32) {
        // SAFETY: as above.
        unsafe { port::write32(self.select(offset), value) }
    }
}

/// A function's 4 KiB in a window.
impl ConfigRegisters for Registers {
    fn read8(&self, offset: u16) -> u8 {
        Self::read8(self, offset.into())
    }
    fn read16(&self, offset: u16) -> u16 {
        Self::read16(self, offset.into())
    }
    fn read32(&self, offset: u16) -> u32 {
        Self::read32(self, offset.into())
    }
    fn write8(&self, offset: u16, value: u8) {
        Self::write8(self, offset.into(), value);
    }
    fn write16(&self, offset: u16, value: u16) {
        Self::write16(self, offset.into(), value);
    }
    fn write32(&self, offset: u16, value: u32) {
        Self::write32(self, offset.into(), value);
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

/// The function of segment 0 that a domain names.
const fn function(bdf: u16) -> PciAddress {
    PciAddress {
        segment: 0,
        bus: (bdf >> 8) as u8,
        devfn: bdf as u8,
    }
}

/// Reads `bytes` (1, 2 or 4) of a function's configuration space.
#[must_use]
pub fn pci_read(bdf: u16, offset: u16, bytes: u8) -> u32 {
    read(function(bdf), offset, Width::of_bytes(bytes))
}

/// Writes `bytes` (1, 2 or 4) of a function's configuration space.
pub fn pci_write(bdf: u16, offset: u16, bytes: u8, value: u32) {
    write(function(bdf), offset, Width::of_bytes(bytes), value);
}
