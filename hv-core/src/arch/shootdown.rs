//! Cross-CPU TLB flushes, and the clock that says which are not needed.
//!
//! **Requests.** Each CPU has a mask of pending senders (a bit a CPU) and one slot
//! with what it asks of others. A sender fills its slot, sets its bit at each target,
//! interrupts the targets where its word of the mask was empty, and waits until its bits
//! are gone. (Each word is a protocol of its own; hosts of up to 64 CPUs use one.)
//! While it waits it answers its own requests, and so does every CPU that spins on a
//! lock ([`Shootdown::service`]); two CPUs that flush each other therefore both finish.
//!
//! **Idle CPUs** are left alone: a CPU is a target only between
//! [`Shootdown::enter_guest_root`] and [`Shootdown::leave_guest_root`]. It announces
//! itself *before* it loads the root, so a sender that saw it absent changed its page
//! tables before that load, which flushes.
//!
//! **The flush clock** ([`FlushClock`]) orders flushes and stamps, so that
//! [`Tlb::flush_since`](super::Tlb::flush_since) skips CPUs that have flushed anyway.
//!
//! Guests' entries are never global and never tagged (no PCID), so a CR3 load drops
//! them all, also those of a vCPU's other root; and a single-page flush under the
//! loaded root is enough, since the other root's entries went when it was unloaded.
//!
//! No locks. Generic over the CPU ([`FlushCpu`]) so that host threads can test it.

use super::FlushStamp;
use crate::addr::{AtomicCpuMask, CpuId, CpuMask, GuestVa, cpus_of_word};
use crate::percpu::PerCpu;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};

/// What the flush needs of the CPU.
pub trait FlushCpu {
    /// The CPU that asks.
    fn here(&self) -> CpuId;
    /// Drops every guest entry of this CPU's TLB.
    fn flush_all(&self);
    /// Drops this CPU's entries for one page.
    fn flush_page(&self, va: GuestVa);
    /// Makes `cpu` call [`Shootdown::service`] soon.
    fn interrupt(&self, cpu: CpuId);
    /// A pause in a wait loop.
    fn pause(&self);
}

/// Orders flushes against the moments frames lose access.
///
/// Even values: no stamp has been taken since some CPU last flushed. Taking a stamp
/// makes the clock odd, the next flush makes it even again; so both are plain reads
/// while nothing of the other kind happens. A CPU's last flush is even, a stamp odd,
/// and "flushed after the stamp" is "greater".
///
/// The clock wraps. Comparison is by signed distance, right while the two are less
/// than 2^31 apart; to keep it so, `FlushClock::wrap_due` asks for a flush of every
/// CPU four times a turn. (An old stamp that wraps past is taken for a recent one: a
/// flush too many, never one too few.)
#[derive(Debug)]
pub struct FlushClock {
    now: AtomicU32,
    wrap_due: AtomicBool,
}

/// Ticks between forced flushes of everyone.
const QUARTER_TURN: u32 = 1 << 30;

impl FlushClock {
    const fn new(start: u32) -> Self {
        Self {
            now: AtomicU32::new(start),
            wrap_due: AtomicBool::new(false),
        }
    }

    /// The stamp of this moment. Whatever lost access did so by a locked instruction
    /// (page-table entries and counts change that way), so it is visible to others.
    #[inline]
    fn stamp(&self) -> FlushStamp {
        let now = self.now.load(Ordering::SeqCst);
        if now & 1 == 0 {
            // Losing the race means that another CPU made it odd, or even further
            // on: then that later value must be stamped.
            return match self
                .now
                .compare_exchange(now, now | 1, Ordering::SeqCst, Ordering::SeqCst)
            {
                Ok(_) => FlushStamp(now | 1),
                Err(later) if later & 1 == 1 => FlushStamp(later),
                Err(_) => self.stamp(),
            };
        }
        FlushStamp(now)
    }

    /// The value to note as last flush of a CPU that flushes *after* this call.
    #[inline]
    fn flush_begins(&self) -> u32 {
        let now = self.now.load(Ordering::SeqCst);
        if now & 1 == 0 {
            return now;
        }
        let next = now.wrapping_add(1);
        match self
            .now
            .compare_exchange(now, next, Ordering::SeqCst, Ordering::SeqCst)
        {
            Ok(_) => {
                if next.is_multiple_of(QUARTER_TURN) {
                    self.wrap_due.store(true, Ordering::SeqCst);
                }
                next
            }
            // Another flush made it even; if a stamp followed at once, this flush
            // may well claim to be before that stamp.
            Err(later) => later & !1,
        }
    }

    /// Whether every CPU must flush now so that distances stay short.
    fn wrap_due(&self) -> bool {
        self.wrap_due.load(Ordering::Relaxed) && self.wrap_due.swap(false, Ordering::SeqCst)
    }

    /// Whether a flush noted as `flush` came after `stamp`.
    #[inline]
    fn is_after(flush: u32, stamp: FlushStamp) -> bool {
        flush.wrapping_sub(stamp.0).cast_signed() > 0
    }
}

/// "Everything" in a request slot; page requests are page addresses, which are even.
const EVERYTHING: u64 = 1;

#[derive(Debug)]
struct Slot {
    /// Senders that wait for this CPU.
    pending: AtomicCpuMask,
    /// What this CPU asks of its targets; stable while any of its bits is set.
    wanted: AtomicU64,
    /// Clock value of the last flush.
    last_flush: AtomicU32,
}

/// The state of all CPUs' flushes.
#[derive(Debug)]
pub struct Shootdown {
    clock: FlushClock,
    /// CPUs on which a guest root is (or is about to be) loaded.
    active: AtomicCpuMask,
    slots: PerCpu<Slot>,
}

impl Default for Shootdown {
    fn default() -> Self {
        Self::new()
    }
}

impl Shootdown {
    /// No CPU active, nothing pending.
    #[must_use]
    pub const fn new() -> Self {
        Self::starting_at(2)
    }

    const fn starting_at(clock: u32) -> Self {
        Self {
            clock: FlushClock::new(clock),
            active: AtomicCpuMask::new(CpuMask::NONE),
            slots: PerCpu::new(Slot::new()),
        }
    }

    /// Makes room for `count` CPUs. Before the second one runs.
    pub fn make_room(&self, count: usize) {
        self.slots.make_room(count, Slot::new);
    }

    #[inline]
    fn slot(&self, cpu: CpuId) -> &Slot {
        self.slots.of(cpu)
    }

    /// Word `n` of the mask of those of `cpus` that must be asked: a guest root is loaded
    /// there, and it is not `here`.
    #[inline]
    fn others_in_word(&self, cpus: &CpuMask, here: CpuId, n: usize) -> u64 {
        let own = if n == here.word() { here.bit() } else { 0 };
        cpus.words()[n] & self.active.word(n, Ordering::SeqCst) & !own
    }

    /// The stamp for a frame whose access is reduced now.
    #[must_use]
    #[inline]
    pub fn now(&self) -> FlushStamp {
        self.clock.stamp()
    }

    /// Marks the flush that a load of CR3 does. Called before the load, with nothing
    /// of the guest's run or looked at in between.
    #[inline]
    pub fn note_flush(&self, here: CpuId) {
        let slot = self.slot(here);
        slot.last_flush
            .store(self.clock.flush_begins(), Ordering::Release);
    }

    /// Called before a guest root is loaded where none was.
    #[inline]
    pub fn enter_guest_root(&self, here: CpuId) {
        // SeqCst: the store must be visible before the load of CR3 reads page tables.
        self.active.set(here, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.note_flush(here);
    }

    /// Called after the host's own root was loaded in place of a guest root. From
    /// here on this CPU is not interrupted for flushes; requests already made are
    /// answered by its next [`Shootdown::service`].
    #[inline]
    pub fn leave_guest_root(&self, here: CpuId) {
        self.active.clear(here, Ordering::SeqCst);
    }

    /// Whether a guest root is loaded on `cpu`.
    #[must_use]
    #[inline]
    pub fn is_active(&self, cpu: CpuId) -> bool {
        self.active.contains(cpu, Ordering::Relaxed)
    }

    /// Answers the requests other CPUs made of this one. The flush interrupt and
    /// every wait loop call it.
    #[inline]
    pub fn service(&self, cpu: &impl FlushCpu) {
        let slot = self.slot(cpu.here());
        for n in 0..self.slots.mask_words() {
            if slot.pending.word(n, Ordering::Relaxed) != 0 {
                self.answer(slot, n, cpu);
            }
        }
    }

    /// Answers the senders in word `n` of the mask.
    #[cold]
    fn answer(&self, slot: &Slot, n: usize, cpu: &impl FlushCpu) {
        let mut senders = slot.pending.word(n, Ordering::SeqCst);
        // A sender that finds the word in use does not interrupt, so go on until the
        // word was seen empty.
        while senders != 0 {
            let mut wanted =
                cpus_of_word(n, senders).map(|s| self.slot(s).wanted.load(Ordering::SeqCst));
            if senders.is_power_of_two() {
                match wanted.next() {
                    Some(EVERYTHING) | None => self.flush_all_here(slot, cpu),
                    Some(va) => cpu.flush_page(GuestVa(va)),
                }
            } else {
                self.flush_all_here(slot, cpu);
            }
            senders = slot.pending.clear_in_word(n, senders, Ordering::SeqCst);
        }
    }

    fn flush_all_here(&self, slot: &Slot, cpu: &impl FlushCpu) {
        let begins = self.clock.flush_begins();
        cpu.flush_all();
        slot.last_flush.store(begins, Ordering::Release);
    }

    /// Flushes everything on `cpus`; waits until it is done.
    pub fn flush(&self, cpus: &CpuMask, cpu: &impl FlushCpu) {
        self.request(EVERYTHING, cpus, cpu);
    }

    /// Flushes the page at `va` on `cpus`; waits until it is done.
    pub fn flush_page(&self, va: GuestVa, cpus: &CpuMask, cpu: &impl FlushCpu) {
        self.request(va.0 & !0xfff, cpus, cpu);
    }

    /// Flushes those of `cpus` that have not flushed since `stamp`.
    #[inline]
    pub fn flush_since(&self, stamp: FlushStamp, cpus: &CpuMask, cpu: &impl FlushCpu) {
        if self.clock.wrap_due() {
            self.flush(&CpuMask::ALL, cpu);
            return;
        }
        let here = cpu.here();
        let words = self.slots.mask_words();
        if (0..words).any(|n| self.stale_in_word(stamp, cpus, here, n) != 0) {
            self.flush_stale(stamp, cpus, cpu);
        }
    }

    /// Word `n` of the mask of those of `cpus` that may hold entries from before `stamp`.
    #[inline]
    fn stale_in_word(&self, stamp: FlushStamp, cpus: &CpuMask, here: CpuId, n: usize) -> u64 {
        let own = if n == here.word() { here.bit() } else { 0 };
        // What lost access did so by a locked instruction; a CPU that is not active now
        // loads its root after that.
        let active = self.active.word(n, Ordering::SeqCst) | own;
        cpus_of_word(n, cpus.words()[n] & active).fold(0, |stale, c| {
            let last = self.slot(c).last_flush.load(Ordering::Acquire);
            if FlushClock::is_after(last, stamp) {
                stale
            } else {
                stale | c.bit()
            }
        })
    }

    /// Flushes those of `cpus` that have not flushed since `stamp`; there are some.
    #[cold]
    fn flush_stale(&self, stamp: FlushStamp, cpus: &CpuMask, cpu: &impl FlushCpu) {
        let words = self.slots.mask_words();
        let stale = CpuMask::from_words(core::array::from_fn(|n| {
            if n < words {
                self.stale_in_word(stamp, cpus, cpu.here(), n)
            } else {
                0
            }
        }));
        self.flush(&stale, cpu);
    }

    fn request(&self, wanted: u64, cpus: &CpuMask, cpu: &impl FlushCpu) {
        let here = cpu.here();
        let mine = self.slot(here);
        // Page tables were changed before; a CPU that is not active now loads its root
        // after that.
        fence(Ordering::SeqCst);
        let words = self.slots.mask_words();
        let asked = (0..words).any(|n| self.others_in_word(cpus, here, n) != 0);
        let waiting = asked.then(|| self.ask_others(wanted, cpus, cpu));
        if cpus.contains(here) {
            if wanted == EVERYTHING {
                self.flush_all_here(mine, cpu);
            } else {
                cpu.flush_page(GuestVa(wanted));
            }
        }
        for c in waiting.iter().flat_map(CpuMask::iter) {
            while self.slot(c).pending.contains(here, Ordering::SeqCst) {
                self.service(cpu);
                cpu.pause();
            }
        }
    }

    /// Asks those of `cpus` where a guest root is loaded, but not this one. Returns whom.
    #[cold]
    fn ask_others(&self, wanted: u64, cpus: &CpuMask, cpu: &impl FlushCpu) -> CpuMask {
        let here = cpu.here();
        self.slot(here).wanted.store(wanted, Ordering::SeqCst);
        let mut asked = CpuMask::NONE;
        for n in 0..self.slots.mask_words() {
            for c in cpus_of_word(n, self.others_in_word(cpus, here, n)) {
                asked = asked.with(c);
                if self.slot(c).pending.set(here, Ordering::SeqCst) == 0 {
                    cpu.interrupt(c);
                }
            }
        }
        asked
    }
}

impl Slot {
    const fn new() -> Self {
        Self {
            pending: AtomicCpuMask::new(CpuMask::NONE),
            wanted: AtomicU64::new(0),
            last_flush: AtomicU32::new(0),
        }
    }
}

#[cfg(test)]
mod tests;
