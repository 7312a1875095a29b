//! In which CPU's queue a unit waits.

use super::policy::{Policy, Why};
use super::runstate::RunState;
use super::scheduler::{Queue, Scheduler, Slot};
use super::unit::UnitId;
use crate::addr::{CpuId, Nanos, nearest};
use crate::sync::Guard;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};

impl<P: Policy> Scheduler<P> {
    /// Puts `id` into a queue. The caller has set `QUEUED`. Returns the CPU to kick, if
    /// the one chosen should not go on with what it does.
    pub(super) fn place(&self, id: UnitId, why: Why, now: Nanos) -> Option<CpuId> {
        let unit = self.units.at(id);
        let (mut home, mut queue) = self.lock_home(id);
        unit.account.enter(RunState::Runnable, now);
        let mut target = self.target(id, home);
        while target != home {
            unit.home.store(target.0, Release);
            drop(queue);
            home = target;
            queue = self.slot(home).queue.lock();
            // The affinity may have changed before we had the lock.
            if !self.may_host(id, home) {
                target = self.target(id, home);
            }
        }
        self.link(home, &mut queue, id, why);
        let kick = queue
            .current
            .is_none_or(|cur| self.policy.preempts(&self.units, id, cur));
        drop(queue);
        self.claim_idle(home);
        kick.then_some(home)
    }

    /// Where `id` should be queued.
    pub(super) fn target(&self, id: UnitId, home: CpuId) -> CpuId {
        let unit = self.units.at(id);
        let bound = self.is_bound(id);
        let allowed = |n| self.hosts_in_word(id, bound, n);
        let idle = |n| allowed(n) & self.idle.word(n, Relaxed);
        let preferred = |n| unit.preference.word(n, Relaxed);
        // An idle CPU before a busy one, and of these one that it likes.
        self.any_of(home, |n| idle(n) & preferred(n))
            .or_else(|| self.any_of(home, idle))
            .or_else(|| self.any_of(home, |n| allowed(n) & preferred(n)))
            .or_else(|| self.any_of(home, allowed))
            .unwrap_or(home)
    }

    /// Whether a CPU is online that `id` may run on. If not it may be queued anywhere.
    fn is_bound(&self, id: UnitId) -> bool {
        (0..self.slots.mask_words()).any(|n| self.hosts_in_word(id, true, n) != 0)
    }

    /// Word `n` of the mask of the CPUs `id` may be queued on, `bound` to its affinity or
    /// not.
    fn hosts_in_word(&self, id: UnitId, bound: bool, n: usize) -> u64 {
        let online = self.online.word(n, Acquire);
        if bound {
            self.units.at(id).affinity.word(n, SeqCst) & online
        } else {
            online
        }
    }

    pub(super) fn may_host(&self, id: UnitId, cpu: CpuId) -> bool {
        let bound = self.is_bound(id);
        self.hosts_in_word(id, bound, cpu.word()) & cpu.bit() != 0
    }

    /// A CPU of the set with these words: `near` if it is in, else the next one up, around
    /// the end.
    pub(super) fn any_of(&self, near: CpuId, word: impl Fn(usize) -> u64) -> Option<CpuId> {
        nearest(near, self.slots.mask_words(), word)
    }

    /// Nobody else should send work to `cpu` because it is idle.
    #[inline]
    pub(super) fn claim_idle(&self, cpu: CpuId) {
        if self.idle.contains(cpu, Relaxed) {
            self.idle.clear(cpu, SeqCst);
        }
    }

    #[inline]
    pub(super) fn link(&self, cpu: CpuId, queue: &mut Queue<P::Queue>, id: UnitId, why: Why) {
        self.units.at(id).linked.store(true, Relaxed);
        let linked = &self.slot(cpu).linked;
        linked.store(linked.load(Relaxed) + 1, Relaxed);
        self.policy.link(&mut queue.order, &self.units, id, why);
    }

    #[inline]
    pub(super) fn unlink(&self, cpu: CpuId, queue: &mut Queue<P::Queue>, id: UnitId) {
        self.units.at(id).linked.store(false, Relaxed);
        let linked = &self.slot(cpu).linked;
        linked.store(linked.load(Relaxed) - 1, Relaxed);
        self.policy.unlink(&mut queue.order, &self.units, id);
    }

    #[inline]
    pub(super) fn slot(&self, cpu: CpuId) -> &Slot<P::Queue> {
        self.slots.of(cpu)
    }

    /// Locks the queue `id` belongs to.
    pub(super) fn lock_home(&self, id: UnitId) -> (CpuId, Guard<'_, Queue<P::Queue>>) {
        let unit = self.units.at(id);
        loop {
            let home = unit.home();
            let queue = self.slot(home).queue.lock();
            if unit.home() == home {
                return (home, queue);
            }
        }
    }
}
