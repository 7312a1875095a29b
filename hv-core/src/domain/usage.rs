//! What a vCPU has used and a domain has tried, for statistics.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Denied attempts of one domain that are recorded within a second.
pub const MOST_DENIED: u64 = 16;
/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// A number that only grows. Only the CPU that runs its vCPU counts, so counting is a load
/// and a store; others read at any time.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts `more`. Called by the CPU that runs the vCPU only.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Relaxed);
    }

    /// As far as counted.
    #[must_use]
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What a vCPU has used.
#[derive(Debug, Default)]
pub struct Usage {
    /// Hypercalls, entries of multicalls among them.
    pub hypercalls: Count,
    /// Events sent.
    pub events_sent: Count,
    /// Grants mapped.
    pub grant_maps: Count,
    /// Copies from or to grants.
    pub grant_copies: Count,
    /// Frames of other domains put into page tables as their manager.
    pub foreign_maps: Count,
}

/// A domain's denied attempts.
#[derive(Debug, Default)]
pub struct Denied {
    all: AtomicU64,
    /// Second, times 2^16, plus attempts in it.
    lately: AtomicU64,
}

impl Denied {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            all: AtomicU64::new(0),
            lately: AtomicU64::new(0),
        }
    }

    /// Attempts so far.
    #[must_use]
    pub fn all(&self) -> u64 {
        self.all.load(Relaxed)
    }

    /// Counts one at `now` (nanoseconds). `false`: too many lately to record each.
    pub fn count(&self, now: u64) -> bool {
        self.all.fetch_add(1, Relaxed);
        let window = (now / SECOND) << 16;
        let next = |was: u64| {
            let inside = if was & !0xffff == window {
                was & 0xffff
            } else {
                0
            };
            window | (inside + 1).min(0xffff)
        };
        let was = self
            .lately
            .fetch_update(Relaxed, Relaxed, |w| Some(next(w)));
        next(was.unwrap_or(0)) & 0xffff <= MOST_DENIED
    }
}
