//! How the machine stops.

use crate::arch::machine;
use crate::console;
use crate::sync::Once;
use core::sync::atomic::{AtomicBool, Ordering};

/// Whether to halt instead of rebooting after a crash (`noreboot`).
static NO_REBOOT: Once<bool> = Once::new();

/// How the machine is to end once that was checked for (`frame_check`).
static AWAITED: Once<End> = Once::new();

/// Whether the machine's end waits for a check.
static CHECK_FIRST: AtomicBool = AtomicBool::new(false);

/// An orderly end of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Off.
    Off,
    /// Off, with the sleep types that dom0 found in its ACPI tables.
    Sleep {
        /// `SLP_TYP` of the first control register.
        pm1a: u16,
        /// `SLP_TYP` of the second.
        pm1b: u16,
    },
    /// A new start.
    Reboot,
}

/// Remembers what the command line says: halt after crashes, check before the end.
pub fn configure(no_reboot: bool, check_first: bool) {
    NO_REBOOT.call_once(|| no_reboot);
    CHECK_FIRST.store(check_first, Ordering::Relaxed);
}

/// Ends the machine; comes back if that failed, or if a check comes first, which this
/// CPU then does before it returns to a guest.
pub fn end(end: End) {
    if CHECK_FIRST.load(Ordering::Relaxed) {
        AWAITED.call_once(|| end);
        machine::raise(machine::cpu_id(), machine::WORK_INSPECT);
    } else {
        now(end);
    }
}

/// The end that waits for a check.
#[must_use]
pub fn awaited() -> Option<End> {
    AWAITED.get().copied()
}

/// Ends the machine at once; comes back only if dom0's sleep types do nothing.
pub fn now(end: End) {
    match end {
        End::Off => off(),
        End::Sleep { pm1a, pm1b } => machine::enter_sleep(pm1a, pm1b),
        End::Reboot => reboot(),
    }
}

/// Turns the machine off.
fn off() -> ! {
    log::info!("powering off");
    machine::power_off();
    log::error!("the machine does not turn off");
    machine::halt_forever()
}

/// Starts the machine anew.
fn reboot() -> ! {
    log::info!("rebooting");
    machine::reset()
}

/// After dom0 or the hypervisor died: reboots, or halts if the command line says so.
/// Shows why on the screen.
pub fn after_crash(why: &str) -> ! {
    console::take_screen();
    if NO_REBOOT.get().copied().unwrap_or(false) {
        log::error!("{why}: halted (noreboot)");
        machine::halt_forever()
    }
    log::error!("{why}: rebooting");
    machine::reset()
}
