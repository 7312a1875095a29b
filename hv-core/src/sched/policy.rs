//! What a policy decides. The scheduler keeps run states, places and locks; the
//! policy keeps an order.

use super::GroupId;
use super::unit::{UnitId, Units};
use crate::addr::{CpuId, Nanos};

/// Why a unit comes into a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It was woken from a block.
    Woken,
    /// It was on a CPU and could have stayed, or comes back from a pause.
    Continues,
}

/// The unit on a CPU, as [`Policy::best`] sees it.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Which.
    pub id: UnitId,
    /// It wants others to go first, this once.
    pub yielding: bool,
}

/// An order of units. Every function but [`Policy::account`] and those on groups is
/// called with the lock of the queue in question held.
pub trait Policy: Sync {
    /// What it keeps of each unit; guarded by the home queue's lock unless atomic use
    /// says otherwise.
    type Unit: Default + Send + Sync;
    /// What it keeps of each CPU.
    type Queue: Send;
    /// A queue without units.
    const EMPTY: Self::Queue;

    /// Makes `id` a fresh member of `group`.
    fn join(&self, units: &Units<Self::Unit>, id: UnitId, group: GroupId);

    /// `id` is about to be removed.
    fn leave(&self, units: &Units<Self::Unit>, id: UnitId);

    /// Puts `id` into the queue.
    fn link(&self, queue: &mut Self::Queue, units: &Units<Self::Unit>, id: UnitId, why: Why);

    /// Takes `id`, which is in the queue, out.
    fn unlink(&self, queue: &mut Self::Queue, units: &Units<Self::Unit>, id: UnitId);

    /// Whether `new`, just linked, should interrupt `running`.
    fn preempts(&self, units: &Units<Self::Unit>, new: UnitId, running: UnitId) -> bool;

    /// Charges `ran` to the unit on the CPU. `true`: it must stop until
    /// [`Policy::account`] resumes it.
    fn charge(
        &self,
        queue: &mut Self::Queue,
        units: &Units<Self::Unit>,
        id: UnitId,
        ran: Nanos,
        now: Nanos,
    ) -> bool;

    /// Who should run here: `running` (if it may go on) or a queued unit, which stays
    /// queued.
    fn best(
        &self,
        queue: &mut Self::Queue,
        units: &Units<Self::Unit>,
        running: Option<Running>,
        now: Nanos,
    ) -> Option<UnitId>;

    /// Whether to look at other queues before running `best`.
    fn hungry(&self, units: &Units<Self::Unit>, best: Option<UnitId>) -> bool;

    /// A unit of another CPU's queue that `thief` should run rather than `best`; it
    /// stays linked.
    fn steal(
        &self,
        victim: &Self::Queue,
        units: &Units<Self::Unit>,
        thief: CpuId,
        best: Option<UnitId>,
        now: Nanos,
    ) -> Option<UnitId>;

    /// `id` runs now, `fresh` if it did not before. How long until the next pick?
    fn slice(
        &self,
        queue: &mut Self::Queue,
        units: &Units<Self::Unit>,
        id: UnitId,
        fresh: bool,
        now: Nanos,
    ) -> Nanos;

    /// How long a CPU with nothing to run may wait before it picks again.
    fn idle_slice(&self, now: Nanos) -> Nanos;

    /// Whether [`Policy::account`] has something to do; cheap.
    fn account_due(&self, now: Nanos) -> bool;

    /// Shares out time among the units of `cpus` CPUs, no queue lock held, and calls
    /// `resume` for each unit that was stopped by [`Policy::charge`] and may go on.
    fn account(
        &self,
        units: &Units<Self::Unit>,
        cpus: u32,
        now: Nanos,
        resume: &mut dyn FnMut(UnitId),
    );
}
