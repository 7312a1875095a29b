//! The record of privileged operations: who did what to whom, and how it ended.
//!
//! A ring of [`KEPT`] records; the newest replace the oldest, and readers learn how many they
//! missed. Nothing is allocated. Of a domain that is denied more and more only the number is
//! kept ([`Denied`]), so that it cannot wash away what others did.
//!
//! Lock: one, at `Level::Audit`.

use crate::addr::DomId;
use crate::domain::usage::Denied;
use crate::sync::{Level, Lock};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use xen_abi::oxen::{OXEN_NOBODY, OxenAuditRecord};

/// Records kept; a power of two.
pub const KEPT: usize = 1024;
/// Words of a record, but for its number, which is its place.
const WORDS: usize = 3;

/// What is recorded, but for when and as which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who did it.
    pub subject: DomId,
    /// To whom; `None`: the host, or it is not known.
    pub target: Option<DomId>,
    /// Number of the hypercall.
    pub hypercall: u32,
    /// Its command.
    pub command: u32,
    /// 0, or a negative errno.
    pub result: i32,
}

/// Where a record's words are; apart from the lock, so that it costs nothing in the image.
type Slots = [[AtomicU64; WORDS]; KEPT];

/// The record.
#[derive(Debug)]
pub struct Audit {
    slots: &'static Slots,
    /// Number of the next record; under it the slots are written.
    next: Lock<u64>,
    suppressed: AtomicU64,
}

/// What a reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Records read.
    pub count: usize,
    /// Number of the one after them.
    pub next: u64,
    /// Records between the one wanted and the first one read.
    pub forgotten: u64,
}

impl Audit {
    /// An empty record.
    #[must_use]
    pub const fn new(slots: &'static Slots) -> Self {
        Self {
            slots,
            next: Lock::new(Level::Audit, 0),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Records `operation`, which ended at `now` (nanoseconds).
    pub fn record(&self, operation: &Operation, now: u64) {
        let target = operation.target.map_or(OXEN_NOBODY, |id| id.0);
        let words = [
            now,
            u64::from(operation.subject.0)
                | u64::from(target) << 16
                | u64::from(operation.hypercall) << 32,
            u64::from(operation.command) | u64::from(operation.result.cast_unsigned()) << 32,
        ];
        let mut next = self.next.lock();
        for (slot, word) in self.slot(*next).iter().zip(words) {
            slot.store(word, Relaxed);
        }
        *next += 1;
    }

    /// Records an attempt that was denied, unless the domain makes too many.
    #[cold]
    pub fn record_denied(&self, denied: &Denied, operation: &Operation, now: u64) {
        if denied.count(now) {
            self.record(operation, now);
        } else {
            self.suppressed.fetch_add(1, Relaxed);
        }
    }

    /// Attempts that were not recorded.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.suppressed.load(Relaxed)
    }

    /// Copies records from number `from` on.
    pub fn read(&self, from: u64, out: &mut [OxenAuditRecord]) -> Reading {
        let next = self.next.lock();
        let oldest = next.saturating_sub(KEPT as u64);
        // A number from the future is of a record before the last boot.
        let from = if from > *next { 0 } else { from };
        let first = from.max(oldest);
        let count = out.len().min((*next - first) as usize);
        for (number, record) in (first..).zip(&mut out[..count]) {
            let [time, who, what] = self.slot(number).each_ref().map(|w| w.load(Relaxed));
            *record = OxenAuditRecord {
                number,
                time,
                subject: who as u16,
                target: (who >> 16) as u16,
                hypercall: (who >> 32) as u32,
                command: what as u32,
                result: ((what >> 32) as u32).cast_signed(),
            };
        }
        Reading {
            count,
            next: first + count as u64,
            forgotten: first - from,
        }
    }

    fn slot(&self, number: u64) -> &[AtomicU64; WORDS] {
        &self.slots[number as usize % KEPT]
    }
}

static SLOTS: Slots = [const { [const { AtomicU64::new(0) }; WORDS] }; KEPT];

/// The record of this host.
pub static AUDIT: Audit = Audit::new(&SLOTS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::usage::MOST_DENIED;

    const SECOND: u64 = 1_000_000_000;

    /// A record of its own for each test.
    macro_rules! new {
        () => {{
            static SLOTS: Slots = [const { [const { AtomicU64::new(0) }; WORDS] }; KEPT];
            Audit::new(&SLOTS)
        }};
    }

    fn operation(command: u32) -> Operation {
        Operation {
            subject: DomId(3),
            target: Some(DomId(5)),
            hypercall: 36,
            command,
            result: -1,
        }
    }

    #[test]
    fn what_was_recorded_is_read() {
        let audit = new!();
        let host = Operation {
            target: None,
            result: 0,
            ..operation(7)
        };
        audit.record(&operation(2), 100);
        audit.record(&host, 200);
        let mut out = [OxenAuditRecord::default(); 4];
        let reading = audit.read(0, &mut out);
        assert_eq!((reading.count, reading.next, reading.forgotten), (2, 2, 0));
        let want = OxenAuditRecord {
            number: 0,
            time: 100,
            subject: 3,
            target: 5,
            hypercall: 36,
            command: 2,
            result: -1,
        };
        assert_eq!(out[0], want);
        assert_eq!((out[1].target, out[1].result), (OXEN_NOBODY, 0));
        // Going on from there, nothing comes twice.
        assert_eq!(audit.read(reading.next, &mut out).count, 0);
        audit.record(&operation(9), 300);
        assert_eq!(audit.read(reading.next, &mut out).count, 1);
        assert_eq!((out[0].number, out[0].command), (2, 9));
    }

    #[test]
    fn the_oldest_are_forgotten_and_counted() {
        let audit = new!();
        for n in 0..KEPT as u32 + 10 {
            audit.record(&operation(n), n.into());
        }
        let mut out = [OxenAuditRecord::default(); 2];
        let reading = audit.read(3, &mut out);
        assert_eq!((reading.count, reading.next, reading.forgotten), (2, 12, 7));
        assert_eq!((out[0].command, out[1].command), (10, 11));
        // A number of before the last boot.
        assert_eq!(audit.read(u64::MAX, &mut out).next, 12);
    }

    #[test]
    fn who_is_denied_all_the_time_washes_nothing_away() {
        let audit = new!();
        let (noisy, quiet) = (Denied::new(), Denied::new());
        for n in 0..10_000 {
            audit.record_denied(&noisy, &operation(1), 5 * SECOND + n);
        }
        audit.record_denied(&quiet, &operation(2), 5 * SECOND);
        let mut out = [OxenAuditRecord::default(); 64];
        let count = audit.read(0, &mut out).count;
        assert_eq!(count as u64, MOST_DENIED + 1);
        assert_eq!(audit.suppressed(), 10_000 - MOST_DENIED);
        assert_eq!((noisy.all(), quiet.all()), (10_000, 1));
        // In the next second it is heard again.
        audit.record_denied(&noisy, &operation(3), 6 * SECOND);
        assert_eq!(audit.read(0, &mut out).count, count + 1);
    }
}
