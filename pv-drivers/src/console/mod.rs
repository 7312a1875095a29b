//! The console: a guest's lines to whoever watches, and what is typed there.

use core::fmt;

use crate::event::Channel;
use crate::hypercall::Hypervisor;
use crate::ring::{ConsoleFrontend, Corrupt, Page};

#[cfg(test)]
mod tests;

/// Nanoseconds without a word of the backend after which it is notified again.
const NUDGE: u64 = 20_000_000;

/// The frontend of a console.
#[derive(Debug)]
pub struct Console<P, H: Hypervisor> {
    ring: ConsoleFrontend<P>,
    channel: Channel<H>,
}

/// Why not everything was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The backend made the ring's indices impossible.
    Corrupt,
    /// The backend took nothing until the deadline.
    Late,
}

impl From<Corrupt> for Trouble {
    fn from(_: Corrupt) -> Self {
        Self::Corrupt
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Corrupt => "the console's backend made the ring's indices impossible",
            Self::Late => "the console's backend takes nothing",
        })
    }
}

impl core::error::Error for Trouble {}

impl<P: Page, H: Hypervisor> Console<P, H> {
    /// A console by its ring page and its channel.
    pub fn new(page: P, channel: Channel<H>) -> Self {
        Self {
            ring: ConsoleFrontend::attach(page),
            channel,
        }
    }

    /// Writes as much as fits at once; returns how many bytes.
    ///
    /// # Errors
    /// [`Corrupt`]: the backend made the ring's indices impossible.
    pub fn put(&mut self, bytes: &[u8]) -> Result<usize, Corrupt> {
        let count = self.ring.put(bytes)?;
        if count > 0 {
            self.channel.notify();
        }
        Ok(count)
    }

    /// Writes everything, and waits for room where there is none; until `deadline` (system time),
    /// if one is given, is past by `now`.
    ///
    /// # Errors
    /// [`Trouble`]; how much was written is not said.
    pub fn write(
        &mut self,
        mut bytes: &[u8],
        deadline: Option<u64>,
        now: impl Fn() -> u64,
    ) -> Result<(), Trouble> {
        loop {
            let count = self.put(bytes)?;
            bytes = bytes.get(count..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            self.rest(deadline, &now)?;
        }
    }

    /// Waits for the backend, and nudges it again when it says nothing for a while: its notice may
    /// have been lost, or ours.
    fn rest(&self, deadline: Option<u64>, now: &impl Fn() -> u64) -> Result<(), Trouble> {
        let time = now();
        // Also of a backend that notifies all the time, and takes nothing.
        if deadline.is_some_and(|deadline| time >= deadline) {
            return Err(Trouble::Late);
        }
        let soon = time.saturating_add(NUDGE);
        let until = deadline.map_or(soon, |deadline| deadline.min(soon));
        if !self.channel.wait(Some(until), now) {
            self.channel.notify();
        }
        Ok(())
    }

    /// Waits until the backend has taken everything, so that nothing is lost with the guest.
    ///
    /// # Errors
    /// [`Trouble`].
    pub fn drain(&mut self, deadline: Option<u64>, now: impl Fn() -> u64) -> Result<(), Trouble> {
        while self.ring.unread()? > 0 {
            self.channel.notify();
            if self.ring.unread()? > 0 {
                self.rest(deadline, &now)?;
            }
        }
        Ok(())
    }

    /// Takes what was typed, as much as fits; returns how many bytes.
    ///
    /// # Errors
    /// [`Corrupt`]: the backend made the ring's indices impossible.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, Corrupt> {
        let count = self.ring.take(into)?;
        if count > 0 {
            self.channel.notify();
        }
        Ok(count)
    }
}
