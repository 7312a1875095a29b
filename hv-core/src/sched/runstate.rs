//! Where a unit's time went, as `VCPUOP_get_runstate_info` reports it.

use crate::addr::Nanos;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Run state of a vCPU. Source: Xen `include/public/vcpu.h`, `RUNSTATE_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RunState {
    /// On a physical CPU.
    Running = 0,
    /// Could run, and waits for a CPU.
    Runnable = 1,
    /// Waits for an event.
    Blocked = 2,
    /// Down, paused, or over its cap.
    Offline = 3,
}

/// A snapshot of a unit's run state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunTimes {
    /// State now.
    pub state: RunState,
    /// When it entered that state.
    pub entered: Nanos,
    /// Nanoseconds spent in each state, up to the snapshot.
    pub time: [u64; 4],
}

/// The account itself; written under the lock of the unit's home queue.
#[derive(Debug)]
pub(super) struct Account {
    state: AtomicU32,
    entered: AtomicU64,
    time: [AtomicU64; 4],
}

impl Account {
    pub(super) const fn new() -> Self {
        Self {
            state: AtomicU32::new(RunState::Offline as u32),
            entered: AtomicU64::new(0),
            time: [const { AtomicU64::new(0) }; 4],
        }
    }

    pub(super) fn reset(&self, now: Nanos) {
        self.state.store(RunState::Offline as u32, Relaxed);
        self.entered.store(now.0, Relaxed);
        for t in &self.time {
            t.store(0, Relaxed);
        }
    }

    /// Enters `state` at `now`; staying in a state is no entry.
    #[inline]
    pub(super) fn enter(&self, state: RunState, now: Nanos) {
        let old = self.state.load(Relaxed);
        if old == state as u32 {
            return;
        }
        let spent = now.0.saturating_sub(self.entered.load(Relaxed));
        let sum = &self.time[old as usize & 3];
        sum.store(sum.load(Relaxed) + spent, Relaxed);
        self.state.store(state as u32, Relaxed);
        self.entered.store(now.0, Relaxed);
    }

    /// Whether the unit counts as waiting for a CPU.
    #[inline]
    pub(super) fn claims_runnable(&self) -> bool {
        self.state.load(Relaxed) == RunState::Runnable as u32
    }

    /// The account with the time since the last entry added.
    pub(super) fn read(&self, now: Nanos) -> RunTimes {
        let state = match self.state.load(Relaxed) {
            0 => RunState::Running,
            1 => RunState::Runnable,
            2 => RunState::Blocked,
            _ => RunState::Offline,
        };
        let entered = Nanos(self.entered.load(Relaxed));
        let mut time = [0; 4];
        for (to, from) in time.iter_mut().zip(&self.time) {
            *to = from.load(Relaxed);
        }
        time[state as usize] += now.0.saturating_sub(entered.0);
        RunTimes {
            state,
            entered,
            time,
        }
    }
}
