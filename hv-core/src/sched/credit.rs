//! The credit policy: proportional shares, caps, and a boost for units that wake.
//!
//! Credit is CPU time in nanoseconds. Every period (one time slice) the time of all CPUs
//! is shared out by weight among the units that have room for more; running spends it. A unit with
//! credit is *under*, one without is *over*, and an under unit that wakes is *boosted*
//! until it has run for a tick (a third of a slice). Queues are first-in-first-out within
//! a class.
//!
//! The numbers ([`Knobs::DEFAULT`], weight 256) are those of Xen's credit scheduler,
//! so that `xl sched-credit` means the same here. As there, a weight counts for each
//! unit of the group, a cap for the group as a whole.
//!
//! Locks: none of its own. Credits are atomics, because accounting changes units of
//! all queues.

mod params;
mod share;

pub use params::Knobs;

use super::GroupId;
use super::list::List;
use super::policy::{Policy, Running, Why};
use super::unit::{SchedError, Unit, UnitId, Units};
use crate::addr::{CpuId, Nanos};
use core::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU16, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use params::Params;
use share::Group;

/// When credit is first shared out, in nanoseconds.
const FIRST_SHARE: u64 = Knobs::DEFAULT.slice_ms as u64 * 1_000_000;
/// Shortest slice: a cap is not enforced more finely than this.
const SHORTEST: u64 = 100_000;
/// Weight of a new group.
pub const DEFAULT_WEIGHT: u16 = 256;

const GROUPS: usize = 1024;

const BOOST: u8 = 0;
const UNDER: u8 = 1;
const OVER: u8 = 2;

/// What the policy keeps of a unit.
#[derive(Debug, Default)]
pub struct CreditUnit {
    /// Nanoseconds it may still run ahead of others; negative: ran too much.
    credit: AtomicI64,
    /// Since when it runs without having been charged, in nanoseconds; 0: it does not run.
    since: AtomicU64,
    group: AtomicU16,
    /// For how long it had run and waited, ever, at the last distribution, in nanoseconds.
    had_run: AtomicU64,
    had_waited: AtomicU64,
    /// What it wants of a distribution and is given, in nanoseconds, and whether that is not decided
    /// yet.
    wanted: AtomicU64,
    share: AtomicU64,
    open: AtomicBool,
    boosted: AtomicBool,
    /// The list it is linked into.
    class: AtomicU8,
}

/// What the policy keeps of a CPU.
#[derive(Debug)]
pub struct CreditQueue {
    classes: [List; 3],
    /// When the current slice began.
    since: Nanos,
    /// The distribution after which the classes were last sorted.
    sorted: u32,
}

/// The credit policy.
#[derive(Debug)]
pub struct Credit {
    params: Params,
    groups: [Group; GROUPS],
    /// When credit is next shared out.
    next_share: AtomicU64,
    /// When it last was.
    shared_at: AtomicU64,
    /// How often it was.
    shares: AtomicU32,
    /// Units stopped for their cap.
    parked: AtomicU32,
}

impl Credit {
    /// The policy, without groups.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            params: Params::new(),
            groups: [const { Group::new() }; GROUPS],
            next_share: AtomicU64::new(FIRST_SHARE),
            shared_at: AtomicU64::new(0),
            shares: AtomicU32::new(0),
            parked: AtomicU32::new(0),
        }
    }

    /// Time slice, rate limit and migration delay.
    #[must_use]
    pub fn knobs(&self) -> Knobs {
        self.params.get()
    }

    /// Changes them; what runs keeps the slice it has.
    ///
    /// # Errors
    /// [`SchedError::BadParameter`] (`EINVAL`): outside what [`Knobs`] allows.
    pub fn set_knobs(&self, knobs: Knobs) -> Result<(), SchedError> {
        self.params.set(knobs)
    }

    /// A group with the default weight and no cap.
    ///
    /// # Errors
    /// [`SchedError::Full`]: too many.
    pub fn add_group(&self) -> Result<GroupId, SchedError> {
        let n = self
            .groups
            .iter()
            .position(Group::claim)
            .ok_or(SchedError::Full)?;
        Ok(GroupId(n as u16))
    }

    /// Gives a group back; its units are gone.
    pub fn remove_group(&self, group: GroupId) {
        self.group(group).free();
    }

    /// Sets weight (1 to 65535) and cap (percent of one CPU, 0: none) of a group.
    ///
    /// # Errors
    /// [`SchedError::BadParameter`] (`EINVAL`): weight 0.
    pub fn set_params(&self, group: GroupId, weight: u16, cap: u16) -> Result<(), SchedError> {
        if weight == 0 {
            return Err(SchedError::BadParameter);
        }
        self.group(group).weight.store(weight, Relaxed);
        self.group(group).cap.store(cap, Relaxed);
        Ok(())
    }

    /// Weight and cap of a group.
    #[must_use]
    pub fn params(&self, group: GroupId) -> (u16, u16) {
        let g = self.group(group);
        (g.weight.load(Relaxed), g.cap.load(Relaxed))
    }

    fn group(&self, id: GroupId) -> &Group {
        &self.groups[id.0 as usize % GROUPS]
    }

    fn group_of(&self, unit: &CreditUnit) -> &Group {
        self.group(GroupId(unit.group.load(Relaxed)))
    }

    /// Moves units whose credit changed sign to their new class.
    fn sort(&self, queue: &mut CreditQueue, units: &Units<CreditUnit>) {
        let shares = self.shares.load(Relaxed);
        if queue.sorted == shares {
            return;
        }
        queue.sorted = shares;
        for class in [BOOST, UNDER, OVER] {
            let mut at = queue.classes[class as usize].first();
            while let Some(id) = at {
                at = List::after(units, id);
                let data = &units.at(id).data;
                let now = data.current_class();
                // A unit keeps the boost it was queued with until it has run.
                if now != class && !(class == BOOST && now == UNDER) {
                    queue.classes[class as usize].unlink(units, id);
                    data.class.store(now, Relaxed);
                    queue.classes[now as usize].push(units, id);
                }
            }
        }
    }
}

impl Default for Credit {
    fn default() -> Self {
        Self::new()
    }
}

impl CreditQueue {
    /// The first unit of the best class.
    #[inline]
    fn head(&self) -> Option<(u8, UnitId)> {
        (BOOST..=OVER).find_map(|c| Some((c, self.classes[c as usize].first()?)))
    }
}

impl CreditQueue {
    /// The first unit, best class first and none below `worst`, that `wanted` wants.
    fn find(
        &self,
        units: &Units<CreditUnit>,
        worst: u8,
        wanted: impl Fn(&Unit<CreditUnit>) -> bool,
    ) -> Option<UnitId> {
        for class in BOOST..=worst {
            let mut at = self.classes[class as usize].first();
            while let Some(id) = at {
                if wanted(units.at(id)) {
                    return Some(id);
                }
                at = List::after(units, id);
            }
        }
        None
    }
}

impl CreditUnit {
    /// Notes what it wants of the next distribution: the time since the last that it ran or waited;
    /// or, of one that sleeps or has just woken, what it lacks of a period's credit, with which it is
    /// soon served.
    fn want(&self, unit: &Unit<Self>, period: u64, elapsed: u64, now: Nanos) {
        let [run, waited] = unit.run_and_waited(now);
        let run = run.saturating_sub(self.had_run.swap(run, Relaxed));
        let waited = waited.saturating_sub(self.had_waited.swap(waited, Relaxed));
        let wanted = if unit.is_parked() {
            elapsed
        } else if unit.is_runnable() && !self.boosted.load(Relaxed) {
            run + waited
        } else {
            let credit = self.credit.load(Relaxed) - self.uncharged(now);
            period.saturating_add_signed(-credit)
        };
        self.wanted.store(wanted.min(elapsed), Relaxed);
    }

    /// What it has used and not been charged for.
    fn uncharged(&self, now: Nanos) -> i64 {
        match self.since.load(Relaxed) {
            0 => 0,
            since => i64::try_from(now.0.saturating_sub(since)).unwrap_or(i64::MAX / 2),
        }
    }

    fn current_class(&self) -> u8 {
        if self.credit.load(Relaxed) < 0 {
            OVER
        } else if self.boosted.load(Relaxed) {
            BOOST
        } else {
            UNDER
        }
    }
}

impl Policy for Credit {
    type Unit = CreditUnit;
    type Queue = CreditQueue;
    const EMPTY: CreditQueue = CreditQueue {
        classes: [List::EMPTY, List::EMPTY, List::EMPTY],
        since: Nanos(0),
        sorted: 0,
    };

    fn join(&self, units: &Units<CreditUnit>, id: UnitId, group: GroupId) {
        let data = &units.at(id).data;
        data.credit.store(0, Relaxed);
        data.since.store(0, Relaxed);
        data.had_run.store(0, Relaxed);
        data.had_waited.store(0, Relaxed);
        data.group.store(group.0, Relaxed);
        data.boosted.store(false, Relaxed);
    }

    fn leave(&self, units: &Units<CreditUnit>, id: UnitId) {
        if units.at(id).is_parked() {
            self.parked.fetch_sub(1, AcqRel);
        }
    }

    fn link(&self, queue: &mut CreditQueue, units: &Units<CreditUnit>, id: UnitId, why: Why) {
        let data = &units.at(id).data;
        if why == Why::Woken && data.credit.load(Relaxed) >= 0 {
            data.boosted.store(true, Relaxed);
        }
        let class = data.current_class();
        data.class.store(class, Relaxed);
        queue.classes[class as usize].push(units, id);
    }

    fn unlink(&self, queue: &mut CreditQueue, units: &Units<CreditUnit>, id: UnitId) {
        let class = units.at(id).data.class.load(Relaxed);
        queue.classes[class as usize].unlink(units, id);
    }

    fn preempts(&self, units: &Units<CreditUnit>, new: UnitId, running: UnitId) -> bool {
        units.at(new).data.class.load(Relaxed) < units.at(running).data.current_class()
    }

    fn charge(
        &self,
        queue: &mut CreditQueue,
        units: &Units<CreditUnit>,
        id: UnitId,
        ran: Nanos,
        now: Nanos,
    ) -> bool {
        let unit = units.at(id);
        let data = &unit.data;
        let ran = i64::try_from(ran.0).unwrap_or(i64::MAX / 2);
        // Set again if it goes on.
        data.since.store(0, Relaxed);
        let left = data.credit.fetch_sub(ran, AcqRel) - ran;
        if now.0.saturating_sub(queue.since.0) >= self.params.tick() {
            data.boosted.store(false, Relaxed);
        }
        let park = left < 0 && self.group_of(data).cap.load(Relaxed) != 0 && !unit.is_parked();
        if park {
            self.parked.fetch_add(1, AcqRel);
        }
        park
    }

    fn best(
        &self,
        queue: &mut CreditQueue,
        units: &Units<CreditUnit>,
        running: Option<Running>,
        now: Nanos,
    ) -> Option<UnitId> {
        self.sort(queue, units);
        let (run, (class, first)) = match (running, queue.head()) {
            (Some(run), Some(head)) => (run, head),
            (running, head) => return running.map(|r| r.id).or(head.map(|h| h.1)),
        };
        let ran = now.0.saturating_sub(queue.since.0);
        let ours = units.at(run.id).data.current_class();
        let change = if run.yielding {
            true
        } else if ran < self.params.ratelimit() {
            false
        } else {
            class < ours || class == ours && ran >= self.params.slice()
        };
        Some(if change { first } else { run.id })
    }

    fn hungry(&self, units: &Units<CreditUnit>, best: Option<UnitId>) -> bool {
        best.is_none_or(|id| units.at(id).data.current_class() == OVER)
    }

    fn steal(
        &self,
        victim: &CreditQueue,
        units: &Units<CreditUnit>,
        thief: CpuId,
        best: Option<UnitId>,
        now: Nanos,
    ) -> Option<UnitId> {
        let worst = if best.is_none() { OVER } else { UNDER };
        let delay = self.params.migration_delay();
        let movable = |unit: &Unit<CreditUnit>| {
            unit.allows(thief) && (delay == 0 || unit.waited(now) >= delay)
        };
        // One that likes it here before one that would only bear it.
        victim
            .find(units, worst, |unit| movable(unit) && unit.prefers(thief))
            .or_else(|| victim.find(units, worst, movable))
    }

    fn slice(
        &self,
        queue: &mut CreditQueue,
        units: &Units<CreditUnit>,
        id: UnitId,
        fresh: bool,
        now: Nanos,
    ) -> Nanos {
        let mut ran = now.0.saturating_sub(queue.since.0);
        let longest = self.params.slice();
        if fresh || ran >= longest {
            queue.since = now;
            ran = 0;
        }
        let data = &units.at(id).data;
        data.since.store(now.0.max(1), Relaxed);
        let mut slice = longest - ran;
        if let Some((class, _)) = queue.head() {
            slice = slice.min(self.params.tick());
            let limit = self.params.ratelimit();
            if ran < limit && class < data.current_class() {
                // Somebody better waits for the rate limit only.
                slice = slice.min(limit - ran);
            }
        }
        if self.group_of(data).cap.load(Relaxed) != 0 {
            // Stop when the credit is used up, not a tick later.
            let left = data.credit.load(Relaxed).max(0).cast_unsigned();
            slice = slice.min(left.max(SHORTEST));
        }
        Nanos(slice)
    }

    fn idle_slice(&self, now: Nanos) -> Nanos {
        if self.parked.load(Acquire) == 0 {
            return Nanos(u64::MAX);
        }
        // Nobody else may be up to let them go on.
        let due = self.next_share.load(Acquire).saturating_sub(now.0);
        Nanos(due.max(1))
    }

    #[inline]
    fn account_due(&self, now: Nanos) -> bool {
        now.0 >= self.next_share.load(Relaxed)
    }

    fn account(
        &self,
        units: &Units<CreditUnit>,
        cpus: u32,
        now: Nanos,
        resume: &mut dyn FnMut(UnitId),
    ) {
        let due = self.next_share.load(Acquire);
        if now.0 < due {
            return;
        }
        let period = self.params.period();
        let next = if now.0 - due < period {
            due + period
        } else {
            now.0 + period
        };
        if self
            .next_share
            .compare_exchange(due, next, AcqRel, Relaxed)
            .is_err()
        {
            return;
        }
        // Just what has passed, for it comes when a slice ends: of a short time more than that nobody can
        // have wanted, and a great weight would get less than its part. Idle CPUs share out nothing, so
        // it may be long ago: that time is gone.
        let passed = now.0.saturating_sub(self.shared_at.swap(now.0, AcqRel));
        let elapsed = passed.min(2 * period);
        for (_, unit) in units.iter() {
            unit.data.want(unit, period, elapsed, now);
        }
        let all = units
            .iter()
            .map(|(_, unit)| (&unit.data, self.group_of(&unit.data)));
        share::distribute(all, elapsed, cpus);
        // Wide beside a slice: who waits while another has its own must not lose what it is given
        // meanwhile.
        let most = 2 * period.cast_signed();
        for (id, unit) in units.iter() {
            let data = &unit.data;
            let share = data.share.load(Relaxed).cast_signed();
            let owed = data.uncharged(now);
            // An update, because the CPU that runs the unit may be charging it.
            let paid = data.credit.fetch_update(AcqRel, Relaxed, |credit| {
                let sum = credit.saturating_add(share);
                Some(sum.clamp(owed.saturating_sub(most), owed.saturating_add(most)))
            });
            debug_assert!(paid.is_ok());
            if unit.is_parked() && data.credit.load(Relaxed) >= 0 {
                self.parked.fetch_sub(1, AcqRel);
                resume(id);
            }
        }
        self.shares.fetch_add(1, Release);
    }
}
