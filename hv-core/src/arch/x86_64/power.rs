//! Turning the machine off and starting it anew.
//!
//! Everything here works from a panic: it takes no lock and allocates nothing.
#![allow(unsafe_code, reason = "writes reset and sleep registers")]

use super::physical::MappedRegister;
use super::port;
use crate::arch::platform::{PowerInfo, Register};
use crate::sync::Once;

static POWER: Once<Power> = Once::new();

/// `SLP_EN`, and where `SLP_TYP` is. Source: ACPI 6.5, table 4.19.
const SLEEP_ENABLE: u16 = 1 << 13;
const SLEEP_TYPE_SHIFT: u32 = 10;
const SLEEP_TYPE_MASK: u16 = 7 << SLEEP_TYPE_SHIFT;
const SCI_ENABLE: u16 = 1;

struct Power {
    pm1a: Option<MappedRegister>,
    pm1b: Option<MappedRegister>,
    reset: Option<(MappedRegister, u8)>,
    acpi_enable: (u16, u8),
    s5: (u8, u8),
}

/// Maps and notes the registers.
pub fn init(power: &PowerInfo) {
    let map = |r: Option<Register>| r.and_then(MappedRegister::map);
    POWER.call_once(|| Power {
        pm1a: map(power.pm1a_control),
        pm1b: map(power.pm1b_control),
        reset: power
            .reset
            .and_then(|(r, value)| Some((MappedRegister::map(r)?, value))),
        acpi_enable: power.acpi_enable,
        s5: power.s5,
    });
}

fn wait(loops: u32) {
    for _ in 0..loops {
        // SAFETY: port 0x80 shows codes on a diagnostic card; a write takes about 1 us.
        unsafe { port::write8(0x80, 0) };
    }
}

/// Turns the machine off (ACPI state S5). Returns only if that failed.
pub fn off() {
    if let Some(power) = POWER.get() {
        let (a, b) = power.s5;
        let value = |typ: u8| u16::from(typ) << SLEEP_TYPE_SHIFT;
        enter_sleep(value(a), value(b));
    }
}

/// Enters the sleep state whose `SLP_TYP` fields are those of `pm1a` and `pm1b`, as
/// dom0 found them in its ACPI tables (`XENPF_enter_acpi_sleep`). Only S5 is
/// sensible: nothing is prepared for coming back. Returns only if that failed.
pub fn enter_sleep(pm1a: u16, pm1b: u16) {
    let Some(power) = POWER.get() else { return };
    let Some(a) = power.pm1a else { return };
    turn_acpi_on(power, &a);
    let compose = |register: &MappedRegister, value: u16| {
        register.read16() & !(SLEEP_TYPE_MASK | SLEEP_ENABLE) | value & SLEEP_TYPE_MASK
    };
    let value_a = compose(&a, pm1a);
    let b = power.pm1b.map(|b| (b, compose(&b, pm1b)));
    // First the type alone, then with the enable bit.
    for enable in [0, SLEEP_ENABLE] {
        a.write16(value_a | enable);
        if let Some((b, value_b)) = b {
            b.write16(value_b | enable);
        }
    }
    wait(1_000_000);
}

/// Sleep registers belong to firmware until ACPI mode is on; dom0 normally did that.
fn turn_acpi_on(power: &Power, control: &MappedRegister) {
    let (smi_port, value) = power.acpi_enable;
    if smi_port == 0 || control.read16() & SCI_ENABLE != 0 {
        return;
    }
    // SAFETY: the value the FADT gives for this.
    unsafe { port::write8(smi_port, value) };
    for _ in 0..300 {
        if control.read16() & SCI_ENABLE != 0 {
            return;
        }
        wait(1000);
    }
}

/// Resets the machine, by ever cruder means.
pub fn reset() -> ! {
    if let Some((register, value)) = POWER.get().and_then(|p| p.reset) {
        register.write8(value);
        wait(50_000);
    }
    // SAFETY: resets through the chipset's control register, then the keyboard
    // controller's reset line; then a fault with no handlers.
    unsafe {
        port::write8(0xcf9, 0x02);
        wait(50);
        port::write8(0xcf9, 0x06);
        wait(50_000);
        port::write8(0x64, 0xfe);
        wait(50_000);
        let none = [0u16; 5];
        core::arch::asm!("lidt [{}]", "ud2", in(reg) &none, options(noreturn));
    }
}
