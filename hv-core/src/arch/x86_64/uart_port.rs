//! A PC's serial ports.
#![allow(unsafe_code, reason = "port input and output")]

use crate::arch::ByteRegs;
use x86_64::instructions::port::Port;

/// Where a PC has serial ports. Source: IBM PC/AT; BIOS data area.
const BASES: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];

/// The registers of one serial port.
#[derive(Debug)]
pub struct UartPort {
    base: u16,
}

impl UartPort {
    /// The UART at I/O port `base`, if that is one of a PC's four places.
    #[must_use]
    pub fn at(base: u16) -> Option<Self> {
        BASES.contains(&base).then_some(Self { base })
    }
}

impl ByteRegs for UartPort {
    fn read(&self, reg: u16) -> u8 {
        // SAFETY: `base` is a serial port's and `reg & 7` one of its eight registers;
        // none of them touches memory.
        unsafe { Port::new(self.base + (reg & 7)).read() }
    }

    fn write(&self, reg: u16, value: u8) {
        // SAFETY: as in `read`.
        unsafe { Port::new(self.base + (reg & 7)).write(value) }
    }
}
