//! How the machine stops.

use crate::arch::machine;
use crate::sync::Once;

/// Whether to halt instead of rebooting after a crash (`noreboot`).
static NO_REBOOT: Once<bool> = Once::new();

/// Remembers what the command line says of crashes.
pub fn configure(no_reboot: bool) {
    NO_REBOOT.call_once(|| no_reboot);
}

/// Turns the machine off.
pub fn off() -> ! {
    log::info!("powering off");
    machine::power_off();
    log::error!("the machine does not turn off");
    machine::halt_forever()
}

/// Starts the machine anew.
pub fn reboot() -> ! {
    log::info!("rebooting");
    machine::reset()
}

/// After dom0 or the hypervisor died: reboots, or halts if the command line says so.
pub fn after_crash(why: &str) -> ! {
    if NO_REBOOT.get().copied().unwrap_or(false) {
        log::error!("{why}: halted (noreboot)");
        machine::halt_forever()
    }
    log::error!("{why}: rebooting");
    machine::reset()
}
