//! Reaching physical addresses: RAM, firmware tables and device registers.
//!
//! The mappings themselves are `mm::host_map`'s, one floor up; `start` hands their
//! functions in by [`install`] before anything here is used.
#![allow(
    unsafe_code,
    reason = "turns physical addresses into register accesses"
)]

use super::port;
use crate::addr::MachAddr;
use crate::arch::platform::Register;
use crate::sync::{Level, Lock, Once};
use core::ptr::NonNull;
use volatile::VolatilePtr;

/// How physical addresses are reached.
#[derive(Clone, Copy, Debug)]
pub struct Maps {
    /// Where `len` bytes of memory (RAM or ACPI's) are mapped already; `None` if they
    /// are not memory.
    pub memory: fn(addr: MachAddr, len: u64) -> Option<NonNull<u8>>,
    /// Maps `len` bytes of device registers, uncached and for good.
    pub device: fn(addr: MachAddr, len: u64) -> Option<NonNull<u8>>,
}

static MAPS: Once<Maps> = Once::new();

/// Says how physical addresses are reached.
///
/// # Safety
/// The functions return mappings of exactly the bytes asked for that stay valid for
/// good: memory readable and writable, device registers uncached.
pub unsafe fn install(maps: Maps) {
    MAPS.call_once(|| maps);
}

/// Mappings of device registers remembered: PCI buses and MSI-X tables, above all.
const MAX_WINDOWS: usize = 512;

/// Mappings of device registers made so far, so that asking again costs nothing.
static WINDOWS: Lock<heapless::Vec<Window, MAX_WINDOWS>> =
    Lock::new(Level::Device, heapless::Vec::new());

#[derive(Clone, Copy, Debug)]
struct Window {
    first: u64,
    len: u64,
    at: NonNull<u8>,
}

// SAFETY: the pointer is an address of a mapping every CPU shares.
unsafe impl Send for Window {}

/// Where `len` bytes of memory at `addr` are, or `None` if they are not memory.
#[must_use]
pub fn memory(addr: MachAddr, len: u64) -> Option<NonNull<u8>> {
    (MAPS.get()?.memory)(addr, len)
}

/// The `len` bytes at machine address `at`, in memory or outside of it.
///
/// # Safety
/// Nobody changes them any more.
#[must_use]
pub unsafe fn constant(at: u64, len: usize) -> Option<&'static [u8]> {
    let addr = MachAddr::from_guest(at)?;
    let start = memory(addr, len as u64).or_else(|| device(addr, len as u64))?;
    // SAFETY: mapped for good; the caller vouches for the rest.
    Some(unsafe { core::slice::from_raw_parts(start.as_ptr(), len) })
}

/// Where `len` bytes of device registers at `addr` are mapped; `None` without a
/// mapping left.
#[must_use]
pub fn device(addr: MachAddr, len: u64) -> Option<NonNull<u8>> {
    let first = addr.raw() & !0xfff;
    let inside = addr.raw() - first;
    let len = (inside + len).next_multiple_of(4096);
    let known = |w: &Window| first >= w.first && first + len <= w.first + w.len;
    let found = WINDOWS.lock().iter().copied().find(known);
    let window = match found {
        Some(w) => w,
        None => {
            // Made without the lock: mapping takes page-table frames.
            let at = (MAPS.get()?.device)(MachAddr::from_guest(first)?, len)?;
            let made = Window { first, len, at };
            // A full list only means that this window is mapped again next time.
            let _ = WINDOWS.lock().push(made);
            made
        }
    };
    // SAFETY: the offset stays inside the window.
    Some(unsafe { window.at.add((first - window.first + inside) as usize) })
}

/// A block of memory-mapped registers.
#[derive(Clone, Copy, Debug)]
pub struct Registers {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: registers are the machine's; every access is volatile and whole.
unsafe impl Send for Registers {}
// SAFETY: as above.
unsafe impl Sync for Registers {}

impl Registers {
    /// Maps the `len` bytes of registers at `addr`.
    #[must_use]
    pub fn map(addr: MachAddr, len: usize) -> Option<Self> {
        Some(Self {
            base: device(addr, len as u64)?,
            len,
        })
    }

    /// The `len` bytes from `offset` on (a multiple of 16), if they are inside.
    #[must_use]
    pub fn part(&self, offset: usize, len: usize) -> Option<Self> {
        let end = offset.checked_add(len)?;
        (end <= self.len && offset.is_multiple_of(16)).then(|| Self {
            // SAFETY: inside the mapping.
            base: unsafe { self.base.add(offset) },
            len,
        })
    }

    #[inline]
    fn at<T>(&self, offset: usize) -> VolatilePtr<'_, T> {
        assert!(offset + size_of::<T>() <= self.len && offset.is_multiple_of(size_of::<T>()));
        // SAFETY: inside the mapping, aligned (it starts on a page or at a multiple
        // of 16), and mapped for good.
        unsafe { VolatilePtr::new(self.base.add(offset).cast()) }
    }

    /// Reads the 8-bit register at byte `offset`.
    #[inline]
    #[must_use]
    pub fn read8(&self, offset: usize) -> u8 {
        self.at(offset).read()
    }

    /// Reads the 16-bit register at byte `offset`.
    #[inline]
    #[must_use]
    pub fn read16(&self, offset: usize) -> u16 {
        self.at(offset).read()
    }

    /// Reads the 32-bit register at byte `offset`.
    #[inline]
    #[must_use]
    pub fn read32(&self, offset: usize) -> u32 {
        self.at(offset).read()
    }

    /// Reads the 64-bit register at byte `offset`.
    #[inline]
    #[must_use]
    pub fn read64(&self, offset: usize) -> u64 {
        self.at(offset).read()
    }

    /// Writes the 8-bit register at byte `offset`.
    #[inline]
    pub fn write8(&self, offset: usize, value: u8) {
        self.at(offset).write(value);
    }

    /// Writes the 16-bit register at byte `offset`.
    #[inline]
    pub fn write16(&self, offset: usize, value: u16) {
        self.at(offset).write(value);
    }

    /// Writes the 32-bit register at byte `offset`.
    #[inline]
    pub fn write32(&self, offset: usize, value: u32) {
        self.at(offset).write(value);
    }

    /// Writes the 64-bit register at byte `offset`.
    #[inline]
    pub fn write64(&self, offset: usize, value: u64) {
        self.at(offset).write(value);
    }
}

/// A register the firmware described, ready for use without locks.
#[derive(Clone, Copy, Debug)]
pub enum MappedRegister {
    /// An I/O port.
    Port(u16),
    /// Memory-mapped.
    Memory(Registers),
}

impl MappedRegister {
    /// Maps the register.
    #[must_use]
    pub fn map(register: Register) -> Option<Self> {
        match register {
            Register::Port(p) => Some(Self::Port(p)),
            Register::Memory(at) => Registers::map(at, 4).map(Self::Memory),
        }
    }

    /// Writes 8 bits.
    pub fn write8(&self, value: u8) {
        match self {
            // SAFETY: the firmware names this port for this use.
            Self::Port(p) => unsafe { port::write8(*p, value) },
            Self::Memory(r) => r.write8(0, value),
        }
    }

    /// Reads 16 bits.
    #[must_use]
    pub fn read16(&self) -> u16 {
        match self {
            // SAFETY: as in `write8`.
            Self::Port(p) => unsafe { port::read16(*p) },
            Self::Memory(r) => r.read16(0),
        }
    }

    /// Writes 16 bits.
    pub fn write16(&self, value: u16) {
        match self {
            // SAFETY: as in `write8`.
            Self::Port(p) => unsafe { port::write16(*p, value) },
            Self::Memory(r) => r.write16(0, value),
        }
    }

    /// Reads 32 bits.
    #[must_use]
    #[inline]
    pub fn read32(&self) -> u32 {
        match self {
            // SAFETY: as in `write8`.
            Self::Port(p) => unsafe { port::read32(*p) },
            Self::Memory(r) => r.read32(0),
        }
    }
}
