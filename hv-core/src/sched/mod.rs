//! Run states, run queues, and policies behind one trait.
//!
//! What it is for: saying which vCPU a physical CPU runs next and for how long, and
//! keeping the account of where each vCPU's time went. It knows *units* (a vCPU seen
//! as something to run) by [`UnitId`], never a domain; it switches no context, sends
//! no interrupt and reads no clock: the time is an argument, and which CPU to
//! interrupt is an answer.
//!
//! A unit is in one of these places:
//! - *on a CPU*: from the [`Scheduler::pick`] that chose it to the
//!   [`Scheduler::switched_out`] that says its context is saved;
//! - *queued* on its home CPU: runnable, context saved;
//! - *stopped*: blocked, offline, paused or parked, and in no queue.
//!
//! Invariants:
//! - Whatever makes a unit runnable is one read-modify-write of its word (`Unit::word`).
//!   The same write sets `QUEUED` if the unit is on no CPU, and whoever wrote it,
//!   and nobody else, puts the unit into a queue. So a unit is never queued twice, and
//!   none is forgotten.
//! - A unit on a CPU is in no queue, so no other CPU can pick it before its context is
//!   saved.
//! - A unit's home changes only while it is in no queue and on no CPU, or when another
//!   CPU steals it, and always under the old home's lock.
//!
//! Locks: one per CPU at `Level::RunQueue`. A second one is only tried for.

pub mod credit;
mod list;
mod pick;
mod place;
mod policy;
mod runstate;
mod scheduler;
mod states;
#[cfg(test)]
mod tests;
mod unit;

pub use credit::{Credit, Knobs};
pub use list::List;
pub use pick::Decision;
pub use policy::{Policy, Running, Why};
pub use runstate::{AreaWrites, RunState, RunTimes};
pub use scheduler::Scheduler;
pub use unit::{SchedError, Unit, UnitId, Units};

/// The scheduler this build uses.
pub type System = Scheduler<Credit>;

/// Units that share a weight and a cap: the vCPUs of one domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupId(pub(crate) u16);
