//! Clocks: system time, the rates guests are told, this CPU's timer, the date.
//!
//! System time counts from [`init`] and comes from the TSC unless that is declared
//! unfit, then from the counter it was measured against. The room knows how to
//! convert; `arch` reads and programs the hardware. [`arm`] sets one deadline a CPU;
//! [`timers`] keeps what is due when and calls it.
//!
//! Locks: [`timers`]', one a CPU.

pub mod fallback;
pub mod pvclock;
pub mod scale;
pub mod timer_queue;
pub mod timers;
pub mod wallclock;

use crate::addr::Nanos;
use crate::arch::clock::{CpuTimer, Rates};
use crate::arch::machine;
use crate::sync::Once;
use core::sync::atomic::{AtomicBool, AtomicI8, AtomicU32, AtomicU64, Ordering};
use fallback::Fallback;
pub use scale::Scale;

/// The TSC's zero and scale, each written once before any other CPU runs.
static TSC_AT_START: AtomicU64 = AtomicU64::new(0);
static MUL_FRAC: AtomicU32 = AtomicU32::new(0);
static SHIFT: AtomicI8 = AtomicI8::new(0);
/// Whether system time comes from the reference counter instead.
static USE_FALLBACK: AtomicBool = AtomicBool::new(false);

struct Clock {
    rates: Rates,
    to_timer: Scale,
    fallback: Fallback,
    /// Longest wait the timer is set to, in nanoseconds: no farther than the timer
    /// counts, nor than half the time in which the fallback counter wraps.
    farthest: u64,
    /// Unix time at system time 0, in nanoseconds.
    unix_at_start: u64,
}

static CLOCK: Once<Clock> = Once::new();

/// What is known at one moment, for a guest's `vcpu_time_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// This CPU's TSC.
    pub tsc: u64,
    /// System time.
    pub now: Nanos,
}

/// Starts system time at 0. `rates` are what `arch` measured; `rtc` is the date the
/// battery clock shows now, in Unix seconds, if it shows one.
pub fn init(rates: Rates, rtc: Option<u64>) {
    let scale = Scale::from_hz(rates.tsc_hz);
    MUL_FRAC.store(scale.mul_frac, Ordering::Relaxed);
    SHIFT.store(scale.shift, Ordering::Relaxed);
    TSC_AT_START.store(machine::tsc(), Ordering::Relaxed);
    let timer_hz = match rates.timer {
        CpuTimer::Count { hz } => hz,
        CpuTimer::TscDeadline => rates.tsc_hz,
    };
    CLOCK.call_once(|| Clock {
        rates,
        to_timer: Scale::to_hz(timer_hz),
        farthest: Scale::from_hz(rates.reference.hz)
            .apply(rates.reference.mask / 2)
            .min(2_000_000_000),
        fallback: Fallback::new(rates.reference, machine::read_reference()),
        unix_at_start: rtc.unwrap_or(0).saturating_mul(1_000_000_000),
    });
}

fn clock() -> &'static Clock {
    CLOCK.get().expect("time::init ran")
}

/// Takes the TSC out of use as system time. Time does not step.
pub fn distrust_tsc() {
    if USE_FALLBACK.load(Ordering::Acquire) {
        return;
    }
    let at = now();
    let clock = clock();
    clock.fallback.set(at, machine::read_reference());
    USE_FALLBACK.store(true, Ordering::Release);
    log::warn!("TSC unfit as clock; using {}", clock.rates.reference.name);
}

/// System time.
#[must_use]
#[inline]
pub fn now() -> Nanos {
    if USE_FALLBACK.load(Ordering::Relaxed) {
        return fallback_now();
    }
    at_tsc(machine::tsc())
}

#[cold]
fn fallback_now() -> Nanos {
    clock().fallback.advance(machine::read_reference)
}

#[inline]
fn at_tsc(tsc: u64) -> Nanos {
    let elapsed = tsc.wrapping_sub(TSC_AT_START.load(Ordering::Relaxed));
    // A TSC a little behind the boot CPU's at the very start.
    let elapsed = if elapsed.cast_signed() < 0 {
        0
    } else {
        elapsed
    };
    Nanos(tsc_scale().apply(elapsed))
}

/// The TSC and the system time of one moment on this CPU.
#[must_use]
#[inline]
pub fn snapshot() -> Snapshot {
    let tsc = machine::tsc();
    let now = if USE_FALLBACK.load(Ordering::Relaxed) {
        fallback_now()
    } else {
        at_tsc(tsc)
    };
    Snapshot { tsc, now }
}

/// From TSC ticks to nanoseconds.
#[must_use]
#[inline]
pub fn tsc_scale() -> Scale {
    Scale {
        mul_frac: MUL_FRAC.load(Ordering::Relaxed),
        shift: SHIFT.load(Ordering::Relaxed),
    }
}

/// TSC ticks a millisecond.
#[must_use]
pub fn tsc_khz() -> u32 {
    u32::try_from(clock().rates.tsc_hz / 1000).unwrap_or(u32::MAX)
}

/// Whether CPUID promises that the TSC neither stops nor changes rate.
#[must_use]
pub fn tsc_is_invariant() -> bool {
    clock().rates.tsc_invariant && !USE_FALLBACK.load(Ordering::Relaxed)
}

/// Unix time at system time 0, in nanoseconds, as the battery clock had it.
#[must_use]
pub fn unix_at_start() -> u64 {
    clock().unix_at_start
}

/// Sets this CPU's timer to fire [`TIMER`](crate::arch::vectors::TIMER) at `deadline`
/// (at once if that has passed), or never. It may fire early when the deadline is
/// farther off than the hardware counts.
#[inline]
pub fn arm(deadline: Option<Nanos>) {
    let clock = clock();
    let left = match deadline {
        Some(deadline) => deadline.0.saturating_sub(now().0),
        // The fallback counter must be looked at now and then.
        None if USE_FALLBACK.load(Ordering::Relaxed) => clock.farthest,
        None => return machine::stop_timer(),
    };
    let ticks = clock.to_timer.apply(left.min(clock.farthest)).max(1);
    match clock.rates.timer {
        CpuTimer::Count { .. } => {
            machine::start_timer(u32::try_from(ticks).unwrap_or(u32::MAX));
        }
        CpuTimer::TscDeadline => machine::start_timer_at(machine::tsc().wrapping_add(ticks)),
    }
}

/// Waits, answering TLB flushes meanwhile.
pub fn spin_for(nanos: u64) {
    let ticks = Scale::to_hz(clock().rates.tsc_hz).apply(nanos);
    let start = machine::tsc();
    while machine::tsc().wrapping_sub(start) < ticks {
        machine::relax();
    }
}

/// Starts the clock of tests: a TSC of nanoseconds. The first call counts.
#[cfg(test)]
pub fn start_for_tests() {
    static STARTED: std::sync::Once = std::sync::Once::new();
    STARTED.call_once(|| {
        let rates = Rates {
            tsc_hz: 1_000_000_000,
            tsc_invariant: true,
            timer: CpuTimer::TscDeadline,
            reference: crate::arch::clock::Reference {
                name: "test",
                hz: 1_000_000_000,
                mask: u64::MAX,
            },
        };
        init(rates, Some(5));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_starts_at_zero_and_does_not_run_back() {
        start_for_tests();
        let a = now();
        let s = snapshot();
        assert!(a <= s.now);
        assert_eq!(at_tsc(s.tsc), s.now);
        assert_eq!(tsc_khz(), 1_000_000);
        assert_eq!(unix_at_start(), 5_000_000_000);
        spin_for(1000);
        assert!(now().0 >= s.now.0 + 1000);
        arm(Some(Nanos(1)));
        arm(None);
        let before = now();
        distrust_tsc();
        assert!(now() >= before);
        assert!(!tsc_is_invariant());
    }
}
