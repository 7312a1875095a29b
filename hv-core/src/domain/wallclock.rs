//! The date all domains see: set by dom0, copied to every domain's shared page.
//!
//! Lock: one of level `Device` around the date, so that pages are written by one CPU
//! at a time. A new domain is put into the registry first and then gets its copy
//! ([`publish`]), so it misses no change.

use super::life::Stage;
use super::{Domain, registry};
use crate::sync::{Level, Lock};
use crate::time;
use crate::time::pvclock::{WallClock, WallClockArea};
use core::sync::atomic::Ordering;

/// `None`: as the battery clock had it.
static DATE: Lock<Option<WallClock>> = Lock::new(Level::Device, None);

/// Sets the date and tells every domain.
pub fn set(clock: WallClock) {
    *DATE.lock() = Some(clock);
    for domain in registry::all() {
        publish(&domain);
    }
}

/// Writes the date into a domain's shared page.
pub fn publish(domain: &Domain) {
    let date = DATE.lock();
    let clock = date.unwrap_or_else(|| {
        let unix = time::unix_at_start();
        WallClock {
            seconds: unix / 1_000_000_000,
            nanos: (unix % 1_000_000_000) as u32,
        }
    });
    write(clock, domain);
}

fn write(clock: WallClock, domain: &Domain) {
    // Its page may be another's already.
    if domain.life.stage() == Stage::Dead {
        return;
    }
    let offset = domain.life.time_offset.load(Ordering::Relaxed);
    clock
        .offset(offset)
        .publish(&WallClockArea::of(&domain.shared));
}
