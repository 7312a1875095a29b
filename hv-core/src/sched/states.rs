//! What makes a unit runnable, and what stops it.

use super::policy::{Policy, Why};
use super::runstate::RunState;
use super::scheduler::Scheduler;
use super::unit::{
    self, BLOCKED, OFFLINE, ON_CPU, PAUSE_ONE, POLLING, QUEUED, SchedError, UnitId, WOKEN,
    YIELDING, runnable,
};
use crate::addr::{CpuId, Nanos};
use core::sync::atomic::Ordering::{Relaxed, SeqCst};

impl<P: Policy> Scheduler<P> {
    /// Wakes `id` if it is blocked. Returns a CPU to kick.
    ///
    /// Whoever calls it has made the reason visible first, by a sequentially consistent
    /// write; see [`Scheduler::block`].
    #[inline]
    pub fn wake(&self, id: UnitId, now: Nanos) -> Option<CpuId> {
        if self.units.at(id).word.load(SeqCst) & BLOCKED == 0 {
            return None;
        }
        self.resume(id, BLOCKED | POLLING, Why::Woken, now)
    }

    /// Tells `id` of an event: wakes it if it is blocked, and if it is on a CPU names that
    /// CPU, which must look before the guest goes on.
    #[inline]
    pub fn notify(&self, id: UnitId, now: Nanos) -> Option<CpuId> {
        let unit = self.units.at(id);
        let word = unit.word.load(SeqCst);
        if word & BLOCKED != 0 {
            self.resume(id, BLOCKED | POLLING, Why::Woken, now)
        } else if word & ON_CPU != 0 {
            Some(unit.home())
        } else {
            None
        }
    }

    /// Wakes `id` if it is blocked in a poll. Returns a CPU to kick.
    #[inline]
    pub fn wake_poller(&self, id: UnitId, now: Nanos) -> Option<CpuId> {
        if self.units.at(id).word.load(SeqCst) & POLLING == 0 {
            return None;
        }
        self.resume(id, BLOCKED | POLLING, Why::Woken, now)
    }

    /// Blocks `id`, which is on this CPU, unless `due` says that what it would wait for
    /// is there. `true`: blocked, the caller picks. `false`: it runs on.
    ///
    /// No wake-up is lost: `due` runs after the block is visible, and reads with
    /// sequentially consistent loads what wakers write before they call
    /// [`Scheduler::wake`]. One of the two sees the other.
    #[inline]
    pub fn block(&self, id: UnitId, due: impl FnOnce() -> bool) -> bool {
        self.block_as(id, BLOCKED, due)
    }

    /// As [`Scheduler::block`], to be woken by [`Scheduler::wake_poller`] too.
    pub fn block_polling(&self, id: UnitId, due: impl FnOnce() -> bool) -> bool {
        self.block_as(id, BLOCKED | POLLING, due)
    }

    #[inline]
    pub(super) fn block_as(&self, id: UnitId, bits: u64, due: impl FnOnce() -> bool) -> bool {
        let word = &self.units.at(id).word;
        word.fetch_or(bits, SeqCst);
        let due = due();
        if due {
            // On a CPU, so making it runnable queues nothing.
            word.fetch_and(!bits, SeqCst);
        }
        !due
    }

    /// Lets others go first at the next pick.
    pub fn yield_(&self, id: UnitId) {
        self.units.at(id).word.fetch_or(YIELDING, SeqCst);
    }

    /// Brings `id` online. Returns a CPU to kick.
    pub fn up(&self, id: UnitId, now: Nanos) -> Option<CpuId> {
        self.resume(id, OFFLINE, Why::Continues, now)
    }

    /// Takes `id` offline. Returns the CPU to kick if it is on one (for a vCPU that
    /// goes down itself: the caller's own CPU, which picks).
    pub fn down(&self, id: UnitId, now: Nanos) -> Option<CpuId> {
        let old = self.units.at(id).word.fetch_or(OFFLINE, SeqCst);
        self.stopped(id, old, now)
    }

    /// Whether `id` is online (`VCPUOP_is_up`).
    #[must_use]
    #[inline]
    pub fn is_up(&self, id: UnitId) -> bool {
        self.units.at(id).word.load(Relaxed) & OFFLINE == 0
    }

    /// Counts one more reason for `id` not to run. Returns the CPU to kick if it is on
    /// one; it leaves when that CPU picks.
    ///
    /// # Errors
    /// [`SchedError::PauseCount`]: too many.
    pub fn pause(&self, id: UnitId, now: Nanos) -> Result<Option<CpuId>, SchedError> {
        let old = self
            .units
            .at(id)
            .word
            .fetch_update(SeqCst, SeqCst, |w| w.checked_add(PAUSE_ONE))
            .map_err(|_| SchedError::PauseCount)?;
        Ok(self.stopped(id, old, now))
    }

    /// Takes back one [`Scheduler::pause`]. Returns a CPU to kick.
    ///
    /// # Errors
    /// [`SchedError::PauseCount`]: not paused.
    pub fn unpause(&self, id: UnitId, now: Nanos) -> Result<Option<CpuId>, SchedError> {
        let unit = self.units.at(id);
        let mut duty = false;
        unit.word
            .fetch_update(SeqCst, SeqCst, |w| {
                let new = w.checked_sub(PAUSE_ONE)?;
                duty = runnable(new) && new & (QUEUED | ON_CPU) == 0;
                Some(if duty { new | QUEUED } else { new })
            })
            .map_err(|_| SchedError::PauseCount)?;
        if duty {
            Ok(self.place(id, Why::Continues, now))
        } else {
            self.settle(id, now);
            Ok(None)
        }
    }

    /// Clears reasons not to run, and queues the unit if none is left.
    pub(super) fn resume(&self, id: UnitId, bits: u64, why: Why, now: Nanos) -> Option<CpuId> {
        let if_on_cpu = if why == Why::Woken { WOKEN } else { 0 };
        let (old, duty) = self.units.at(id).release(bits, if_on_cpu);
        if duty {
            return self.place(id, why, now);
        }
        if old & bits != 0 {
            self.settle(id, now);
        }
        None
    }

    /// After `id` got a new reason not to run; `old` is its word before.
    pub(super) fn stopped(&self, id: UnitId, old: u64, now: Nanos) -> Option<CpuId> {
        if old & ON_CPU != 0 {
            return Some(self.units.at(id).home());
        }
        self.settle(id, now);
        None
    }

    /// Brings the run state (and the queue) of a stopped unit in line with its word.
    pub(super) fn settle(&self, id: UnitId, now: Nanos) {
        let unit = self.units.at(id);
        let (home, mut queue) = self.lock_home(id);
        let word = unit.word.load(SeqCst);
        if word & ON_CPU != 0 || runnable(word) {
            return;
        }
        if unit.linked.load(Relaxed) {
            if !unit.rest() {
                // Runnable again just now: it keeps its place.
                return;
            }
            self.unlink(home, &mut queue, id);
        }
        unit.account.enter(resting_state(word), now);
    }
}

/// The run state of a unit that is on no CPU, from its word.
pub(super) const fn resting_state(word: u64) -> RunState {
    if unit::runnable(word) {
        RunState::Runnable
    } else if word & BLOCKED != 0 {
        RunState::Blocked
    } else {
        RunState::Offline
    }
}
