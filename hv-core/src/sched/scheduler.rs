//! The scheduler: run states, places and locks. Order is the policy's.

use super::GroupId;
use super::policy::{Policy, Why};
use super::runstate::RunTimes;
use super::unit::{BLOCKED, OFFLINE, ON_CPU, PAUSE_ONE, QUEUED, SchedError, UnitId, Units};
use crate::addr::{AtomicCpuMask, CpuId, CpuMask, DomId, Nanos, VcpuId};
use crate::percpu::PerCpu;
use crate::sync::{Guard, Level, Lock};
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

/// One CPU's queue and what it runs.
#[derive(Debug)]
pub(super) struct Queue<Q> {
    pub(super) current: Option<UnitId>,
    /// Up to when `current` has been charged.
    pub(super) charged: Nanos,
    /// Nanoseconds without anything to run, up to `charged`.
    pub(super) idle: u64,
    pub(super) order: Q,
}

/// A CPU's slot.
#[derive(Debug)]
pub(super) struct Slot<Q> {
    pub(super) queue: Lock<Queue<Q>>,
    /// Units linked; written under the lock, read by CPUs that look for work.
    pub(super) linked: AtomicU32,
}

/// All units and queues. `P` keeps the order.
#[derive(Debug)]
pub struct Scheduler<P: Policy> {
    pub(super) policy: P,
    pub(super) units: Units<P::Unit>,
    pub(super) slots: PerCpu<Slot<P::Queue>>,
    pub(super) online: AtomicCpuMask,
    /// CPUs with nothing to run that nobody has sent work to yet: a hint; what a CPU
    /// runs is in its queue.
    pub(super) idle: AtomicCpuMask,
}

impl<P: Policy> Scheduler<P> {
    /// A scheduler without CPUs or units.
    #[must_use]
    pub const fn new(policy: P) -> Self {
        Self {
            policy,
            units: Units::new(),
            slots: PerCpu::new(Self::empty_slot()),
            online: AtomicCpuMask::new(CpuMask::NONE),
            idle: AtomicCpuMask::new(CpuMask::NONE),
        }
    }

    const fn empty_slot() -> Slot<P::Queue> {
        Slot {
            queue: Lock::new(
                Level::RunQueue,
                Queue {
                    current: None,
                    charged: Nanos(0),
                    idle: 0,
                    order: P::EMPTY,
                },
            ),
            linked: AtomicU32::new(0),
        }
    }

    /// Makes room for `count` CPUs. Before the second one takes part.
    pub fn make_room(&self, count: usize) {
        self.slots.make_room(count, Self::empty_slot);
    }

    /// The policy, for its parameters.
    pub const fn policy(&self) -> &P {
        &self.policy
    }

    /// The units.
    pub const fn units(&self) -> &Units<P::Unit> {
        &self.units
    }

    /// `cpu` takes part from now on. It is idle until its first pick.
    pub fn add_cpu(&self, cpu: CpuId) {
        self.online.set(cpu, SeqCst);
        self.idle.set(cpu, SeqCst);
    }

    /// CPUs that take part.
    #[must_use]
    pub fn online(&self) -> CpuMask {
        self.online.load(Acquire)
    }

    /// A new unit, offline, that may run everywhere.
    ///
    /// # Errors
    /// [`SchedError::Full`]: no memory or no slot left.
    pub fn add_unit(
        &self,
        dom: DomId,
        vcpu: VcpuId,
        group: GroupId,
        now: Nanos,
    ) -> Result<UnitId, SchedError> {
        let id = self.units.add(dom, vcpu, now)?;
        let unit = self.units.at(id);
        // Spread new units over the CPUs; they move as soon as that is better.
        let near = CpuId(vcpu.0 % self.slots.count() as u16);
        let home = self
            .any_of(near, |n| self.online.word(n, Acquire))
            .unwrap_or(near);
        unit.home.store(home.0, Release);
        self.policy.join(&self.units, id, group);
        Ok(id)
    }

    /// Forgets a unit. The caller has paused it and seen it off its CPU
    /// ([`Scheduler::is_on_cpu`]), and nobody wakes it any more.
    pub fn remove_unit(&self, id: UnitId) {
        let unit = self.units.at(id);
        unit.word.fetch_or(OFFLINE, SeqCst);
        loop {
            {
                let (home, mut queue) = self.lock_home(id);
                if unit.word.load(SeqCst) & QUEUED == 0 {
                    break;
                }
                if unit.linked.load(Relaxed) {
                    self.unlink(home, &mut queue, id);
                    unit.word.fetch_and(!QUEUED, SeqCst);
                    break;
                }
            }
            // Another CPU is about to link it.
            crate::arch::machine::relax();
        }
        self.policy.leave(&self.units, id);
        self.units.free(id);
    }

    /// Restricts `id` to the CPUs of `mask`.
    ///
    /// Returns a CPU to kick.
    ///
    /// # Errors
    /// [`SchedError::BadParameter`] (`EINVAL`): no CPU that is online.
    /// [`SchedError::Pinned`] (`EBUSY`): the unit is pinned ([`Scheduler::pin`]).
    pub fn set_affinity(
        &self,
        id: UnitId,
        mask: &CpuMask,
        now: Nanos,
    ) -> Result<Option<CpuId>, SchedError> {
        self.check_online(mask)?;
        let (home, queue) = self.lock_home(id);
        if self.units.at(id).pinned.load(Relaxed) {
            return Err(SchedError::Pinned);
        }
        Ok(self.restrict(id, mask, home, queue, now))
    }

    /// Restricts `id` to `cpu` until [`Scheduler::unpin`]. Returns a CPU to kick.
    ///
    /// # Errors
    /// [`SchedError::BadParameter`] (`EINVAL`): that CPU is not online.
    /// [`SchedError::Pinned`] (`EBUSY`): it is pinned already.
    pub fn pin(&self, id: UnitId, cpu: CpuId, now: Nanos) -> Result<Option<CpuId>, SchedError> {
        if !self.online.contains(cpu, Acquire) {
            return Err(SchedError::BadParameter);
        }
        let (home, queue) = self.lock_home(id);
        let unit = self.units.at(id);
        if unit.pinned.swap(true, Relaxed) {
            return Err(SchedError::Pinned);
        }
        unit.unpinned.store(&unit.affinity.load(Relaxed), Relaxed);
        Ok(self.restrict(id, &CpuMask::only(cpu), home, queue, now))
    }

    /// Lets `id` run where it might before [`Scheduler::pin`]. Returns a CPU to kick.
    ///
    /// # Errors
    /// [`SchedError::BadParameter`] (`EINVAL`): it is not pinned.
    pub fn unpin(&self, id: UnitId, now: Nanos) -> Result<Option<CpuId>, SchedError> {
        let (home, queue) = self.lock_home(id);
        let unit = self.units.at(id);
        if !unit.pinned.swap(false, Relaxed) {
            return Err(SchedError::BadParameter);
        }
        let before = unit.unpinned.load(Relaxed);
        Ok(self.restrict(id, &before, home, queue, now))
    }

    fn check_online(&self, mask: &CpuMask) -> Result<(), SchedError> {
        if mask.and(&self.online()).is_empty() {
            return Err(SchedError::BadParameter);
        }
        Ok(())
    }

    /// Sets the affinity of `id`, whose home is `home` and locked: who places the unit looks
    /// at it under that lock.
    fn restrict(
        &self,
        id: UnitId,
        mask: &CpuMask,
        home: CpuId,
        mut queue: Guard<'_, Queue<P::Queue>>,
        now: Nanos,
    ) -> Option<CpuId> {
        let unit = self.units.at(id);
        unit.affinity.store(mask, SeqCst);
        if mask.contains(home) {
            return None;
        }
        if unit.linked.load(Relaxed) {
            // Still marked queued, so it is ours to place.
            self.unlink(home, &mut queue, id);
            drop(queue);
            return self.place(id, Why::Continues, now);
        }
        (unit.word.load(SeqCst) & ON_CPU != 0).then_some(home)
    }

    /// CPUs `id` may run on.
    #[must_use]
    pub fn affinity(&self, id: UnitId) -> CpuMask {
        let _home = self.lock_home(id);
        self.units.at(id).affinity.load(Relaxed)
    }

    /// Makes `id` run on the CPUs of `mask` where there is a choice.
    pub fn set_preference(&self, id: UnitId, mask: &CpuMask) {
        let _home = self.lock_home(id);
        self.units.at(id).preference.store(mask, Relaxed);
    }

    /// CPUs `id` prefers.
    #[must_use]
    pub fn preference(&self, id: UnitId) -> CpuMask {
        let _home = self.lock_home(id);
        self.units.at(id).preference.load(Relaxed)
    }

    /// Nanoseconds `cpu` had nothing to run since the clock began.
    #[must_use]
    pub fn idle_time(&self, cpu: CpuId, now: Nanos) -> u64 {
        let Some(slot) = self.slots.get(cpu) else {
            return 0;
        };
        let queue = slot.queue.lock();
        let pending = match queue.current {
            None => now.0.saturating_sub(queue.charged.0),
            Some(_) => 0,
        };
        queue.idle + pending
    }

    /// How often `id` is paused.
    #[must_use]
    pub fn pauses(&self, id: UnitId) -> u32 {
        (self.units.at(id).word.load(SeqCst) / PAUSE_ONE) as u32
    }

    /// Whether a CPU has `id`'s context; until [`Scheduler::switched_out`].
    #[must_use]
    pub fn is_on_cpu(&self, id: UnitId) -> bool {
        self.units.at(id).word.load(SeqCst) & ON_CPU != 0
    }

    /// Whether `id` waits for an event.
    #[must_use]
    pub fn is_blocked(&self, id: UnitId) -> bool {
        self.units.at(id).word.load(SeqCst) & BLOCKED != 0
    }

    /// The CPU `id` runs on or last belonged to.
    #[must_use]
    pub fn home(&self, id: UnitId) -> CpuId {
        self.units.at(id).home()
    }

    /// Where `id`'s time went, up to `now`.
    #[must_use]
    pub fn run_times(&self, id: UnitId, now: Nanos) -> RunTimes {
        let (_, _queue) = self.lock_home(id);
        self.units.at(id).account.read(now)
    }
}
