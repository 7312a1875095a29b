//! How many lines a guest may cause.

use crate::addr::Nanos;

/// Lines allowed at once. Source: Xen's `printk_ratelimit_burst`.
const BURST: u32 = 10;
/// One more line is allowed after this long. Source: Xen's `printk_ratelimit_ms`.
const REFILL: u64 = 5_000_000_000;

/// A token bucket of lines.
pub(super) struct Limiter {
    tokens: u32,
    /// When the last token came.
    since: Nanos,
    dropped: u32,
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Print it, after saying how many were dropped before it.
    Print {
        /// Lines dropped since the last one printed.
        dropped: u32,
    },
    /// Do not print it.
    Drop,
}

impl Limiter {
    pub(super) const fn new() -> Self {
        Self {
            tokens: BURST,
            since: Nanos(0),
            dropped: 0,
        }
    }

    /// One line wants out at `now`.
    pub(super) fn ask(&mut self, now: Nanos) -> Verdict {
        let earned = now.0.saturating_sub(self.since.0) / REFILL;
        if earned > 0 {
            self.since.0 += earned * REFILL;
            self.tokens = BURST.min(
                self.tokens
                    .saturating_add(earned.min(u64::from(BURST)) as u32),
            );
        }
        if self.tokens == 0 {
            self.dropped = self.dropped.saturating_add(1);
            return Verdict::Drop;
        }
        self.tokens -= 1;
        Verdict::Print {
            dropped: core::mem::take(&mut self.dropped),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_each_interval() {
        let mut limiter = Limiter::new();
        for _ in 0..BURST {
            assert_eq!(limiter.ask(Nanos(1)), Verdict::Print { dropped: 0 });
        }
        assert_eq!(limiter.ask(Nanos(2)), Verdict::Drop);
        assert_eq!(limiter.ask(Nanos(REFILL - 1)), Verdict::Drop);
        assert_eq!(limiter.ask(Nanos(REFILL)), Verdict::Print { dropped: 2 });
        assert_eq!(limiter.ask(Nanos(REFILL + 1)), Verdict::Drop);
        let later = Nanos(u64::MAX);
        assert_eq!(limiter.ask(later), Verdict::Print { dropped: 1 });
        // A clock that runs backwards earns nothing and breaks nothing.
        assert_eq!(limiter.ask(Nanos(0)), Verdict::Print { dropped: 0 });
    }
}
