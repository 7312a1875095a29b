//! Timers: one heap of deadlines for each CPU.
//!
//! What it is for: telling a CPU when its clock must interrupt, and which timers are
//! due then. It knows a timer by a [`TimerId`] and calls nobody back.
//!
//! Invariants: each entry of the heap has one slot, which knows the entry's position;
//! a slot's generation changes when its entry leaves the heap, so an old place names
//! nothing. A live entry is named by its [`Timer`], but for the moment in which
//! [`Timers::set`] holds the queue's lock. So a timer has one entry at most, however many
//! CPUs set and cancel it at the same time, and none after [`Timers::end`].
//!
//! Locks: each queue at `Level::Timer`; never two at once. A timer needs none: who sets it
//! puts the new place in the stead of the one it found, and if that is no longer there,
//! another CPU was later and wins.

use crate::addr::{CpuId, DomId, MAX_CPUS, Nanos, VcpuId};
use crate::fallible::Grow;
use crate::percpu::PerCpu;
use crate::sync::{Level, Lock};
use alloc::vec::Vec;
use core::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerId {
    /// A vCPU's one-shot timer.
    Singleshot(DomId, VcpuId),
    /// A vCPU's periodic timer.
    Periodic(DomId, VcpuId),
    /// The end of a vCPU's poll.
    Poll(DomId, VcpuId),
    /// A domain's watchdog, by its index.
    Watchdog(DomId, u8),
}

/// Why a timer could not be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerError {
    /// No memory for one more entry.
    NoMemory,
    /// The queue must get more room first.
    NoRoom,
}

/// A timer, kept by whoever sets it. Any CPU may set or cancel it at any time; it expires
/// on the CPU that set it last.
#[derive(Debug)]
pub struct Timer {
    id: TimerId,
    /// A packed [`Place`].
    place: AtomicU64,
}

impl Timer {
    /// A timer that is not set.
    #[must_use]
    pub const fn new(id: TimerId) -> Self {
        Self {
            id,
            place: AtomicU64::new(Place::NOWHERE.0),
        }
    }

    /// Whether `due` is what the timer was set to last, and nobody has set, cancelled or
    /// ended it since it expired.
    #[must_use]
    #[inline]
    pub fn is_due(&self, due: &Due) -> bool {
        self.place.load(Acquire) == due.place.0
    }

    #[inline]
    fn place(&self) -> Place {
        Place(self.place.load(Acquire))
    }

    /// Puts `new` in the stead of `old`. `false`: that is not where the timer is.
    #[inline]
    fn moves(&self, old: Place, new: Place) -> bool {
        self.place
            .compare_exchange(old.0, new.0, AcqRel, Relaxed)
            .is_ok()
    }
}

/// Where a timer's entry was last: CPU + 1 (12 bits), slot (20), generation (32).
///
/// No place comes back while somebody compares with it: its slot would have to be used
/// 2^32 times meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u64);

impl Place {
    /// Of a timer that was never set, or is cancelled.
    const NOWHERE: Self = Self(0);
    /// Of a timer that can be set no more.
    const ENDED: Self = Self(u64::MAX);

    #[inline]
    fn new(cpu: CpuId, handle: Handle) -> Self {
        Self(
            u64::from(cpu.0 + 1) << 52
                | u64::from(handle.slot) << 32
                | u64::from(handle.generation),
        )
    }

    #[inline]
    fn entry(self) -> Option<(CpuId, Handle)> {
        let cpu = (self.0 >> 52) as u16;
        if cpu == 0 || self == Self::ENDED {
            return None;
        }
        let handle = Handle {
            slot: (self.0 >> 32) as u32 & SLOT_MASK,
            generation: self.0 as u32,
        };
        Some((CpuId(cpu - 1), handle))
    }
}

const SLOT_MASK: u32 = 0xf_ffff;
const _: () = assert!(MAX_CPUS < 0xffe, "a place has 12 bits for its CPU");

/// A timer that has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// What it is for.
    pub id: TimerId,
    /// When it should have.
    pub deadline: Nanos,
    /// Where its entry was.
    place: Place,
}

/// Names an entry of one queue for as long as it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    slot: u32,
    generation: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: Nanos,
    slot: u32,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Position in the heap, or the next free slot.
    at: u32,
    generation: u32,
    live: bool,
    id: TimerId,
}

const NONE: u32 = u32::MAX;

/// One CPU's timers: a binary heap by deadline.
#[derive(Debug)]
pub struct TimerQueue {
    heap: Vec<Entry>,
    slots: Vec<Slot>,
    free: u32,
}

impl TimerQueue {
    /// The empty queue.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            heap: Vec::new(),
            slots: Vec::new(),
            free: NONE,
        }
    }

    /// An empty queue with room for `total` timers.
    ///
    /// # Errors
    /// [`TimerError::NoMemory`].
    pub fn with_room(total: usize) -> Result<Self, TimerError> {
        let mut queue = Self::new();
        if total > SLOT_MASK as usize {
            return Err(TimerError::NoMemory);
        }
        queue
            .heap
            .try_reserve_exact(total)
            .and_then(|()| queue.slots.try_reserve_exact(total))
            .map_err(|_| TimerError::NoMemory)?;
        Ok(queue)
    }

    /// How many timers there is room for.
    #[must_use]
    pub fn room(&self) -> usize {
        self.heap.capacity().min(self.slots.capacity())
    }

    /// Becomes `larger`, with everything that is here, and returns the other one: what was
    /// here, or `larger` itself if it is not.
    /// Handles stay good. Allocates nothing.
    fn replace(&mut self, mut larger: Self) -> Self {
        if larger.room() > self.room() {
            for entry in &self.heap {
                larger.heap.push_reserved(*entry);
            }
            for slot in &self.slots {
                larger.slots.push_reserved(*slot);
            }
            larger.free = self.free;
            core::mem::swap(self, &mut larger);
        }
        larger
    }

    /// Adds a timer. Allocates nothing: it may be called with a lock held that the heap
    /// does not allow.
    ///
    /// # Errors
    /// [`TimerError::NoRoom`].
    pub fn add(&mut self, id: TimerId, deadline: Nanos) -> Result<Handle, TimerError> {
        if self.heap.len() == self.room() {
            return Err(TimerError::NoRoom);
        }
        let slot = if self.free == NONE {
            self.slots.push_reserved(Slot {
                at: 0,
                generation: 0,
                live: true,
                id,
            });
            (self.slots.len() - 1) as u32
        } else {
            let slot = self.free;
            let s = &mut self.slots[slot as usize];
            self.free = s.at;
            s.live = true;
            s.id = id;
            slot
        };
        self.heap.push_reserved(Entry { deadline, slot });
        self.sift_up(self.heap.len() - 1);
        Ok(Handle {
            slot,
            generation: self.slots[slot as usize].generation,
        })
    }

    /// Moves a timer to another deadline. `false`: it is no longer there.
    #[inline]
    pub fn update(&mut self, handle: Handle, deadline: Nanos) -> bool {
        let Some(at) = self.position(handle) else {
            return false;
        };
        let old = core::mem::replace(&mut self.heap[at].deadline, deadline);
        if deadline < old {
            self.sift_up(at);
        } else {
            self.sift_down(at);
        }
        true
    }

    /// Takes a timer out. `false`: it is no longer there.
    #[inline]
    pub fn remove(&mut self, handle: Handle) -> bool {
        let Some(at) = self.position(handle) else {
            return false;
        };
        self.take(at);
        true
    }

    /// The earliest deadline.
    #[must_use]
    #[inline]
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.heap.first().map(|e| e.deadline)
    }

    /// Takes out the earliest timer if its deadline is not after `now`: what it is for, its
    /// deadline, and the handle it had.
    #[inline]
    pub fn pop_expired(&mut self, now: Nanos) -> Option<(TimerId, Nanos, Handle)> {
        let first = *self.heap.first()?;
        if first.deadline > now {
            return None;
        }
        let slot = &self.slots[first.slot as usize];
        let handle = Handle {
            slot: first.slot,
            generation: slot.generation,
        };
        let id = slot.id;
        self.take(0);
        Some((id, first.deadline, handle))
    }

    #[inline]
    fn position(&self, handle: Handle) -> Option<usize> {
        let slot = self.slots.get(handle.slot as usize)?;
        (slot.live && slot.generation == handle.generation).then_some(slot.at as usize)
    }

    fn take(&mut self, at: usize) {
        let gone = self.heap.swap_remove(at);
        let slot = &mut self.slots[gone.slot as usize];
        slot.live = false;
        slot.generation = slot.generation.wrapping_add(1);
        slot.at = self.free;
        self.free = gone.slot;
        if at < self.heap.len() {
            // The last entry took its place; it may belong up or down.
            self.sift_up(at);
            self.sift_down(at);
        }
    }

    fn sift_up(&mut self, mut at: usize) {
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.heap[parent].deadline <= self.heap[at].deadline {
                break;
            }
            self.heap.swap(parent, at);
            self.note(at);
            at = parent;
        }
        self.note(at);
    }

    fn sift_down(&mut self, mut at: usize) {
        loop {
            let left = 2 * at + 1;
            let right = left + 1;
            let mut least = at;
            for child in [left, right] {
                if child < self.heap.len() && self.heap[child].deadline < self.heap[least].deadline
                {
                    least = child;
                }
            }
            if least == at {
                break;
            }
            self.heap.swap(least, at);
            self.note(at);
            at = least;
        }
        self.note(at);
    }

    /// Tells the slot of the entry at `at` where that is.
    #[inline]
    fn note(&mut self, at: usize) {
        let slot = self.heap[at].slot;
        self.slots[slot as usize].at = at as u32;
    }
}

impl Default for TimerQueue {
    fn default() -> Self {
        Self::new()
    }
}

/// The timers of all CPUs.
#[derive(Debug)]
pub struct Timers {
    queues: PerCpu<Lock<TimerQueue>>,
}

const fn empty_queue() -> Lock<TimerQueue> {
    Lock::new(Level::Timer, TimerQueue::new())
}

impl Timers {
    /// No timers.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            queues: PerCpu::new(empty_queue()),
        }
    }

    /// Makes room for `count` CPUs. Before the second one runs.
    pub fn make_room(&self, count: usize) {
        self.queues.make_room(count, empty_queue);
    }

    fn queue(&self, cpu: CpuId) -> &Lock<TimerQueue> {
        self.queues.of(cpu)
    }

    /// Makes room on `cpu` for `total` timers, so that setting them cannot fail there.
    ///
    /// # Errors
    /// [`TimerError::NoMemory`].
    pub fn reserve(&self, cpu: CpuId, total: usize) -> Result<(), TimerError> {
        if self.queue(cpu).lock().room() >= total {
            return Ok(());
        }
        // The heap's lock comes before ours, so allocate and free without ours.
        let larger = TimerQueue::with_room(total)?;
        let old = self.queue(cpu).lock().replace(larger);
        drop(old);
        Ok(())
    }

    /// Doubles the room on `cpu`.
    #[cold]
    fn grow(&self, cpu: CpuId) -> Result<(), TimerError> {
        let room = self.queue(cpu).lock().room();
        self.reserve(cpu, room.max(LEAST_ROOM / 2) * 2)
    }

    /// Sets `timer` to expire on `here`, the CPU that asks, wherever it was set before.
    /// Returns the earliest deadline of `here` afterwards.
    ///
    /// Of two CPUs that set it at the same time, or set and cancel it, one is later. A
    /// timer that was ended stays so.
    ///
    /// # Errors
    /// [`TimerError::NoMemory`]; the timer is then not set.
    #[inline]
    pub fn set(&self, here: CpuId, timer: &Timer, deadline: Nanos) -> Result<Nanos, TimerError> {
        let found = timer.place();
        let mut old = found.entry();
        if let Some((cpu, handle)) = old
            && cpu != here
        {
            self.queue(cpu).lock().remove(handle);
            old = None;
        }
        loop {
            let mut queue = self.queue(here).lock();
            let updated = old.is_some_and(|(_, handle)| queue.update(handle, deadline));
            if updated || add(&mut queue, here, timer, found, deadline).is_ok() {
                return Ok(queue.next_deadline().unwrap_or(NEVER));
            }
            drop(queue);
            self.grow(here)?;
        }
    }

    /// Sets a timer again that expired on `here`, unless somebody has set, cancelled or
    /// ended it since. Returns the earliest deadline of `here` afterwards.
    pub fn set_again(&self, here: CpuId, timer: &Timer, due: &Due, deadline: Nanos) -> Nanos {
        let mut queue = self.queue(here).lock();
        // The entry that expired left room for this one: only `here` adds to its queue.
        let _ = add(&mut queue, here, timer, due.place, deadline);
        queue.next_deadline().unwrap_or(NEVER)
    }

    /// Stops `timer`. `false`: it was not set, or has expired.
    ///
    /// The clock is left as it is: an interrupt too many is cheaper.
    pub fn cancel(&self, timer: &Timer) -> bool {
        let found = timer.place();
        // If it is no longer there, another CPU has set, cancelled or ended it after this one
        // looked: it is as if this one had been before.
        found.entry().is_some() && timer.moves(found, Place::NOWHERE) && self.remove(found)
    }

    /// Stops `timer` for good: nobody sets it any more, not even a CPU that is about to.
    pub fn end(&self, timer: &Timer) {
        let found = Place(timer.place.swap(Place::ENDED.0, AcqRel));
        self.remove(found);
    }

    fn remove(&self, place: Place) -> bool {
        place
            .entry()
            .is_some_and(|(cpu, handle)| self.queue(cpu).lock().remove(handle))
    }

    /// The earliest deadline of `cpu`; [`NEVER`] if it has none.
    #[must_use]
    #[inline]
    pub fn next_deadline(&self, cpu: CpuId) -> Nanos {
        self.queue(cpu).lock().next_deadline().unwrap_or(NEVER)
    }

    /// Takes out a timer of `cpu` that is due at `now`. Called until it returns `None`; what
    /// is done about a timer is done without the lock.
    #[inline]
    pub fn pop_expired(&self, cpu: CpuId, now: Nanos) -> Option<Due> {
        let (id, deadline, handle) = self.queue(cpu).lock().pop_expired(now)?;
        Some(Due {
            id,
            deadline,
            place: Place::new(cpu, handle),
        })
    }
}

/// Adds an entry for `timer` and has it named in the stead of `found`. If the timer is no
/// longer there, another CPU has set, cancelled or ended it after this one looked, and there
/// is no entry: it is as if this one had been before.
///
/// # Errors
/// [`TimerError::NoRoom`].
#[inline]
fn add(
    queue: &mut TimerQueue,
    here: CpuId,
    timer: &Timer,
    found: Place,
    deadline: Nanos,
) -> Result<(), TimerError> {
    let handle = queue.add(timer.id, deadline)?;
    if found == Place::ENDED || !timer.moves(found, Place::new(here, handle)) {
        queue.remove(handle);
    }
    Ok(())
}

impl Default for Timers {
    fn default() -> Self {
        Self::new()
    }
}

/// Timers a queue has room for at first.
const LEAST_ROOM: usize = 32;

/// A deadline that never comes.
pub const NEVER: Nanos = Nanos(u64::MAX);

#[cfg(test)]
mod tests;
