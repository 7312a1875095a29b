//! In which CPU's queue a unit waits.

use super::policy::{Policy, Why};
use super::runstate::RunState;
use super::scheduler::{Queue, Scheduler, Slot};
use super::unit::UnitId;
use crate::addr::{CpuId, CpuMask, MAX_CPUS, Nanos};
use crate::sync::Guard;
use core::sync::atomic::Ordering::{Relaxed, Release, SeqCst};

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
        let allowed = self.hosts(id);
        let idle = self.idle.load(Relaxed) & allowed;
        let preferred = self.units.at(id).preference.load(Relaxed);
        // An idle CPU before a busy one, and of these one that it likes.
        let best = [idle & preferred, idle, allowed & preferred];
        let set = best.into_iter().find(|set| *set != 0).unwrap_or(allowed);
        self.any_of(set, home)
    }

    /// CPUs `id` may be queued on; never none while a CPU is online.
    pub(super) fn hosts(&self, id: UnitId) -> u64 {
        let online = self.online().0;
        let allowed = self.units.at(id).affinity.load(SeqCst) & online;
        if allowed == 0 { online } else { allowed }
    }

    pub(super) fn may_host(&self, id: UnitId, cpu: CpuId) -> bool {
        CpuMask(self.hosts(id)).contains(cpu)
    }

    /// A CPU of `set`: `near` if it is in, else the next one up, around the end.
    pub(super) fn any_of(&self, set: u64, near: CpuId) -> CpuId {
        if set == 0 {
            return near;
        }
        let near = u32::from(near.0);
        let ahead = set.rotate_right(near).trailing_zeros();
        CpuId(((near + ahead) % MAX_CPUS as u32) as u16)
    }

    /// Nobody else should send work to `cpu` because it is idle.
    #[inline]
    pub(super) fn claim_idle(&self, cpu: CpuId) {
        let bit = CpuMask::only(cpu).0;
        if self.idle.load(Relaxed) & bit != 0 {
            self.idle.fetch_and(!bit, SeqCst);
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
        &self.slots[cpu.0 as usize]
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
