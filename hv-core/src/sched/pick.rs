//! What a CPU runs next.

use super::policy::{Policy, Running, Why};
use super::runstate::RunState;
use super::scheduler::{Queue, Scheduler};
use super::states::resting_state;
use super::unit::{ON_CPU, PARKED, UnitId, WOKEN, YIELDING, runnable};
use crate::addr::{CpuId, Nanos, cpus_of_word};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

/// What a CPU should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The unit to run; `None`: idle.
    pub next: Option<UnitId>,
    /// Nanoseconds until the CPU must ask again (`u64::MAX`: when kicked).
    pub slice: Nanos,
}

impl<P: Policy> Scheduler<P> {
    /// What `cpu` should run now. Called by that CPU only: when its slice ends, when it
    /// is kicked, and when its unit blocks, yields or stops. `kick` is told of other CPUs
    /// that have something better to do now.
    ///
    /// If the answer is not the unit that ran before, the caller saves that one's
    /// context and then calls [`Scheduler::switched_out`] for it.
    pub fn pick(&self, cpu: CpuId, now: Nanos, mut kick: impl FnMut(CpuId)) -> Decision {
        if self.policy.account_due(now) {
            let cpus = self.online().count() as u32;
            self.policy.account(&self.units, cpus, now, &mut |id| {
                let better = self.resume(id, PARKED, Why::Continues, now);
                if let Some(other) = better.filter(|other| *other != cpu) {
                    kick(other);
                }
            });
        }
        let mut guard = self.slot(cpu).queue.lock();
        let queue = &mut *guard;
        let prev = queue.current;
        if prev.is_none() {
            queue.idle += now.0.saturating_sub(queue.charged.0);
        }
        let running = prev.and_then(|id| self.settle_running(queue, id, cpu, now));
        let next = self.choose(queue, cpu, running, now);
        if next != prev {
            if let Some(id) = prev {
                self.rest(id, now);
            }
            if let Some(id) = next {
                self.units.at(id).account.enter(RunState::Running, now);
            }
            queue.current = next;
        }
        queue.charged = now;
        let slice = if let Some(id) = next {
            let fresh = next != prev;
            if fresh {
                self.claim_idle(cpu);
            }
            self.policy
                .slice(&mut queue.order, &self.units, id, fresh, now)
        } else {
            self.idle.set(cpu, SeqCst);
            self.policy.idle_slice(now)
        };
        Decision { next, slice }
    }

    /// Takes the unit that runs on `cpu` away from it and gives it none. Called by that
    /// CPU only, which then saves the unit's context and calls
    /// [`Scheduler::switched_out`] for it, and [`Scheduler::pick`] when it wants one again.
    pub fn vacate(&self, cpu: CpuId, now: Nanos) {
        let mut queue = self.slot(cpu).queue.lock();
        if let Some(id) = queue.current {
            self.settle_running(&mut queue, id, cpu, now);
            self.rest(id, now);
            queue.current = None;
            queue.charged = now;
        }
    }

    /// Notes that a unit runs no longer.
    fn rest(&self, id: UnitId, now: Nanos) {
        let unit = self.units.at(id);
        let state = resting_state(unit.word.load(SeqCst));
        unit.account.enter(state, now);
    }

    /// Charges the unit on `cpu`; says whether it may go on.
    pub(super) fn settle_running(
        &self,
        queue: &mut Queue<P::Queue>,
        id: UnitId,
        cpu: CpuId,
        now: Nanos,
    ) -> Option<Running> {
        let unit = self.units.at(id);
        let ran = Nanos(now.0.saturating_sub(queue.charged.0));
        if self
            .policy
            .charge(&mut queue.order, &self.units, id, ran, now)
        {
            unit.word.fetch_or(PARKED, SeqCst);
        }
        let word = unit.word.load(SeqCst);
        if word & (YIELDING | WOKEN) != 0 && runnable(word) {
            unit.word.fetch_and(!(YIELDING | WOKEN), SeqCst);
        }
        (runnable(word) && unit.allows(cpu)).then_some(Running {
            id,
            yielding: word & YIELDING != 0,
        })
    }

    /// Finds what to run: `running`, a unit of this queue or one of another. A queued
    /// one is taken out of its queue.
    pub(super) fn choose(
        &self,
        queue: &mut Queue<P::Queue>,
        cpu: CpuId,
        running: Option<Running>,
        now: Nanos,
    ) -> Option<UnitId> {
        loop {
            let best = self
                .policy
                .best(&mut queue.order, &self.units, running, now);
            if self.policy.hungry(&self.units, best) {
                let stolen = self.steal(cpu, best, now);
                if stolen.is_some() {
                    return stolen;
                }
            }
            let id = best?;
            if running.is_some_and(|r| r.id == id) {
                return best;
            }
            self.unlink(cpu, queue, id);
            if self.take(id, now) {
                return best;
            }
        }
    }

    /// Takes from another CPU what this one should run rather than `best`.
    pub(super) fn steal(&self, thief: CpuId, best: Option<UnitId>, now: Nanos) -> Option<UnitId> {
        let words = 0..self.slots.mask_words();
        for victim in words.flat_map(|n| cpus_of_word(n, self.online.word(n, Acquire))) {
            let slot = self.slot(victim);
            if victim == thief || slot.linked.load(Relaxed) == 0 {
                continue;
            }
            let Some(mut queue) = slot.queue.try_lock() else {
                continue;
            };
            while let Some(id) = self
                .policy
                .steal(&queue.order, &self.units, thief, best, now)
            {
                self.unlink(victim, &mut queue, id);
                // Before it is seen on a CPU, so that a pause kicks the right one.
                self.units.at(id).home.store(thief.0, Release);
                if self.take(id, now) {
                    return Some(id);
                }
            }
        }
        None
    }

    /// Moves an unlinked unit from queued to on-CPU, or to rest if it was stopped
    /// while it was queued.
    pub(super) fn take(&self, id: UnitId, now: Nanos) -> bool {
        let unit = self.units.at(id);
        let go = unit.take();
        if !go {
            unit.account
                .enter(resting_state(unit.word.load(SeqCst)), now);
        }
        go
    }

    /// `id`'s context is saved: other CPUs may have it. Returns a CPU to kick.
    #[inline]
    pub fn switched_out(&self, id: UnitId, now: Nanos) -> Option<CpuId> {
        let unit = self.units.at(id);
        let (old, duty) = unit.release(ON_CPU | YIELDING | WOKEN, 0);
        if !duty {
            if unit.account.claims_runnable() {
                // Stopped since it was picked away.
                self.settle(id, now);
            }
            return None;
        }
        let why = if old & WOKEN != 0 {
            Why::Woken
        } else {
            Why::Continues
        };
        self.place(id, why, now)
    }
}
