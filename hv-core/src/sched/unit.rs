//! Units and the table they live in.

use super::runstate::{Account, RunState};
use crate::addr::{AtomicCpuMask, CpuId, CpuMask, DomId, Nanos, VcpuId};
use crate::fallible;
use crate::sync::Once;
use alloc::boxed::Box;
use core::sync::atomic::{
    AtomicBool, AtomicU16, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst},
};

/// Index of a unit. Dense from 0, and used again after [`super::Scheduler::remove_unit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitId(pub(super) u32);

impl UnitId {
    /// The index itself, for tables beside the scheduler's; below
    /// [`UnitId::LIMIT`].
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// First index no unit can have.
    pub const LIMIT: usize = CHUNK * CHUNKS;
}

/// Why the scheduler refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedError {
    /// No memory, or no unit or group left.
    Full,
    /// A pause count would overflow or go below zero.
    PauseCount,
    /// A weight, cap or affinity outside what is allowed.
    BadParameter,
    /// The unit is pinned to a CPU for a while.
    Pinned,
}

/// The guest waits for an event.
pub(super) const BLOCKED: u64 = 1 << 0;
/// Not brought up.
pub(super) const OFFLINE: u64 = 1 << 1;
/// Stopped by the policy (over its cap).
pub(super) const PARKED: u64 = 1 << 2;
/// Chosen by a CPU that has not saved its context yet.
pub(super) const ON_CPU: u64 = 1 << 3;
/// In its home queue, or on the way there.
pub(super) const QUEUED: u64 = 1 << 4;
/// Blocked in a poll: wake it when any port becomes pending.
pub(super) const POLLING: u64 = 1 << 5;
/// Gives way to whatever else is queued, once.
pub(super) const YIELDING: u64 = 1 << 6;
/// Was woken while it was being switched out.
pub(super) const WOKEN: u64 = 1 << 7;
/// One pause; the count is the upper half of the word.
pub(super) const PAUSE_ONE: u64 = 1 << 32;
const PAUSES: u64 = !0 << 32;
/// Any of these stops the unit.
const STOPPED: u64 = BLOCKED | OFFLINE | PARKED | PAUSES;

/// Whether a unit with this word may run.
#[inline]
pub(super) const fn runnable(word: u64) -> bool {
    word & STOPPED == 0
}

/// A unit: what the scheduler knows of one vCPU. `D` is the policy's part.
#[derive(Debug)]
pub struct Unit<D> {
    /// State bits and pause count; see the constants of this file.
    pub(super) word: AtomicU64,
    /// The CPU whose queue lock guards everything below.
    pub(super) home: AtomicU16,
    /// Whether it is linked into the home queue.
    pub(super) linked: AtomicBool,
    pub(super) next: AtomicU32,
    pub(super) prev: AtomicU32,
    /// CPUs it may run on.
    pub(super) affinity: AtomicCpuMask,
    /// CPUs it should run on rather than on others.
    pub(super) preference: AtomicCpuMask,
    /// Whether it is pinned to one CPU for a while.
    pub(super) pinned: AtomicBool,
    /// Its affinity before it was pinned.
    pub(super) unpinned: AtomicCpuMask,
    pub(super) account: Account,
    used: AtomicBool,
    owner: AtomicU32,
    /// The policy's part.
    pub data: D,
}

impl<D: Default> Unit<D> {
    fn new() -> Self {
        Self {
            word: AtomicU64::new(OFFLINE),
            home: AtomicU16::new(0),
            linked: AtomicBool::new(false),
            next: AtomicU32::new(0),
            prev: AtomicU32::new(0),
            affinity: AtomicCpuMask::new(CpuMask::ALL),
            preference: AtomicCpuMask::new(CpuMask::ALL),
            pinned: AtomicBool::new(false),
            unpinned: AtomicCpuMask::new(CpuMask::ALL),
            account: Account::new(),
            used: AtomicBool::new(false),
            owner: AtomicU32::new(0),
            data: D::default(),
        }
    }
}

impl<D> Unit<D> {
    /// The CPU whose queue it belongs to.
    #[must_use]
    #[inline]
    pub fn home(&self) -> CpuId {
        CpuId(self.home.load(Acquire))
    }

    /// Whether it may run on `cpu`.
    #[must_use]
    #[inline]
    pub fn allows(&self, cpu: CpuId) -> bool {
        self.affinity.contains(cpu, Relaxed)
    }

    /// Whether it should run on `cpu` rather than elsewhere.
    #[must_use]
    #[inline]
    pub fn prefers(&self, cpu: CpuId) -> bool {
        self.preference.contains(cpu, Relaxed)
    }

    /// Nanoseconds since it entered the state it is in.
    #[must_use]
    #[inline]
    pub fn waited(&self, now: Nanos) -> u64 {
        self.account.since(now)
    }

    /// Nanoseconds that it ever ran, and that it waited to. Another CPU may be noting a change, and then
    /// some are missing for a moment.
    #[must_use]
    pub fn run_and_waited(&self, now: Nanos) -> [u64; 2] {
        let times = self.account.read(now);
        [RunState::Running, RunState::Runnable].map(|state| times.time[state as usize])
    }

    /// Whether the policy stopped it.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.word.load(Relaxed) & PARKED != 0
    }

    /// Whether nothing stops it: it runs or waits for a CPU.
    #[must_use]
    pub fn is_runnable(&self) -> bool {
        runnable(self.word.load(Relaxed))
    }

    /// Whether the slot holds a unit.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.used.load(Acquire)
    }

    /// Sets the `clear` bits to zero. If that makes the unit runnable while it is
    /// neither on a CPU nor queued, marks it queued: the caller then puts it into a
    /// queue. Returns the word before, and whether the caller has that duty.
    #[inline]
    pub(super) fn release(&self, clear: u64, also_if_on_cpu: u64) -> (u64, bool) {
        let mut old = self.word.load(SeqCst);
        loop {
            let mut new = old & !clear;
            let mut duty = false;
            if new & ON_CPU != 0 {
                new |= also_if_on_cpu;
            } else if runnable(new) && new & QUEUED == 0 {
                new |= QUEUED;
                duty = true;
            }
            match self.word.compare_exchange_weak(old, new, SeqCst, SeqCst) {
                Ok(_) => return (old, duty),
                Err(now) => old = now,
            }
        }
    }

    /// Takes a stopped unit out of the queued state. `false`: it is not stopped.
    pub(super) fn rest(&self) -> bool {
        self.word
            .fetch_update(SeqCst, SeqCst, |w| (!runnable(w)).then_some(w & !QUEUED))
            .is_ok()
    }

    /// Takes the unit out of the queued state: to a CPU if it may run. `false` if it
    /// was stopped meanwhile.
    #[inline]
    pub(super) fn take(&self) -> bool {
        let mut old = self.word.load(SeqCst);
        loop {
            let go = runnable(old);
            let new = if go {
                old & !QUEUED | ON_CPU
            } else {
                old & !QUEUED
            };
            match self.word.compare_exchange_weak(old, new, SeqCst, SeqCst) {
                Ok(_) => return go,
                Err(now) => old = now,
            }
        }
    }
}

const CHUNK: usize = 64;
const CHUNKS: usize = 128;

/// All units. Slots are made in chunks and never given back, so a reference to a unit
/// needs no lock.
#[derive(Debug)]
pub struct Units<D> {
    chunks: [Once<Box<[Unit<D>]>>; CHUNKS],
    /// Slots made so far.
    made: AtomicU32,
}

impl<D: Default> Units<D> {
    pub(super) const fn new() -> Self {
        Self {
            chunks: [const { Once::new() }; CHUNKS],
            made: AtomicU32::new(0),
        }
    }

    /// Finds a free slot and marks it used.
    pub(super) fn add(&self, dom: DomId, vcpu: VcpuId, now: Nanos) -> Result<UnitId, SchedError> {
        for c in 0..CHUNKS {
            let chunk = self.chunk(c)?;
            for (n, unit) in chunk.iter().enumerate() {
                if unit
                    .used
                    .compare_exchange(false, true, AcqRel, Relaxed)
                    .is_ok()
                {
                    unit.owner
                        .store(u32::from(dom.0) << 16 | u32::from(vcpu.0), Relaxed);
                    unit.affinity.store(&CpuMask::ALL, Relaxed);
                    unit.preference.store(&CpuMask::ALL, Relaxed);
                    unit.pinned.store(false, Relaxed);
                    unit.account.reset(now);
                    unit.word.store(OFFLINE, SeqCst);
                    return Ok(UnitId((c * CHUNK + n) as u32));
                }
            }
        }
        Err(SchedError::Full)
    }

    fn chunk(&self, c: usize) -> Result<&[Unit<D>], SchedError> {
        let chunk = self.chunks[c].try_call_once(|| {
            fallible::boxed_slice(CHUNK, |_| Unit::new()).map_err(|_| SchedError::Full)
        })?;
        self.made.fetch_max(((c + 1) * CHUNK) as u32, AcqRel);
        Ok(chunk)
    }
}

impl<D> Units<D> {
    /// The unit `id`.
    ///
    /// # Panics
    /// If no such slot was made; ids come from this table only.
    #[must_use]
    #[inline]
    pub fn at(&self, id: UnitId) -> &Unit<D> {
        let i = id.index();
        let Some(chunk) = self.chunks[i / CHUNK].get() else {
            unreachable!("a unit id from another table")
        };
        &chunk[i % CHUNK]
    }

    /// Which vCPU the unit is.
    #[must_use]
    pub fn owner(&self, id: UnitId) -> (DomId, VcpuId) {
        let owner = self.at(id).owner.load(Relaxed);
        (DomId((owner >> 16) as u16), VcpuId(owner as u16))
    }

    /// All units in use.
    pub fn iter(&self) -> impl Iterator<Item = (UnitId, &Unit<D>)> + Clone {
        (0..self.made.load(Acquire))
            .map(|n| (UnitId(n), self.at(UnitId(n))))
            .filter(|(_, u)| u.is_used())
    }

    pub(super) fn free(&self, id: UnitId) {
        self.at(id).used.store(false, Release);
    }
}
