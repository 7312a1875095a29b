//! First-in-first-out lists that run through the units themselves, so that queueing
//! allocates nothing. The links are guarded by the lock of the queue the list is in.

use super::unit::{UnitId, Units};
use core::sync::atomic::Ordering::Relaxed;

const END: u32 = u32::MAX;

/// A list of units. A unit is in one list at most.
#[derive(Debug)]
pub struct List {
    head: u32,
    tail: u32,
}

impl List {
    /// The empty list.
    pub const EMPTY: Self = Self {
        head: END,
        tail: END,
    };

    /// The first unit.
    #[must_use]
    #[inline]
    pub const fn first(&self) -> Option<UnitId> {
        if self.head == END {
            None
        } else {
            Some(UnitId(self.head))
        }
    }

    /// The unit after `id`.
    #[must_use]
    #[inline]
    pub fn after<D>(units: &Units<D>, id: UnitId) -> Option<UnitId> {
        let next = units.at(id).next.load(Relaxed);
        (next != END).then_some(UnitId(next))
    }

    /// Appends `id`, which is in no list.
    #[inline]
    pub fn push<D>(&mut self, units: &Units<D>, id: UnitId) {
        let unit = units.at(id);
        unit.next.store(END, Relaxed);
        unit.prev.store(self.tail, Relaxed);
        if self.tail == END {
            self.head = id.0;
        } else {
            units.at(UnitId(self.tail)).next.store(id.0, Relaxed);
        }
        self.tail = id.0;
    }

    /// Takes out `id`, which is in this list.
    #[inline]
    pub fn unlink<D>(&mut self, units: &Units<D>, id: UnitId) {
        let unit = units.at(id);
        let (next, prev) = (unit.next.load(Relaxed), unit.prev.load(Relaxed));
        if prev == END {
            self.head = next;
        } else {
            units.at(UnitId(prev)).next.store(next, Relaxed);
        }
        if next == END {
            self.tail = prev;
        } else {
            units.at(UnitId(next)).prev.store(prev, Relaxed);
        }
    }
}
