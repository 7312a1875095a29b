//! The one-shot timer of a vCPU: `set_timer_op` (15), and what `vcpu_op` does with it.

use super::{Call, Error, HypercallResult, Reply};
use crate::addr::Nanos;
use crate::event::Virq;
use crate::time;

/// A deadline farther off is taken for one that wrapped, in nanoseconds (13 days).
const FARTHEST: u64 = 1 << 50;
/// What such a deadline becomes: this far off, in nanoseconds.
const INSTEAD: u64 = 100_000_000;

/// `set_timer_op`: sets the caller's one-shot timer to system time `args[0]`, or stops it
/// for 0.
///
/// # Errors
/// `ENOMEM`.
pub fn set_timer_op(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let deadline = args[0];
    if deadline == 0 {
        stop(call);
    } else {
        let now = time::now();
        // Older guests ask for such times when they wait for nothing, so at once would
        // be wrong too. Xen chose the same.
        let wrapped = deadline.saturating_sub(now.0) >= FARTHEST;
        let deadline = if wrapped { now.0 + INSTEAD } else { deadline };
        set(call, Nanos(deadline), now)?;
    }
    Ok(Reply::Done(0))
}

/// Sets the caller's one-shot timer; a time that has passed raises the timer interrupt
/// now.
///
/// # Errors
/// `ENOMEM`.
#[inline]
pub(super) fn set(call: &Call<'_>, deadline: Nanos, now: Nanos) -> Result<(), Error> {
    if deadline <= now {
        stop(call);
        call.domain.raise_virq(call.vcpu.id, Virq::TIMER);
        return Ok(());
    }
    time::timers::set(&call.vcpu.singleshot, deadline).map_err(|_| Error::NoMemory)
}

/// Stops the caller's one-shot timer.
#[inline]
pub(super) fn stop(call: &Call<'_>) {
    time::timers::cancel(&call.vcpu.singleshot);
}
