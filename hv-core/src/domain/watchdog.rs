//! A domain's watchdogs: it is shut down unless it arms them again in time.
//!
//! Locks: the slots at `Level::DomainLife`; a timer queue's is taken under it.

use crate::addr::{DomId, Nanos};
use crate::sync::{Level, Lock};
use crate::time::timer_queue::{Due, Timer, TimerId};
use crate::time::timers;

/// Watchdogs of a domain. Source: Xen 4.17, `NR_DOMAIN_WATCHDOG_TIMERS`.
const COUNT: usize = 2;

/// Why a watchdog was not armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchdogError {
    /// No such watchdog, or nothing to stop.
    Invalid,
    /// None is free.
    NoneFree,
    /// No memory for its timer.
    NoMemory,
}

/// See the module.
#[derive(Debug)]
pub struct Watchdogs {
    in_use: Lock<[bool; COUNT]>,
    timers: [Timer; COUNT],
}

impl Watchdogs {
    /// Nothing armed.
    #[must_use]
    pub const fn new(domain: DomId) -> Self {
        Self {
            in_use: Lock::new(Level::DomainLife, [false; COUNT]),
            timers: [
                Timer::new(TimerId::Watchdog(domain, 0)),
                Timer::new(TimerId::Watchdog(domain, 1)),
            ],
        }
    }

    /// `SCHEDOP_watchdog`: arms watchdog `id` (0: a free one, whose id is the answer)
    /// for `seconds` from `now`, or stops it if that is 0.
    ///
    /// # Errors
    /// See [`WatchdogError`].
    pub fn arm(&self, id: u32, seconds: u32, now: Nanos) -> Result<u32, WatchdogError> {
        let mut in_use = self.in_use.lock();
        let (slot, reply) = match id {
            0 if seconds == 0 => return Err(WatchdogError::Invalid),
            0 => {
                let free = in_use.iter().position(|used| !used);
                let free = free.ok_or(WatchdogError::NoneFree)?;
                (free, free as u32 + 1)
            }
            _ => {
                let slot = id as usize - 1;
                if !in_use.get(slot).copied().unwrap_or(false) {
                    return Err(WatchdogError::Invalid);
                }
                (slot, 0)
            }
        };
        let timer = &self.timers[slot];
        if seconds == 0 {
            timers::cancel(timer);
        } else {
            let end = now.0.saturating_add(u64::from(seconds) * 1_000_000_000);
            timers::set(timer, Nanos(end)).map_err(|_| WatchdogError::NoMemory)?;
        }
        in_use[slot] = seconds != 0;
        Ok(reply)
    }

    /// Whether `due` is the end of watchdog `index`, which nobody has armed since.
    #[must_use]
    pub fn is_due(&self, index: u8, due: &Due) -> bool {
        let timer = self.timers.get(usize::from(index));
        timer.is_some_and(|timer| timer.is_due(due))
    }

    /// Stops all: the domain has shut down. One that is resumed may arm them again.
    pub fn stop(&self) {
        self.stop_by(|timer| _ = timers::cancel(timer));
    }

    /// Stops all for good: the domain is taken apart.
    pub fn end(&self) {
        self.stop_by(timers::end);
    }

    fn stop_by(&self, stop: fn(&Timer)) {
        let mut in_use = self.in_use.lock();
        self.timers.iter().for_each(stop);
        *in_use = [false; COUNT];
    }
}
