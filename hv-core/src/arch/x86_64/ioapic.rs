//! The I/O APICs: pins (global system interrupts) to vectors.
//!
//! Registers are reached by an index and a data register, so every access holds the
//! lock (level `Device`). The low half of each entry is shadowed, so that masking is
//! one indexed write.
//! Source: Intel 82093AA data sheet.

use super::physical::Registers;
use crate::arch::platform::{Platform, Signal};
use crate::sync::{Level, Lock};
use alloc::vec::Vec;

const INDEX: usize = 0x00;
const DATA: usize = 0x10;
const VERSION: u8 = 1;
const ENTRIES: u8 = 0x10;

const ACTIVE_LOW: u32 = 1 << 13;
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;

struct IoApic {
    registers: Registers,
    base: u64,
    id: u8,
    gsi_base: u32,
    /// Low halves of the entries, as written.
    low: Vec<u32>,
}

static IO_APICS: Lock<Vec<IoApic>> = Lock::new(Level::Device, Vec::new());

impl IoApic {
    fn read(&self, register: u8) -> u32 {
        self.registers.write32(INDEX, u32::from(register));
        self.registers.read32(DATA)
    }

    fn write(&self, register: u8, value: u32) {
        self.registers.write32(INDEX, u32::from(register));
        self.registers.write32(DATA, value);
    }

    fn set_low(&mut self, pin: usize, low: u32) {
        if self.low[pin] != low {
            self.low[pin] = low;
            self.write(ENTRIES + 2 * pin as u8, low);
        }
    }
}

/// Finds the I/O APICs and masks every pin. Returns the number of global system
/// interrupts (one more than the highest).
#[allow(clippy::disallowed_methods, reason = "at boot only")]
pub fn init(platform: &Platform) -> u32 {
    let mut found = Vec::new();
    let mut gsis = 0;
    for info in &platform.io_apics {
        let Some(registers) = Registers::map(info.base, 0x20) else {
            continue;
        };
        let mut chip = IoApic {
            registers,
            base: info.base.raw(),
            id: info.id,
            gsi_base: info.gsi_base,
            low: Vec::new(),
        };
        let version = chip.read(VERSION);
        // An absent chip reads as ones; and no chip has more than 240 pins.
        if version == u32::MAX {
            log::warn!("I/O APIC at {:#x} does not answer", info.base.raw());
            continue;
        }
        let pins = (version >> 16 & 0xff).min(119) + 1;
        chip.low.resize(pins as usize, 0);
        for pin in 0..pins as usize {
            chip.set_low(pin, MASKED);
        }
        log::info!(
            "I/O APIC {} at {:#x}: version {:#x}, interrupts {}-{}",
            info.id,
            info.base.raw(),
            version & 0xff,
            info.gsi_base,
            info.gsi_base + pins - 1,
        );
        gsis = gsis.max(info.gsi_base.saturating_add(pins));
        found.push(chip);
    }
    *IO_APICS.lock() = found;
    // The room `irq` has a table of them; firmware that numbers wildly gets no more.
    gsis.min(1024)
}

fn with_pin<R>(gsi: u32, f: impl FnOnce(&mut IoApic, usize) -> R) -> Option<R> {
    let mut chips = IO_APICS.lock();
    let chip = chips
        .iter_mut()
        .find(|c| gsi >= c.gsi_base && ((gsi - c.gsi_base) as usize) < c.low.len())?;
    let pin = (gsi - chip.gsi_base) as usize;
    Some(f(chip, pin))
}

/// Makes a pin send `vector` to the CPU with APIC id `apic_id`, masked for now.
/// Returns whether there is such a pin.
pub fn route(gsi: u32, signal: Signal, vector: u8, apic_id: u32) -> bool {
    let mut low = u32::from(vector) | MASKED;
    if signal.level {
        low |= LEVEL;
    }
    if signal.active_low {
        low |= ACTIVE_LOW;
    }
    with_pin(gsi, |chip, pin| {
        let masked = chip.low[pin] | MASKED;
        chip.set_low(pin, masked);
        chip.write(ENTRIES + 2 * pin as u8 + 1, apic_id << 24);
        chip.set_low(pin, low);
    })
    .is_some()
}

/// Masks or unmasks a pin.
pub fn set_masked(gsi: u32, masked: bool) {
    with_pin(gsi, |chip, pin| {
        let low = chip.low[pin] & !MASKED;
        chip.set_low(pin, if masked { low | MASKED } else { low });
    });
}

/// Reads register `register` of the I/O APIC at physical address `base`, for a guest
/// that asks who is there: only the id (0) and version (1) registers.
#[must_use]
pub fn read_for_guest(base: u64, register: u32) -> Option<u32> {
    let chips = IO_APICS.lock();
    let chip = chips.iter().find(|c| c.base == base)?;
    match register {
        0 => Some(u32::from(chip.id) << 24),
        1 => Some(chip.read(VERSION)),
        _ => None,
    }
}
