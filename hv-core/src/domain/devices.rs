//! What of the host's devices tools gave a domain: device memory and interrupts. (Its I/O ports are
//! in [`DomainIo`](crate::pv_emul::io::DomainIo).)
//!
//! Each set has a bound, so that rights that tools give piece by piece take no memory without end.
//! Whoever takes a right away does not take what the domain has made of it: an entry in its page
//! tables stays, as in Xen.
//!
//! Lock: one a domain, at `Level::Device`.

use super::{Domain, registry};
use crate::addr::Mfn;
use crate::irq;
use crate::mm::ranges::{Full, RangeSet};
use crate::sync::{Level, Lock};
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicBool, Ordering};

/// Ranges of device memory, and of interrupts, of one domain.
pub const MOST_RANGES: usize = 64;

type Set = RangeSet<MOST_RANGES>;

#[derive(Debug)]
struct Sets {
    /// Frames of device memory.
    frames: Set,
    /// Interrupts it may bind.
    lines: Set,
    /// Of these the messages that were numbered for it, which go with it.
    messages: Set,
}

/// What a domain was given.
#[derive(Debug)]
pub struct Devices {
    sets: Lock<Sets>,
    /// Whether it was ever given anything.
    any: AtomicBool,
}

impl Devices {
    /// Nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sets: Lock::new(
                Level::Device,
                Sets {
                    frames: Set::new(),
                    lines: Set::new(),
                    messages: Set::new(),
                },
            ),
            any: AtomicBool::new(false),
        }
    }

    /// Whether the domain was ever given anything: then it may have what looks at memory.
    #[must_use]
    #[inline]
    pub fn has_any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Notes that it was given ports, which are kept elsewhere.
    pub fn note_ports(&self) {
        self.any.store(true, Ordering::Relaxed);
    }

    /// Gives frames of device memory.
    ///
    /// # Errors
    /// [`Full`]: nothing was given.
    pub fn give_frames(&self, frames: &RangeInclusive<u64>) -> Result<(), Full> {
        self.sets.lock().frames.try_insert(half_open(frames))?;
        self.any.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes frames of device memory.
    ///
    /// # Errors
    /// [`Full`]: nothing was taken.
    pub fn take_frames(&self, frames: &RangeInclusive<u64>) -> Result<(), Full> {
        self.sets.lock().frames.try_remove(half_open(frames))
    }

    /// Whether all these frames were given.
    #[must_use]
    pub fn has_frames(&self, frames: &RangeInclusive<u64>) -> bool {
        self.sets.lock().frames.contains(&half_open(frames))
    }

    /// Whether a frame was given.
    #[must_use]
    pub fn has_frame(&self, mfn: Mfn) -> bool {
        self.has_frames(&(mfn.raw()..=mfn.raw()))
    }

    /// Gives an interrupt.
    ///
    /// # Errors
    /// [`Full`]: it was not given.
    pub fn give_line(&self, line: u32) -> Result<(), Full> {
        let line = u64::from(line);
        self.sets.lock().lines.try_insert(line..line + 1)?;
        self.any.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes an interrupt.
    ///
    /// # Errors
    /// [`Full`]: it was not taken.
    pub fn take_line(&self, line: u32) -> Result<(), Full> {
        let line = u64::from(line);
        self.sets.lock().lines.try_remove(line..line + 1)
    }

    /// Whether an interrupt was given.
    #[must_use]
    pub fn has_line(&self, line: u32) -> bool {
        let line = u64::from(line);
        self.sets.lock().lines.contains(&(line..line + 1))
    }

    /// Gives `count` messages that were numbered for the domain from `first` on, all or none.
    ///
    /// # Errors
    /// [`Full`].
    pub fn give_messages(&self, first: u32, count: u32) -> Result<(), Full> {
        let range = u64::from(first)..u64::from(first) + u64::from(count);
        let mut sets = self.sets.lock();
        sets.lines.try_insert(range.clone())?;
        if let Err(full) = sets.messages.try_insert(range.clone()) {
            // Room for it was there a moment ago.
            sets.lines.remove(range);
            return Err(full);
        }
        self.any.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes a message's number, which is to mean another one or none; whether it was numbered for
    /// this domain. Where a set has no room for what is left, more goes.
    pub fn forget(&self, line: u32) -> bool {
        let line = u64::from(line);
        let mut sets = self.sets.lock();
        let had = sets.messages.contains(&(line..line + 1));
        sets.lines.remove(line..line + 1);
        sets.messages.remove(line..line + 1);
        had
    }

    /// Takes everything; the messages that were numbered for the domain are the caller's to free.
    fn take_all(&self) -> Set {
        let mut sets = self.sets.lock();
        sets.frames = Set::new();
        sets.lines = Set::new();
        core::mem::take(&mut sets.messages)
    }
}

impl Default for Devices {
    fn default() -> Self {
        Self::new()
    }
}

/// The last frame there can be is far below the last number.
const fn half_open(range: &RangeInclusive<u64>) -> core::ops::Range<u64> {
    *range.start()..range.end().saturating_add(1)
}

/// Turns a message off and takes its number from everybody who was given it.
///
/// # Errors
/// As [`irq::free`].
pub fn free_message(line: u32) -> Result<(), irq::Error> {
    irq::free(line)?;
    for domain in registry::all() {
        domain.devices.forget(line);
    }
    Ok(())
}

impl Domain {
    /// Gives back what devices a dying domain has. Its ports are closed.
    pub(super) fn release_devices(&self) {
        for line in self.devices.take_all().iter().flatten() {
            let line = line as u32;
            irq::cut_off(line);
            if let Err(error) = free_message(line) {
                log::warn!("domain {}: interrupt {line}: {error:?}", self.id.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_given_is_had_until_it_is_taken() {
        let devices = Devices::new();
        assert!(!devices.has_any() && !devices.has_frames(&(0..=0)));
        devices.give_frames(&(0xfe000..=0xfe00f)).unwrap();
        assert!(devices.has_any() && devices.has_frame(Mfn::new(0xfe00f)));
        assert!(!devices.has_frames(&(0xfe000..=0xfe010)));
        devices.take_frames(&(0xfe004..=0xfe004)).unwrap();
        assert!(!devices.has_frame(Mfn::new(0xfe004)));
        assert!(devices.has_frames(&(0xfe005..=0xfe00f)));
        devices.give_line(16).unwrap();
        assert!(devices.has_line(16) && !devices.has_line(17));
        devices.take_line(16).unwrap();
        assert!(!devices.has_line(16));
    }

    #[test]
    fn rights_take_no_memory_without_end() {
        let devices = Devices::new();
        for n in 0..MOST_RANGES as u64 {
            devices.give_frames(&(n * 10..=n * 10 + 4)).unwrap();
        }
        assert_eq!(devices.give_frames(&(10_000..=10_000)), Err(Full));
        assert_eq!(devices.take_frames(&(2..=2)), Err(Full));
        assert!(devices.has_frames(&(0..=4)) && !devices.has_frames(&(10_000..=10_000)));
        devices.take_frames(&(0..=4)).unwrap();
        devices.give_frames(&(10_000..=10_000)).unwrap();
    }

    #[test]
    fn messages_go_with_their_domain_and_lines_do_not() {
        let devices = Devices::new();
        devices.give_line(9).unwrap();
        devices.give_messages(30, 4).unwrap();
        assert!(devices.has_line(33));
        assert!(devices.forget(31) && !devices.forget(31) && !devices.forget(8));
        assert!(devices.has_line(30) && !devices.has_line(31));
        let messages: std::vec::Vec<u64> = devices.take_all().iter().flatten().collect();
        assert_eq!(messages, [30, 32, 33]);
        assert!(!devices.has_line(9) && !devices.has_line(30));
    }
}
