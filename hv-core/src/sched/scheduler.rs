//! The scheduler: run states, places and locks. Order is the policy's.

use super::policy::{Policy, Running, Why};
use super::runstate::{RunState, RunTimes};
use super::unit::{
    BLOCKED, OFFLINE, ON_CPU, PARKED, PAUSE_ONE, POLLING, QUEUED, SchedError, UnitId, Units, WOKEN,
    YIELDING, runnable,
};
use super::{GroupId, unit};
use crate::addr::{CpuId, CpuMask, DomId, MAX_CPUS, Nanos, VcpuId};
use crate::sync::{Guard, Level, Lock};
use core::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
};

/// What a CPU should do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The unit to run; `None`: idle.
    pub next: Option<UnitId>,
    /// Nanoseconds until the CPU must ask again (`u64::MAX`: when kicked).
    pub slice: Nanos,
    /// Other CPUs that now have something better to do.
    pub kick: CpuMask,
}

/// One CPU's queue and what it runs.
#[derive(Debug)]
struct Queue<Q> {
    current: Option<UnitId>,
    /// Up to when `current` has been charged.
    charged: Nanos,
    order: Q,
}

/// A CPU's slot, on its own cache lines.
#[derive(Debug)]
#[repr(align(64))]
struct Slot<Q> {
    queue: Lock<Queue<Q>>,
    /// Units linked; written under the lock, read by CPUs that look for work.
    linked: AtomicU32,
}

/// All units and queues. `P` keeps the order.
#[derive(Debug)]
pub struct Scheduler<P: Policy> {
    policy: P,
    units: Units<P::Unit>,
    slots: [Slot<P::Queue>; MAX_CPUS],
    online: AtomicU64,
    /// CPUs with nothing to run that nobody has sent work to yet: a hint; what a CPU
    /// runs is in its queue.
    idle: AtomicU64,
}

impl<P: Policy> Scheduler<P> {
    /// A scheduler without CPUs or units.
    #[must_use]
    pub const fn new(policy: P) -> Self {
        Self {
            policy,
            units: Units::new(),
            slots: [const {
                Slot {
                    queue: Lock::new(
                        Level::RunQueue,
                        Queue {
                            current: None,
                            charged: Nanos(0),
                            order: P::EMPTY,
                        },
                    ),
                    linked: AtomicU32::new(0),
                }
            }; MAX_CPUS],
            online: AtomicU64::new(0),
            idle: AtomicU64::new(0),
        }
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
        let bit = CpuMask::only(cpu).0;
        self.online.fetch_or(bit, SeqCst);
        self.idle.fetch_or(bit, SeqCst);
    }

    /// CPUs that take part.
    #[must_use]
    pub fn online(&self) -> CpuMask {
        CpuMask(self.online.load(Acquire))
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
        let home = self.any_of(self.online().0, CpuId(vcpu.0 % MAX_CPUS as u16));
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
    pub fn set_affinity(
        &self,
        id: UnitId,
        mask: CpuMask,
        now: Nanos,
    ) -> Result<Option<CpuId>, SchedError> {
        if mask.0 & self.online().0 == 0 {
            return Err(SchedError::BadParameter);
        }
        let unit = self.units.at(id);
        unit.affinity.store(mask.0, SeqCst);
        let (home, mut queue) = self.lock_home(id);
        if mask.contains(home) {
            return Ok(None);
        }
        if unit.linked.load(Relaxed) {
            // Still marked queued, so it is ours to place.
            self.unlink(home, &mut queue, id);
            drop(queue);
            return Ok(self.place(id, Why::Continues, now));
        }
        Ok((unit.word.load(SeqCst) & ON_CPU != 0).then_some(home))
    }

    /// CPUs `id` may run on.
    #[must_use]
    pub fn affinity(&self, id: UnitId) -> CpuMask {
        CpuMask(self.units.at(id).affinity.load(Relaxed))
    }

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
    fn block_as(&self, id: UnitId, bits: u64, due: impl FnOnce() -> bool) -> bool {
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

    /// What `cpu` should run now. Called by that CPU only: when its slice ends, when it
    /// is kicked, and when its unit blocks, yields or stops.
    ///
    /// If the answer is not the unit that ran before, the caller saves that one's
    /// context and then calls [`Scheduler::switched_out`] for it.
    pub fn pick(&self, cpu: CpuId, now: Nanos) -> Decision {
        let mut kick = CpuMask::NONE;
        if self.policy.account_due(now) {
            let cpus = self.online().0.count_ones();
            self.policy.account(&self.units, cpus, now, &mut |id| {
                if let Some(c) = self.resume(id, PARKED, Why::Continues, now) {
                    kick = kick.with(c);
                }
            });
        }
        let mut guard = self.slot(cpu).queue.lock();
        let queue = &mut *guard;
        let prev = queue.current;
        let running = prev.and_then(|id| self.settle_running(queue, id, cpu, now));
        let next = self.choose(queue, cpu, running, now);
        if next != prev {
            if let Some(id) = prev {
                let unit = self.units.at(id);
                let state = resting_state(unit.word.load(SeqCst));
                unit.account.enter(state, now);
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
            self.idle.fetch_or(CpuMask::only(cpu).0, SeqCst);
            self.policy.idle_slice(now)
        };
        Decision {
            next,
            slice,
            kick: kick.without(cpu),
        }
    }

    /// Charges the unit on `cpu`; says whether it may go on.
    fn settle_running(
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
    fn choose(
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
    fn steal(&self, thief: CpuId, best: Option<UnitId>, now: Nanos) -> Option<UnitId> {
        for victim in self.online().without(thief).iter() {
            let slot = self.slot(victim);
            if slot.linked.load(Relaxed) == 0 {
                continue;
            }
            let Some(mut queue) = slot.queue.try_lock() else {
                continue;
            };
            while let Some(id) = self.policy.steal(&queue.order, &self.units, thief, best) {
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
    fn take(&self, id: UnitId, now: Nanos) -> bool {
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

    /// Clears reasons not to run, and queues the unit if none is left.
    fn resume(&self, id: UnitId, bits: u64, why: Why, now: Nanos) -> Option<CpuId> {
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
    fn stopped(&self, id: UnitId, old: u64, now: Nanos) -> Option<CpuId> {
        if old & ON_CPU != 0 {
            return Some(self.units.at(id).home());
        }
        self.settle(id, now);
        None
    }

    /// Brings the run state (and the queue) of a stopped unit in line with its word.
    fn settle(&self, id: UnitId, now: Nanos) {
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

    /// Puts `id` into a queue. The caller has set `QUEUED`. Returns the CPU to kick, if
    /// the one chosen should not go on with what it does.
    fn place(&self, id: UnitId, why: Why, now: Nanos) -> Option<CpuId> {
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
    fn target(&self, id: UnitId, home: CpuId) -> CpuId {
        let allowed = self.hosts(id);
        let idle = self.idle.load(Relaxed) & allowed;
        if idle != 0 {
            return self.any_of(idle, home);
        }
        self.any_of(allowed, home)
    }

    /// CPUs `id` may be queued on; never none while a CPU is online.
    fn hosts(&self, id: UnitId) -> u64 {
        let online = self.online().0;
        let allowed = self.units.at(id).affinity.load(SeqCst) & online;
        if allowed == 0 { online } else { allowed }
    }

    fn may_host(&self, id: UnitId, cpu: CpuId) -> bool {
        CpuMask(self.hosts(id)).contains(cpu)
    }

    /// A CPU of `set`: `near` if it is in, else the next one up, around the end.
    fn any_of(&self, set: u64, near: CpuId) -> CpuId {
        if set == 0 {
            return near;
        }
        let near = u32::from(near.0);
        let ahead = set.rotate_right(near).trailing_zeros();
        CpuId(((near + ahead) % MAX_CPUS as u32) as u16)
    }

    /// Nobody else should send work to `cpu` because it is idle.
    #[inline]
    fn claim_idle(&self, cpu: CpuId) {
        let bit = CpuMask::only(cpu).0;
        if self.idle.load(Relaxed) & bit != 0 {
            self.idle.fetch_and(!bit, SeqCst);
        }
    }

    #[inline]
    fn link(&self, cpu: CpuId, queue: &mut Queue<P::Queue>, id: UnitId, why: Why) {
        self.units.at(id).linked.store(true, Relaxed);
        let linked = &self.slot(cpu).linked;
        linked.store(linked.load(Relaxed) + 1, Relaxed);
        self.policy.link(&mut queue.order, &self.units, id, why);
    }

    #[inline]
    fn unlink(&self, cpu: CpuId, queue: &mut Queue<P::Queue>, id: UnitId) {
        self.units.at(id).linked.store(false, Relaxed);
        let linked = &self.slot(cpu).linked;
        linked.store(linked.load(Relaxed) - 1, Relaxed);
        self.policy.unlink(&mut queue.order, &self.units, id);
    }

    #[inline]
    fn slot(&self, cpu: CpuId) -> &Slot<P::Queue> {
        &self.slots[cpu.0 as usize]
    }

    /// Locks the queue `id` belongs to.
    fn lock_home(&self, id: UnitId) -> (CpuId, Guard<'_, Queue<P::Queue>>) {
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

/// The run state of a unit that is on no CPU, from its word.
const fn resting_state(word: u64) -> RunState {
    if unit::runnable(word) {
        RunState::Runnable
    } else if word & BLOCKED != 0 {
        RunState::Blocked
    } else {
        RunState::Offline
    }
}
