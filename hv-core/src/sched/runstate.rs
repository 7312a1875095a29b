//! Where a unit's time went, as `VCPUOP_get_runstate_info` reports it.

use crate::addr::Nanos;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use xen_abi::vcpu::{VcpuRunstateInfo, XEN_RUNSTATE_UPDATE};
use zerocopy::IntoBytes;

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

impl RunTimes {
    /// As the guest's structure, the update flag clear.
    #[must_use]
    pub const fn info(&self) -> VcpuRunstateInfo {
        VcpuRunstateInfo {
            state: self.state as i32,
            _pad: 0,
            state_entry_time: self.entered.0 & !XEN_RUNSTATE_UPDATE,
            time: self.time,
        }
    }

    /// The writes, in order, that bring a registered runstate area up to date: offset
    /// into the area, and bytes. The caller does each with a copy to the guest, and
    /// gives up at the first that fails.
    ///
    /// With `flagged` (`VMASST_TYPE_runstate_update_flag`), bit 63 of the entry time is
    /// set while the rest changes: other vCPUs read the area too. That bit is alone in
    /// the byte it is written by, and a byte is never seen half written.
    #[must_use]
    pub fn area_writes(&self, flagged: bool) -> AreaWrites {
        let mut info = self.info();
        let last = info.state_entry_time.to_le_bytes()[7];
        if flagged {
            info.state_entry_time |= XEN_RUNSTATE_UPDATE;
        }
        AreaWrites {
            info,
            last,
            step: if flagged { 0 } else { 2 },
            flagged,
        }
    }
}

/// Offset of the byte with [`XEN_RUNSTATE_UPDATE`].
const FLAG_BYTE: usize = 15;

/// See [`RunTimes::area_writes`].
#[derive(Clone, Debug)]
pub struct AreaWrites {
    info: VcpuRunstateInfo,
    last: u8,
    step: u8,
    flagged: bool,
}

impl AreaWrites {
    /// The next write; `None` when all is written.
    pub fn next_write(&mut self) -> Option<(usize, &[u8])> {
        let step = self.step;
        self.step += 1;
        match (step, self.flagged) {
            (0, true) => Some((FLAG_BYTE, &self.info.as_bytes()[FLAG_BYTE..=FLAG_BYTE])),
            (1, true) | (2, false) => Some((0, self.info.as_bytes())),
            (2, true) => Some((FLAG_BYTE, core::slice::from_ref(&self.last))),
            _ => None,
        }
    }
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

    /// Nanoseconds since the last entry.
    #[inline]
    pub(super) fn since(&self, now: Nanos) -> u64 {
        now.0.saturating_sub(self.entered.load(Relaxed))
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

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: RunTimes = RunTimes {
        state: RunState::Running,
        entered: Nanos(0x1234),
        time: [1, 2, 3, 4],
    };

    #[test]
    fn the_flag_is_up_while_the_area_changes() {
        let mut area = [0xaau8; 48];
        let mut seen = Vec::new();
        let mut writes = TIMES.area_writes(true);
        while let Some((at, bytes)) = writes.next_write() {
            area[at..at + bytes.len()].copy_from_slice(bytes);
            seen.push((bytes.len(), area[15] >> 7));
        }
        assert_eq!(seen, [(1, 1), (48, 1), (1, 0)]);
        assert_eq!(area, TIMES.info().as_bytes());
    }

    #[test]
    fn without_the_assist_one_write_does() {
        let mut writes = TIMES.area_writes(false);
        assert_eq!(writes.next_write(), Some((0, TIMES.info().as_bytes())));
        assert_eq!(writes.next_write(), None);
    }
}
