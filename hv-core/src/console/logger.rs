//! The `log` macros' other end, and who may log how much.

use super::PREFIX;
use super::limit::{Limiter, Verdict};
use crate::addr::{DomId, Nanos};
use crate::sync::{Level, Lock, Once};
use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};
use log::LevelFilter;

/// Which lines come out. Source: Xen's `loglvl=<level>[/<rate-limited level>]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold {
    /// Lines up to this level always.
    pub always: LevelFilter,
    /// Lines up to this level as the rate limiter allows.
    pub limited: LevelFilter,
}

impl Threshold {
    /// For the hypervisor's own lines.
    pub const OWN: Self = Self {
        always: LevelFilter::Info,
        limited: LevelFilter::Info,
    };
    /// For lines that guests provoke.
    pub const GUEST: Self = Self {
        always: LevelFilter::Off,
        limited: LevelFilter::Warn,
    };
}

/// A threshold that can change while lines are logged.
struct Setting {
    always: AtomicU8,
    limited: AtomicU8,
}

/// What a threshold says about a line.
enum Rule {
    Print,
    Limit,
    Drop,
}

impl Setting {
    const fn new(t: Threshold) -> Self {
        Self {
            always: AtomicU8::new(t.always as u8),
            limited: AtomicU8::new(t.limited as u8),
        }
    }

    fn set(&self, t: Threshold) {
        self.always.store(t.always as u8, Relaxed);
        self.limited.store(t.limited as u8, Relaxed);
    }

    fn rule(&self, level: log::Level) -> Rule {
        if level as u8 <= self.always.load(Relaxed) {
            Rule::Print
        } else if level as u8 <= self.limited.load(Relaxed) {
            Rule::Limit
        } else {
            Rule::Drop
        }
    }
}

static OWN: Setting = Setting::new(Threshold::OWN);
static GUEST: Setting = Setting::new(Threshold::GUEST);
static OWN_LIMITER: Lock<Limiter> = Lock::new(Level::Console, Limiter::new());
static GUEST_LIMITER: Lock<Limiter> = Lock::new(Level::Console, Limiter::new());
static CLOCK: Once<fn() -> Nanos> = Once::new();

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        !matches!(OWN.rule(metadata.level()), Rule::Drop)
    }

    fn log(&self, record: &log::Record<'_>) {
        let rule = OWN.rule(record.level());
        print(rule, &OWN_LIMITER, format_args!("{}", record.args()));
    }

    fn flush(&self) {}
}

/// Connects the `log` macros (once; later calls change nothing).
pub(super) fn install() {
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(Threshold::OWN.always);
    }
}

/// Sets what comes out: our own lines, and those that guests provoke.
pub fn set_thresholds(own: Threshold, guest: Threshold) {
    OWN.set(own);
    GUEST.set(guest);
    log::set_max_level(own.always.max(own.limited));
}

/// Gives the rate limiter its clock. Until then nobody earns new lines.
pub fn set_clock(clock: fn() -> Nanos) {
    CLOCK.call_once(|| clock);
}

/// Logs a line that the guest `dom` provoked, within `guest_loglvl` and the rate
/// limit, and says which domain it was.
pub fn guest_log(dom: DomId, level: log::Level, line: fmt::Arguments<'_>) {
    print(
        GUEST.rule(level),
        &GUEST_LIMITER,
        format_args!("d{}: {line}", dom.0),
    );
}

/// Logs a warning of the hypervisor's that may come without end, within the rate limit.
pub fn limited_log(line: fmt::Arguments<'_>) {
    let rule = match OWN.rule(log::Level::Warn) {
        Rule::Drop => Rule::Drop,
        Rule::Print | Rule::Limit => Rule::Limit,
    };
    print(rule, &OWN_LIMITER, line);
}

fn print(rule: Rule, limiter: &Lock<Limiter>, line: fmt::Arguments<'_>) {
    let dropped = match rule {
        Rule::Drop => return,
        Rule::Print => 0,
        Rule::Limit => {
            let now = CLOCK.get().map_or(Nanos(0), |clock| clock());
            match limiter.lock().ask(now) {
                Verdict::Drop => return,
                Verdict::Print { dropped } => dropped,
            }
        }
    };
    super::with_writer(|out| {
        // The console takes everything.
        let _ = match dropped {
            0 => Ok(()),
            n => writeln!(out, "{PREFIX}({n} lines left out)"),
        };
        let _ = writeln!(out, "{PREFIX}{line}");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_of_own_lines_is_limited() {
        for n in 0..50 {
            limited_log(format_args!("storm {n}"));
        }
        let mut text = std::vec![0; 4096];
        let (n, _) = super::super::ring_read(0, &mut text);
        let text = core::str::from_utf8(&text[..n]).unwrap();
        assert!(text.contains("(OXEN) storm 0\n") && text.contains("storm 9\n"));
        assert!(!text.contains("storm 10\n"));
    }

    #[test]
    fn guest_lines_land_in_the_ring_and_stop_when_too_many() {
        for i in 0..50 {
            guest_log(DomId(7), log::Level::Warn, format_args!("line {i}"));
            guest_log(DomId(7), log::Level::Info, format_args!("below threshold"));
        }
        let mut text = std::vec![0; 4096];
        let (n, _) = super::super::ring_read(0, &mut text);
        let text = core::str::from_utf8(&text[..n]).unwrap();
        assert!(text.contains("(OXEN) d7: line 0\n"));
        assert!(text.contains("line 9\n") && !text.contains("line 10\n"));
        assert!(!text.contains("below"));
    }
}
