//! Looking at the running hypervisor: debug keys, and a last check before the machine
//! ends.
//!
//! Keys come from the serial line once Ctrl-A, typed three times, has switched it from
//! dom0 to the hypervisor (as in Xen). They are served where a CPU is about to return to
//! a guest and holds nothing, so a key may stop all other CPUs ([`stop`]).

mod frames;
pub mod stop;

use crate::console;
use crate::power::{self, End};

/// What a key does.
struct Key {
    key: u8,
    does: &'static str,
    run: fn(),
}

const KEYS: &[Key] = &[
    Key {
        key: b'F',
        does: "verify the frame table",
        run: frames::verify,
    },
    Key {
        key: b'R',
        does: "reboot at once",
        run: || power::now(End::Reboot),
    },
    Key {
        key: b'h',
        does: "show this help",
        run: help,
    },
    Key {
        key: b'm',
        does: "show memory",
        run: frames::memory,
    },
];

/// Serves the keys that came in, and ends the machine if that waited for a check.
/// Called where this CPU is about to return to a guest.
#[cold]
pub fn serve() {
    while let Some(key) = console::take_key() {
        press(key);
    }
    if let Some(end) = power::awaited() {
        frames::verify();
        power::now(end);
    }
}

fn press(key: u8) {
    match KEYS.iter().find(|k| k.key == key) {
        Some(known) => (known.run)(),
        None => log::info!("no debug key {:?}; 'h' shows all", char::from(key)),
    }
}

fn help() {
    for key in KEYS {
        log::info!("key '{}': {}", char::from(key.key), key.does);
    }
}
