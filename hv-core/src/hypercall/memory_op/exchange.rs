//! `exchange`: frames given up against others, contiguous or low enough for a device.
//!
//! Done in chunks, each all or nothing: as many frames as the larger of the two extent
//! sizes. A frame given up must have no user but the domain itself. Progress is kept in
//! the guest's own argument (`nr_exchanged`) and checked like the rest of it.

use super::super::{Call, Error, HypercallResult, Reply, mmu};
use super::reservation::{address_bits, max_order};
use crate::access;
use crate::addr::{DomId, GuestVa, Mfn, Pfn};
use crate::arch::{FrameMem, Tlb, machine};
use crate::fallible::Grow;
use crate::mm::frame_alloc::Request;
use crate::mm::guest_copy::GuestSpace;
use crate::mm::{Mm, host};
use alloc::vec::Vec;
use xen_abi::memory as abi;

/// Offset of `nr_exchanged` in the argument.
const PROGRESS: u64 = 64;

/// Frames handled between two moments at which interrupts are let in.
const STRETCH: u64 = 64;

/// Lets interrupts in after some frames. A chunk is brought to its end whatever waits.
fn breathe(done: u64) {
    if done % STRETCH == STRETCH - 1 {
        machine::let_interrupts_in();
    }
}

/// Handles `exchange`.
///
/// # Errors
/// `EFAULT`; `EPERM`: orders, domain; `ESRCH`; `EINVAL`: sizes, or a frame that is not
/// the domain's alone; `ENOMEM`: nothing fits. Chunks before the failing one are done,
/// and `nr_exchanged` says so.
pub(super) fn exchange(call: &Call<'_>, args: [u64; 6]) -> HypercallResult {
    let arg = GuestVa(args[1]);
    let space = call.guest();
    let x: abi::XenMemoryExchange = space.read(arg)?;
    let most = max_order(call.domain);
    if x.r#in.extent_order > most || x.out.extent_order > most {
        return Err(Error::NotPermitted);
    }
    let job = Job::new(&x).ok_or(Error::Invalid)?;
    if !job.lists_are_guest() {
        return Err(Error::Fault);
    }
    let subject = super::any_domain(call, x.r#in.domid).ok_or(Error::NoDomain)?;
    if !access::may_adjust_memory_of(call.domain, &subject) {
        return Err(Error::NotPermitted);
    }
    let (done, end) = job.run(host::get(), &space, subject.id, &mmu::pause);
    space.write(arg.add(PROGRESS), &done)?;
    match end {
        Ok(End::Done) => Ok(Reply::Done(0)),
        Ok(End::Interrupted) => Ok(Reply::Continue(args)),
        Err(e) => Err(e),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Interrupted,
}

/// An exchange whose sizes have been checked.
struct Job {
    give: GuestVa,
    give_order: u32,
    take: GuestVa,
    request: Request,
    /// Extents given that make a chunk, as a power of two.
    chunk_give: u32,
    /// Extents taken in a chunk, as a power of two.
    chunk_take: u32,
    /// Extents given before, and in all.
    done: u64,
    count: u64,
}

impl Job {
    fn new(x: &abi::XenMemoryExchange) -> Option<Self> {
        let (give, take) = (&x.r#in, &x.out);
        let frames = |r: &abi::XenMemoryReservation| {
            r.nr_extents
                .checked_shl(r.extent_order)
                .filter(|n| n >> r.extent_order == r.nr_extents)
        };
        let same = frames(give)? == frames(take)?;
        if x.nr_exchanged > give.nr_extents || give.domid != take.domid || !same {
            return None;
        }
        Some(Self {
            give: GuestVa(give.extent_start),
            give_order: give.extent_order,
            take: GuestVa(take.extent_start),
            request: Request::below(take.extent_order, address_bits(take.mem_flags)?).pausing(),
            chunk_give: take.extent_order.saturating_sub(give.extent_order),
            chunk_take: give.extent_order.saturating_sub(take.extent_order),
            done: x.nr_exchanged,
            count: give.nr_extents,
        })
    }

    /// Whether what is left of both lists lies where a guest's memory can. (Whether it is
    /// there is seen when it is used.)
    fn lists_are_guest(&self) -> bool {
        let ends = |list: GuestVa, first: u64, end: u64| {
            let at = |n: u64| n.checked_mul(8).and_then(|n| list.0.checked_add(n));
            let last = end.saturating_sub(1).max(first);
            [first, last]
                .into_iter()
                .all(|n| at(n).is_some_and(|va| GuestVa(va).is_guest()))
        };
        let chunks = self.done >> self.chunk_give..self.count >> self.chunk_give;
        ends(self.give, self.done, self.count)
            && ends(
                self.take,
                chunks.start << self.chunk_take,
                chunks.end << self.chunk_take,
            )
    }

    /// Does the chunks; extents given so far, and how it ended.
    fn run<M: FrameMem, T: Tlb>(
        &self,
        mm: &Mm<M, T>,
        space: &GuestSpace<'_, M>,
        owner: DomId,
        pause: &dyn Fn() -> bool,
    ) -> (u64, Result<End, Error>) {
        let first = self.done >> self.chunk_give;
        for chunk in first..self.count >> self.chunk_give {
            let done = chunk << self.chunk_give;
            if chunk != first && pause() {
                return (done, Ok(End::Interrupted));
            }
            if let Err(e) = self.chunk(mm, space, owner, chunk) {
                return (done, Err(e));
            }
        }
        (self.count, Ok(End::Done))
    }

    fn chunk<M: FrameMem, T: Tlb>(
        &self,
        mm: &Mm<M, T>,
        space: &GuestSpace<'_, M>,
        owner: DomId,
        chunk: u64,
    ) -> Result<(), Error> {
        let mut given = Vec::new();
        let mut taken = Vec::new();
        let outcome = self
            .steal(mm, space, owner, chunk, &mut given)
            .and_then(|()| self.allocate(mm, owner, &mut taken));
        if let Err(e) = outcome {
            for (n, mfn) in (0..).zip(given) {
                mm.unsteal(mfn, owner);
                breathe(n);
            }
            for (n, first) in (0..).zip(taken) {
                self.free(mm, owner, first);
                breathe(n);
            }
            return Err(e);
        }
        for (n, mfn) in (0..).zip(given) {
            mm.free_stolen(mfn);
            breathe(n);
        }
        self.hand_out(mm, space, owner, chunk, &taken)
    }

    /// Takes the chunk's frames from the domain.
    fn steal<M: FrameMem, T: Tlb>(
        &self,
        mm: &Mm<M, T>,
        space: &GuestSpace<'_, M>,
        owner: DomId,
        chunk: u64,
        given: &mut Vec<Mfn>,
    ) -> Result<(), Error> {
        given
            .try_reserve_exact(1 << (self.chunk_give + self.give_order))
            .map_err(|_| Error::NoMemory)?;
        for extent in 0..1 << self.chunk_give {
            let n = (chunk << self.chunk_give) + extent;
            let first: u64 = space.read(self.give.add(n * 8))?;
            for frame in 0..1 << self.give_order {
                let mfn = first
                    .checked_add(frame)
                    .and_then(Mfn::from_guest)
                    .ok_or(Error::Invalid)?;
                mm.steal(mfn, owner).map_err(|_| Error::Invalid)?;
                given.push_reserved(mfn);
                breathe(given.len() as u64);
            }
        }
        Ok(())
    }

    fn allocate<M: FrameMem, T: Tlb>(
        &self,
        mm: &Mm<M, T>,
        owner: DomId,
        taken: &mut Vec<Mfn>,
    ) -> Result<(), Error> {
        let extents = 1 << self.chunk_take;
        taken
            .try_reserve_exact(extents)
            .map_err(|_| Error::NoMemory)?;
        for n in 0..extents {
            taken.push_reserved(mm.alloc_in_exchange(owner, self.request)?);
            breathe(n as u64);
        }
        Ok(())
    }

    fn free<M: FrameMem, T: Tlb>(&self, mm: &Mm<M, T>, owner: DomId, first: Mfn) {
        for n in 0..1 << self.request.order {
            // Another vCPU may have guessed its number and given it up; then it is freed.
            let _ = mm.release_frame(first.offset(n), owner);
            breathe(n);
        }
    }

    /// Tells the guest, and the machine-to-physical table, where the new frames are.
    /// The exchange is done whatever the guest's list is like.
    fn hand_out<M: FrameMem, T: Tlb>(
        &self,
        mm: &Mm<M, T>,
        space: &GuestSpace<'_, M>,
        owner: DomId,
        chunk: u64,
        taken: &[Mfn],
    ) -> Result<(), Error> {
        let mut outcome = Ok(());
        for (n, mfn) in taken.iter().enumerate() {
            let index = (chunk << self.chunk_take) + n as u64;
            let at = self.take.add(index * 8);
            let told = space.read::<u64>(at).and_then(|pfn| {
                for frame in 0..1 << self.request.order {
                    // Another vCPU may have given the frame up already.
                    mm.name_frame(mfn.offset(frame), owner, Pfn(pfn.wrapping_add(frame)));
                }
                space.write(at, &mfn.raw())
            });
            if let Err(fault) = told {
                outcome = Err(fault.into());
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::pte;
    use crate::pv_mm::testing::Guest;

    const GIVE: GuestVa = GuestVa(0x40_0000);
    const TAKE: GuestVa = GuestVa(0x40_1000);

    fn reservation(list: GuestVa, n: u64, order: u32, bits: u32) -> abi::XenMemoryReservation {
        abi::XenMemoryReservation {
            extent_start: list.0,
            nr_extents: n,
            extent_order: order,
            mem_flags: bits,
            domid: DomId::SELF.0,
            _pad: [0; 3],
        }
    }

    fn swiotlb(pages: u64, order: u32, bits: u32) -> abi::XenMemoryExchange {
        abi::XenMemoryExchange {
            r#in: reservation(GIVE, pages, 0, 0),
            out: reservation(TAKE, pages >> order, order, bits),
            nr_exchanged: 0,
        }
    }

    struct Scene {
        g: Guest,
        root: Mfn,
        pages: Vec<Mfn>,
    }

    fn scene(pages: usize) -> Scene {
        let g = Guest::new(256, 0);
        let (a, b) = (g.page(), g.page());
        let root = g.space(&[(GIVE, a, pte::RW), (TAKE, b, pte::RW)]);
        let pages: Vec<Mfn> = (0..pages).map(|_| g.page()).collect();
        let space = GuestSpace::new(&g.mm, root);
        for (n, mfn) in pages.iter().enumerate() {
            g.mm.m2p.set(*mfn, Pfn(1000 + n as u64));
            space.write(GIVE.add(n as u64 * 8), &mfn.raw()).unwrap();
        }
        Scene { g, root, pages }
    }

    #[test]
    fn single_frames_become_one_low_block() {
        let s = scene(8);
        let (g, space) = (&s.g, GuestSpace::new(&s.g.mm, s.root));
        space.write(TAKE, &500_u64).unwrap();
        let total = g.mm.accounts.get(g.id).unwrap().total();
        // Below 2^18 bytes: frames up to 63.
        let job = Job::new(&swiotlb(8, 3, 18)).unwrap();
        let ran = job.run(&g.mm, &space, g.id, &|| false);
        assert_eq!(ran, (8, Ok(End::Done)));
        let got: u64 = space.read(TAKE).unwrap();
        assert!(got.is_multiple_of(8) && got + 8 <= 64);
        for n in 0..8 {
            assert_eq!(g.mm.m2p.get(Mfn::new(got + n)), Some(Pfn(500 + n)));
            let frame = g.mm.record(s.pages[n as usize]);
            assert!(frame.count().is_free());
        }
        assert_eq!(g.mm.accounts.get(g.id).unwrap().total(), total);
    }

    #[test]
    fn a_chunk_that_fails_changes_nothing() {
        let s = scene(8);
        let (g, space) = (&s.g, GuestSpace::new(&s.g.mm, s.root));
        space.write(TAKE, &500_u64).unwrap();
        let unchanged = || {
            for (n, mfn) in s.pages.iter().enumerate() {
                assert_eq!(g.mm.record(*mfn).count().refs(), 1);
                assert!(g.mm.record(*mfn).count().is_allocated());
                assert_eq!(g.mm.m2p.get(*mfn), Some(Pfn(1000 + n as u64)));
            }
            assert_eq!(space.read::<u64>(TAKE).unwrap(), 500);
        };
        // No memory that low.
        let job = Job::new(&swiotlb(8, 3, 13)).unwrap();
        let ran = job.run(&g.mm, &space, g.id, &|| false);
        assert_eq!(ran, (0, Err(Error::NoMemory)));
        unchanged();
        // One frame is in use; one is named twice.
        let job = Job::new(&swiotlb(8, 3, 0)).unwrap();
        g.mm.get_page(s.pages[5], g.id).unwrap();
        assert_eq!(
            job.run(&g.mm, &space, g.id, &|| false).1,
            Err(Error::Invalid)
        );
        g.mm.put_page(s.pages[5]);
        unchanged();
        space.write(GIVE.add(56), &s.pages[0].raw()).unwrap();
        assert_eq!(
            job.run(&g.mm, &space, g.id, &|| false).1,
            Err(Error::Invalid)
        );
        unchanged();
    }

    #[test]
    fn sizes_that_do_not_match() {
        let mut x = swiotlb(8, 3, 0);
        x.out.nr_extents = 2;
        assert!(Job::new(&x).is_none());
        let mut x = swiotlb(8, 3, 0);
        x.r#in.nr_extents = 1 << 63;
        x.r#in.extent_order = 1;
        x.out.nr_extents = 0;
        assert!(Job::new(&x).is_none());
        let mut x = swiotlb(8, 3, 0);
        x.nr_exchanged = 9;
        assert!(Job::new(&x).is_none());
        let mut x = swiotlb(8, 3, 0);
        x.out.domid = 1;
        assert!(Job::new(&x).is_none());
    }

    #[test]
    fn lists_outside_guest_memory() {
        // XSA-212: every element's address counts, not the first one's alone.
        let lies = |give: u64, take: u64, count: u64, done: u64| {
            let mut x = swiotlb(count, 0, 0);
            (x.r#in.extent_start, x.out.extent_start) = (give, take);
            x.nr_exchanged = done;
            !Job::new(&x).unwrap().lists_are_guest()
        };
        let hypervisor = crate::mm::layout::M2P_START;
        assert!(!lies(GIVE.0, TAKE.0, 8, 0) && !lies(GIVE.0, TAKE.0, 8, 8));
        assert!(!lies(GIVE.0, TAKE.0, 0, 0));
        assert!(lies(hypervisor, TAKE.0, 1, 0) && lies(GIVE.0, hypervisor, 1, 0));
        assert!(lies(GIVE.0, (1 << 47) - 8, 2, 0));
        assert!(lies(GIVE.0, TAKE.0, 1 << 62, (hypervisor - TAKE.0) / 8));
        assert!(lies(GIVE.0, TAKE.0, u64::MAX, u64::MAX - 1));
    }

    #[test]
    fn progress_is_whole_chunks() {
        let s = scene(8);
        let (g, space) = (&s.g, GuestSpace::new(&s.g.mm, s.root));
        let mut x = swiotlb(8, 1, 0);
        let job = Job::new(&x).unwrap();
        assert_eq!(
            job.run(&g.mm, &space, g.id, &|| true),
            (2, Ok(End::Interrupted))
        );
        x.nr_exchanged = 2;
        let job = Job::new(&x).unwrap();
        assert_eq!(job.run(&g.mm, &space, g.id, &|| false), (8, Ok(End::Done)));
    }
}
