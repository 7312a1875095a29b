//! This host's timers, and what each CPU's clock is set to.
//!
//! A CPU's clock is set to the earliest of its timers and the end of its slice. It is
//! set again only for something earlier; when it goes off it is set to what is left. So
//! stopping a timer or setting it later costs no access to the clock, and now and then
//! an interrupt finds nothing due.
//!
//! Every function here is about the CPU that calls it.

use super::timer_queue::{Due, NEVER, Timer, TimerError, Timers};
use crate::addr::{CpuId, Nanos};
use crate::arch::machine;
use crate::percpu::PerCpu;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

static TIMERS: Timers = Timers::new();

/// What only its own CPU uses.
struct Clock {
    /// What the clock is set to.
    armed: AtomicU64,
    slice_end: AtomicU64,
}

static CLOCKS: PerCpu<Clock> = PerCpu::new(Clock::unset());

impl Clock {
    const fn unset() -> Self {
        Self {
            armed: AtomicU64::new(NEVER.0),
            slice_end: AtomicU64::new(NEVER.0),
        }
    }
}

/// Makes room for `count` CPUs. Before the second one runs.
pub fn make_room(count: usize) {
    TIMERS.make_room(count);
    CLOCKS.make_room(count, Clock::unset);
}

/// What a CPU does about its timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The slice is over: pick again.
    pub slice: bool,
}

/// Makes room on every CPU of `cpus` for `total` timers, so that [`set`] cannot fail.
///
/// # Errors
/// [`TimerError::NoMemory`].
pub fn reserve(cpus: impl Iterator<Item = CpuId>, total: usize) -> Result<(), TimerError> {
    for cpu in cpus {
        TIMERS.reserve(cpu, total)?;
    }
    Ok(())
}

/// Sets `timer` to `deadline`, which may have passed. It expires on this CPU.
///
/// # Errors
/// [`TimerError::NoMemory`]; the timer is then not set.
#[inline]
pub fn set(timer: &Timer, deadline: Nanos) -> Result<(), TimerError> {
    let here = machine::cpu_id();
    let first = TIMERS.set(here, timer, deadline)?;
    arm_by(here, first);
    Ok(())
}

/// Sets a timer that expired on this CPU to `deadline`, unless somebody has set, cancelled or
/// ended it since.
pub fn set_again(timer: &Timer, due: &Due, deadline: Nanos) {
    let here = machine::cpu_id();
    arm_by(here, TIMERS.set_again(here, timer, due, deadline));
}

/// Stops `timer`. `false`: it was not set, or has expired.
#[inline]
pub fn cancel(timer: &Timer) -> bool {
    TIMERS.cancel(timer)
}

/// Stops `timer` for good: whoever still sets it changes nothing.
pub fn end(timer: &Timer) {
    TIMERS.end(timer);
}

/// Sets when this CPU must pick again ([`NEVER`]: when it is kicked).
#[inline]
pub fn set_slice_end(end: Nanos) {
    let here = machine::cpu_id();
    clock(here).slice_end.store(end.0, Relaxed);
    arm_by(here, end);
}

/// After the clock went off: calls `fire` with each timer due, no lock held, and sets the
/// clock to what is left. Somebody else may have changed the timer by then:
/// [`Timer::is_due`] tells.
pub fn expire(now: Nanos, mut fire: impl FnMut(&Due)) -> Expired {
    let here = machine::cpu_id();
    let clock = clock(here);
    // It is set to nothing any more, so whatever `fire` sets arms it.
    clock.armed.store(NEVER.0, Relaxed);
    while let Some(due) = TIMERS.pop_expired(here, now) {
        fire(&due);
    }
    let mut end = clock.slice_end.load(Relaxed);
    let slice = end <= now.0;
    if slice {
        end = NEVER.0;
        clock.slice_end.store(end, Relaxed);
    }
    arm_by(here, TIMERS.next_deadline(here).min(Nanos(end)));
    Expired { slice }
}

/// Makes sure the clock goes off by `deadline`.
#[inline]
fn arm_by(here: CpuId, deadline: Nanos) {
    let clock = clock(here);
    if deadline.0 < clock.armed.load(Relaxed) {
        clock.armed.store(deadline.0, Relaxed);
        super::arm(Some(deadline));
    }
}

#[inline]
fn clock(cpu: CpuId) -> &'static Clock {
    CLOCKS.of(cpu)
}
