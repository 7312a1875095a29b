//! What moves between ring and terminal, without either: bounded buffers and the rate limit.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Output that waits for a terminal, at most. xenconsoled keeps as much (`limit`).
pub const OUTPUT_BYTES: usize = 1 << 20;

/// Input that waits for the guest, at most.
pub const INPUT_BYTES: usize = 4096;

/// Bytes that wait, the oldest dropped when there are too many.
#[derive(Debug)]
pub struct Output {
    waiting: VecDeque<u8>,
    most: usize,
}

impl Default for Output {
    fn default() -> Self {
        Self::new(OUTPUT_BYTES)
    }
}

impl Output {
    /// Holds `most` bytes.
    pub const fn new(most: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            most,
        }
    }

    /// Adds what a guest said; old bytes make room.
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = &bytes[bytes.len().saturating_sub(self.most)..];
        let excess = (self.waiting.len() + bytes.len()).saturating_sub(self.most);
        self.waiting.drain(..excess);
        self.waiting.extend(bytes);
    }

    /// What waits, or the first part of it.
    pub fn next(&self) -> &[u8] {
        self.waiting.as_slices().0
    }

    /// That much of it is gone.
    pub fn took(&mut self, bytes: usize) {
        self.waiting.drain(..bytes.min(self.waiting.len()));
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

/// Bytes for the guest. Whoever fills it asks first how many fit, so that a terminal is not
/// read faster than the guest.
#[derive(Debug, Default)]
pub struct Input {
    waiting: Vec<u8>,
}

impl Input {
    /// How many bytes fit.
    pub fn room(&self) -> usize {
        INPUT_BYTES - self.waiting.len().min(INPUT_BYTES)
    }

    /// Adds what was typed; beyond the room it is lost.
    pub fn push(&mut self, bytes: &[u8]) {
        let fits = bytes.len().min(self.room());
        self.waiting.extend_from_slice(&bytes[..fits]);
    }

    /// What waits.
    pub fn next(&self) -> &[u8] {
        &self.waiting
    }

    /// The guest has so much of it.
    pub fn took(&mut self, bytes: usize) {
        self.waiting.drain(..bytes.min(self.waiting.len()));
    }
}

/// So many rounds in each period, and no more.
#[derive(Debug)]
pub struct Limit {
    rounds: u32,
    period: Duration,
    used: u32,
    since: Instant,
}

impl Limit {
    /// `rounds` in each `period`.
    pub const fn new(rounds: u32, period: Duration, now: Instant) -> Self {
        Self {
            rounds,
            period,
            used: 0,
            since: now,
        }
    }

    /// One round. `Err` says when the next may be: it has to wait for that before it may ask
    /// for another event.
    ///
    /// # Errors
    /// This was the last round of the period.
    pub fn round(&mut self, now: Instant) -> Result<(), Instant> {
        if now.duration_since(self.since) >= self.period {
            self.since = now;
            self.used = 0;
        }
        self.used += 1;
        if self.used < self.rounds {
            Ok(())
        } else {
            Err(self.since + self.period)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn output_keeps_the_newest(most in 1_usize..50, parts: Vec<Vec<u8>>) {
            let mut output = Output::new(most);
            let mut all = Vec::new();
            for part in &parts {
                output.push(part);
                all.extend_from_slice(part);
            }
            let mut got = Vec::new();
            while !output.is_empty() {
                let next = output.next().to_vec();
                output.took(next.len());
                got.extend(next);
            }
            prop_assert!(got.len() <= most);
            prop_assert_eq!(&got[..], &all[all.len() - got.len()..]);
            prop_assert_eq!(got.len(), all.len().min(most));
        }

        #[test]
        fn input_never_grows(parts: Vec<Vec<u8>>) {
            let mut input = Input::default();
            for part in &parts {
                input.push(part);
                prop_assert!(input.next().len() <= INPUT_BYTES);
            }
        }
    }

    #[test]
    fn a_flood_waits_for_the_next_period() {
        let start = Instant::now();
        let period = Duration::from_millis(200);
        let mut limit = Limit::new(3, period, start);
        assert!(limit.round(start).is_ok());
        assert!(limit.round(start).is_ok());
        assert_eq!(limit.round(start), Err(start + period));
        assert!(limit.round(start + period).is_ok());
    }
}
