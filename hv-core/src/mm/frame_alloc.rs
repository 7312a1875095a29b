//! The buddy allocator of machine frames.
//!
//! Blocks of 2^order frames, aligned to their size. Free blocks are sorted into
//! *zones* by the number of bits of their frame numbers, so that a request can ask
//! for memory below an address width; ordinary requests take the highest memory
//! there is and leave the low memory to those who need it.
//!
//! It does not know who may have how much (see [`super::account`]).
//!
//! Invariants: a free block is marked so in the record of its first frame
//! ([`super::frame_table`]), is in exactly one list, and never is the buddy of
//! another free block of its order. Frame 0 is never handed out.
//!
//! Locks: one, `Level::FrameAlloc`. Flushing and scrubbing happen outside it.

use super::frame_table::{CountWord, Frame, FrameTable};
use crate::addr::CpuMask;
use crate::addr::{DomId, MachAddr, Mfn, PAGE_SHIFT};
use crate::arch::{FlushStamp, FrameMem, Tlb, machine};
use crate::sync::{Level, Lock};
use core::sync::atomic::{AtomicU64, Ordering};

/// Largest order: 4 GiB.
pub const MAX_ORDER: u32 = 20;
/// Frame numbers have at most 31 bits here.
const ZONES: usize = 32;
/// "No frame" in a list; frame 0 is never free.
const NIL: u32 = 0;

/// Frames cleared between two moments at which interrupts are let in.
const CLEARED_AT_ONCE: u32 = 32;

/// Who had a frame that nobody has had since power-on.
const FIRST_OWNER: DomId = DomId::DOM0;

#[derive(Debug)]
struct Lists {
    /// First block by zone and order.
    heads: [[u32; MAX_ORDER as usize + 1]; ZONES],
    /// Bit `n`: the zone has a block of order `n`.
    orders: [u32; ZONES],
    /// Bit `n`: zone `n` has a block.
    zones: u32,
}

/// The free memory of the host.
#[derive(Debug)]
pub struct FrameAlloc {
    lists: Lock<Lists>,
    free: AtomicU64,
    total: AtomicU64,
}

/// What a request for frames needs.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// log2 of the number of frames, contiguous and aligned to it.
    pub order: u32,
    /// The last byte's address must fit in this many bits.
    pub address_bits: u32,
    /// Whether interrupts may be let in while a large block is cleared: no lock is held.
    pub pausing: bool,
}

/// To whom frames are given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grant {
    /// What becomes of each frame's count word.
    pub word: CountWord,
    /// Frames that must stay free beside them.
    pub leaving: u64,
}

impl Request {
    /// 2^`order` frames anywhere.
    #[must_use]
    pub const fn anywhere(order: u32) -> Self {
        Self {
            order,
            address_bits: 64,
            pausing: false,
        }
    }

    /// 2^`order` frames below 2^`address_bits` bytes.
    #[must_use]
    pub const fn below(order: u32, address_bits: u32) -> Self {
        Self {
            order,
            address_bits,
            pausing: false,
        }
    }

    /// The same, letting interrupts in while a large block is cleared. The caller holds no lock.
    #[must_use]
    pub const fn pausing(self) -> Self {
        Self {
            pausing: true,
            ..self
        }
    }
}

fn zone_of(mfn: u32) -> usize {
    (32 - mfn.leading_zeros()) as usize
}

fn record(frames: &FrameTable, mfn: u32) -> &Frame {
    frames
        .get(Mfn::new(u64::from(mfn)))
        .expect("free blocks have records")
}

impl Lists {
    fn push(&mut self, frames: &FrameTable, mfn: u32, order: u32) {
        let zone = zone_of(mfn);
        let head = &mut self.heads[zone][order as usize];
        let frame = record(frames, mfn);
        frame.set_links(*head, NIL);
        frame.set_count(frame.count().without_head().with_head(order));
        if *head != NIL {
            let next = record(frames, *head);
            next.set_links(next.links().0, mfn);
        }
        *head = mfn;
        self.orders[zone] |= 1 << order;
        self.zones |= 1 << zone;
    }

    fn remove(&mut self, frames: &FrameTable, mfn: u32, order: u32) {
        let zone = zone_of(mfn);
        let frame = record(frames, mfn);
        let (next, prev) = frame.links();
        if next != NIL {
            let f = record(frames, next);
            f.set_links(f.links().0, prev);
        }
        if prev != NIL {
            let f = record(frames, prev);
            f.set_links(next, f.links().1);
        } else {
            self.heads[zone][order as usize] = next;
            if next == NIL {
                self.orders[zone] &= !(1 << order);
                if self.orders[zone] == 0 {
                    self.zones &= !(1 << zone);
                }
            }
        }
        frame.set_count(frame.count().without_head());
    }

    /// Puts a block back, joined with its free buddies.
    fn insert(&mut self, frames: &FrameTable, mut mfn: u32, mut order: u32) {
        while order < MAX_ORDER {
            let buddy = mfn ^ 1 << order;
            let joins = frames
                .get(Mfn::new(u64::from(buddy)))
                .is_some_and(|f| f.count().is_free() && f.count().free_head_order() == Some(order));
            if !joins {
                break;
            }
            self.remove(frames, buddy, order);
            mfn &= buddy;
            order += 1;
        }
        self.push(frames, mfn, order);
    }

    /// Takes a block of `order` from the highest zone up to `top`.
    fn take(&mut self, frames: &FrameTable, order: u32, top: usize) -> Option<u32> {
        let mut zones = self.zones & ((1u64 << (top + 1)) - 1) as u32;
        while zones != 0 {
            let zone = 31 - zones.leading_zeros();
            let fits = self.orders[zone as usize] >> order;
            if fits == 0 {
                zones &= !(1 << zone);
                continue;
            }
            let mut have = order + fits.trailing_zeros();
            let mut mfn = self.heads[zone as usize][have as usize];
            self.remove(frames, mfn, have);
            while have > order {
                have -= 1;
                // Keep the upper half: low memory is the scarcer.
                self.push(frames, mfn, have);
                mfn += 1 << have;
            }
            return Some(mfn);
        }
        None
    }
}

impl Default for FrameAlloc {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameAlloc {
    /// An allocator without memory.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            lists: Lock::new(
                Level::FrameAlloc,
                Lists {
                    heads: [[NIL; MAX_ORDER as usize + 1]; ZONES],
                    orders: [0; ZONES],
                    zones: 0,
                },
            ),
            free: AtomicU64::new(0),
            total: AtomicU64::new(0),
        }
    }

    /// Free frames.
    #[must_use]
    pub fn free_frames(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Frames it was ever given.
    #[must_use]
    pub fn total_frames(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Gives RAM to the allocator that nothing uses: `count` frames from `first`.
    /// Their records must be there and untouched.
    ///
    /// # Panics
    /// If a frame has no record.
    pub fn add_ram(&self, frames: &FrameTable, first: Mfn, count: u64) {
        let mut mfn = first.raw();
        let mut end = first.raw() + count;
        if mfn == 0 && end > 0 {
            mfn = 1;
        }
        end = end.max(mfn);
        self.total.fetch_add(end - mfn, Ordering::Relaxed);
        while mfn < end {
            let room = 63 - (end - mfn).leading_zeros();
            let order = mfn.trailing_zeros().min(room).min(MAX_ORDER);
            self.free_block(frames, Mfn::new(mfn), order, FIRST_OWNER);
            mfn += 1 << order;
        }
    }

    /// Gives back a block that `owner` had. Nobody refers to any of its frames.
    pub(super) fn free_block(&self, frames: &FrameTable, mfn: Mfn, order: u32, owner: DomId) {
        debug_assert!(order <= MAX_ORDER && mfn.raw() & ((1 << order) - 1) == 0);
        for n in 0..1u64 << order {
            record(frames, (mfn.raw() + n) as u32).set_count(CountWord::free(owner));
        }
        let mut lists = self.lists.lock();
        lists.insert(frames, mfn.raw() as u32, order);
        self.free.fetch_add(1 << order, Ordering::Relaxed);
    }

    /// Takes a block as `grant` says: no TLB remembers its frames, and nothing of another
    /// domain is left in them.
    pub(super) fn alloc_block(
        &self,
        frames: &FrameTable,
        mem: &impl FrameMem,
        tlb: &impl Tlb,
        request: Request,
        grant: Grant,
    ) -> Option<Mfn> {
        let Request {
            order,
            address_bits,
            pausing,
        } = request;
        let word = grant.word;
        if order > MAX_ORDER || address_bits <= PAGE_SHIFT {
            return None;
        }
        let top = ((address_bits - PAGE_SHIFT) as usize).min(ZONES - 1);
        let first = {
            let mut lists = self.lists.lock();
            let wanted = grant.leaving.saturating_add(1 << order);
            if self.free_frames() < wanted {
                return None;
            }
            let first = lists.take(frames, order, top)?;
            self.free.fetch_sub(1 << order, Ordering::Relaxed);
            first
        };
        let mut newest = FlushStamp(0);
        for n in 0..1u32 << order {
            newest = later(newest, record(frames, first + n).stamp());
        }
        if newest != FlushStamp(0) {
            tlb.flush_since(newest, &CpuMask::ALL);
        }
        for n in 0..1u32 << order {
            let frame = record(frames, first + n);
            // Dom0's number is never used again, and it trusts itself; the hypervisor
            // writes what it reads.
            let for_dom0 = word.owner() == DomId::DOM0 && frame.owner() == DomId::DOM0;
            if !for_dom0 && word.owner() != DomId::INVALID {
                scrub(mem, Mfn::new(u64::from(first + n)));
            }
            frame.reset(word);
            if pausing && (n + 1).is_multiple_of(CLEARED_AT_ONCE) {
                // Interrupts are let in; the block is brought to its end whatever waits.
                let _ = machine::preempt_point();
            }
        }
        Some(Mfn::new(u64::from(first)))
    }

    /// Walks all free blocks, checking the lists; the number of frames found, or the
    /// frame where something is wrong. For the debug command and tests.
    ///
    /// # Errors
    /// The first frame whose record contradicts its list.
    pub fn check(&self, frames: &FrameTable) -> Result<u64, Mfn> {
        let lists = self.lists.lock();
        let mut found = 0;
        for (zone, heads) in lists.heads.iter().enumerate() {
            for (order, &head) in heads.iter().enumerate() {
                let mut prev = NIL;
                let mut mfn = head;
                while mfn != NIL {
                    let wrong = Mfn::new(u64::from(mfn));
                    let frame = record(frames, mfn);
                    let good = frame.count().is_free()
                        && frame.count().refs() == 0
                        && frame.count().free_head_order() == Some(order as u32)
                        && zone_of(mfn) == zone
                        && frame.links().1 == prev;
                    if !good {
                        return Err(wrong);
                    }
                    for n in 1..1 << order {
                        let c = record(frames, mfn + n).count();
                        if !c.is_free() || c.refs() != 0 || c.free_head_order().is_some() {
                            return Err(Mfn::new(u64::from(mfn + n)));
                        }
                    }
                    found += 1 << order;
                    prev = mfn;
                    mfn = frame.links().0;
                }
            }
        }
        Ok(found)
    }
}

/// The later of two stamps of a clock that wraps; 0 is none. If one is so old that
/// it seems to lie ahead it is taken: then everybody flushes.
fn later(a: FlushStamp, b: FlushStamp) -> FlushStamp {
    if b == FlushStamp(0) || a != FlushStamp(0) && a.0.wrapping_sub(b.0).cast_signed() >= 0 {
        a
    } else {
        b
    }
}

/// Zeroes a frame.
fn scrub(mem: &impl FrameMem, mfn: Mfn) {
    for word in mem.words(mfn) {
        word.store(0, Ordering::Relaxed);
    }
}

/// Number of address bits below which `addr` lies.
#[must_use]
pub const fn address_bits(addr: MachAddr) -> u32 {
    64 - addr.raw().leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::testing::{FakeMem, FakeTlb, records};
    use proptest::prelude::*;

    const OWNER: CountWord = CountWord::used(DomId(3), 1, true, false);

    fn take(a: &FrameAlloc, f: &FrameTable, m: &FakeMem, t: &FakeTlb, r: Request) -> Option<Mfn> {
        let grant = Grant {
            word: OWNER,
            leaving: 0,
        };
        a.alloc_block(f, m, t, r, grant)
    }

    #[test]
    fn whole_memory_comes_back_as_one() {
        const BITS: u32 = if cfg!(miri) { 4 } else { 8 };
        const N: usize = 1 << BITS;
        let (f, m, t) = (records(N), FakeMem::new(N), FakeTlb::default());
        let a = FrameAlloc::new();
        a.add_ram(&f, Mfn::new(0), N as u64);
        assert_eq!(a.free_frames(), N as u64 - 1);
        let mut got = Vec::new();
        while let Some(mfn) = take(&a, &f, &m, &t, Request::anywhere(0)) {
            got.push(mfn);
        }
        assert_eq!(got.len(), N - 1);
        for mfn in got {
            a.free_block(&f, mfn, 0, DomId(3));
        }
        assert_eq!(a.check(&f), Ok(N as u64 - 1));
        assert_eq!(
            take(&a, &f, &m, &t, Request::anywhere(BITS - 1)),
            Some(Mfn::new(N as u64 / 2))
        );
    }

    #[test]
    fn high_memory_first_and_limits_hold() {
        let (f, m, t) = (records(256), FakeMem::new(256), FakeTlb::default());
        let a = FrameAlloc::new();
        a.add_ram(&f, Mfn::new(0), 256);
        assert!(take(&a, &f, &m, &t, Request::anywhere(0)).unwrap().raw() >= 128);
        // Below 2^18 bytes: frames 1 to 63.
        let low = take(&a, &f, &m, &t, Request::below(3, 18)).unwrap();
        assert!(low.raw() + 8 <= 64);
        assert_eq!(take(&a, &f, &m, &t, Request::below(0, 12)), None);
        assert_eq!(take(&a, &f, &m, &t, Request::anywhere(MAX_ORDER + 1)), None);
    }

    #[test]
    fn another_owner_finds_zeros_and_no_stale_tlb() {
        let (f, m, t) = (records(16), FakeMem::new(16), FakeTlb::default());
        let a = FrameAlloc::new();
        a.add_ram(&f, Mfn::new(1), 1);
        let mfn = take(&a, &f, &m, &t, Request::anywhere(0)).unwrap();
        m.words(mfn)[7].store(99, Ordering::Relaxed);
        let flushes = t.count();
        f.get(mfn).unwrap().set_stamp(t.now());
        a.free_block(&f, mfn, 0, DomId(3));
        let again = take(&a, &f, &m, &t, Request::anywhere(0)).unwrap();
        assert_eq!(again, mfn);
        assert_eq!(m.words(mfn)[7].load(Ordering::Relaxed), 0);
        assert_eq!(t.count(), flushes + 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 64 }))]
        #[test]
        fn random_use_keeps_the_lists(actions in prop::collection::vec((0u32..if cfg!(miri) { 2 } else { 5 }, 10u32..22, any::<bool>()), 1..if cfg!(miri) { 10 } else { 120 })) {
            const N: u64 = if cfg!(miri) { 64 } else { 512 };
            let (f, m, t) = (records(N as usize), FakeMem::new(N as usize), FakeTlb::default());
            let a = FrameAlloc::new();
            a.add_ram(&f, Mfn::new(3), N * 2 / 5);
            a.add_ram(&f, Mfn::new(N / 2), N / 2);
            let total = a.free_frames();
            let mut live: Vec<(Mfn, u32)> = Vec::new();
            for (order, bits, free) in actions {
                if free && !live.is_empty() {
                    let (mfn, order) = live.swap_remove(bits as usize % live.len());
                    a.free_block(&f, mfn, order, DomId(3));
                } else if let Some(mfn) = take(&a, &f, &m, &t, Request::below(order, bits)) {
                    prop_assert!((mfn.raw() + (1 << order)) << 12 <= 1 << bits);
                    prop_assert_eq!(mfn.raw() % (1 << order), 0);
                    for (other, o) in &live {
                        let apart = mfn.raw() + (1 << order) <= other.raw() || other.raw() + (1 << o) <= mfn.raw();
                        prop_assert!(apart);
                    }
                    live.push((mfn, order));
                }
                let used: u64 = live.iter().map(|(_, o)| 1 << o).sum();
                prop_assert_eq!(a.free_frames() + used, total);
            }
            for (mfn, order) in live {
                a.free_block(&f, mfn, order, DomId(3));
            }
            prop_assert_eq!(a.check(&f), Ok(total));
        }
    }
}
