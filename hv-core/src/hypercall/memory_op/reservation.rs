//! `increase_reservation`, `decrease_reservation`, `populate_physmap`.
//!
//! None of them fails: they answer how many extents they did, which on a bad argument
//! is the number they had done before.

use super::super::{Call, Reply, mmu};
use crate::access;
use crate::addr::{DomId, GuestVa, Mfn, Pfn};
use crate::arch::{FrameMem, Tlb};
use crate::domain::Domain;
use crate::mm::frame_alloc::Request;
use crate::mm::guest_copy::GuestSpace;
use crate::mm::{Mm, host};
use xen_abi::memory as abi;

/// Frames handled between two looks at what else the CPU has to do.
const STRETCH: u64 = 64;

/// Largest order a domain may ask for. Source: Xen 4.17's defaults of `memop-max-order`.
pub(super) fn max_order(domain: &Domain) -> u32 {
    if domain.privileged { 12 } else { 9 }
}

/// Handles the three commands of the hypercall with arguments `args`; `start` extents are done
/// already.
pub(super) fn change(call: &Call<'_>, args: [u64; 6], cmd: u32, start: u64, arg: GuestVa) -> Reply {
    let Some((job, subject)) = prepare(call, cmd, start, arg) else {
        return Reply::Done(start);
    };
    let (done, interrupted) = job.run(host::get(), &call.guest(), subject, &mmu::pause);
    if interrupted {
        let again = u64::from(cmd) | done << abi::MEMOP_EXTENT_SHIFT;
        return Reply::go_on(args, [again]);
    }
    Reply::Done(done)
}

/// Reads and checks the arguments.
fn prepare(call: &Call<'_>, cmd: u32, start: u64, arg: GuestVa) -> Option<(Job, DomId)> {
    let r: abi::XenMemoryReservation = call.guest().read(arg).ok()?;
    let too_many = r.nr_extents > u64::from(u32::MAX >> abi::MEMOP_EXTENT_SHIFT);
    if too_many || start >= r.nr_extents || r.extent_order > max_order(call.domain) {
        return None;
    }
    let subject = super::any_domain(call, r.domid)?;
    if !access::may_adjust_memory_of(call.domain, &subject) {
        return None;
    }
    let address_bits = address_bits(r.mem_flags)?;
    let job = Job {
        cmd,
        list: GuestVa(r.extent_start),
        start,
        count: r.nr_extents,
        request: Request::below(r.extent_order, address_bits).pausing(),
    };
    Some((job, subject.id))
}

/// The address width asked for, in bits; `None` if it is less than a frame.
pub(super) fn address_bits(mem_flags: u32) -> Option<u32> {
    match mem_flags & abi::XENMEMF_ADDRESS_BITS_MASK {
        0 => Some(64),
        bits if bits > crate::addr::PAGE_SHIFT => Some(bits),
        _ => None,
    }
}

/// Lets interrupts in now and then in the middle of a large extent, which is brought to its end
/// whatever waits.
fn let_in(frame: u64) {
    if (frame + 1).is_multiple_of(4 * STRETCH) {
        let _ = mmu::pause();
    }
}

/// One reservation to change.
struct Job {
    cmd: u32,
    list: GuestVa,
    start: u64,
    count: u64,
    request: Request,
}

impl Job {
    /// Does extents until one fails or `pause` says so: how many are done, and whether
    /// it was interrupted.
    fn run<M: FrameMem, T: Tlb>(
        &self,
        mm: &Mm<M, T>,
        space: &GuestSpace<'_, M>,
        owner: DomId,
        pause: &dyn Fn() -> bool,
    ) -> (u64, bool) {
        let mut since = 0;
        for n in self.start..self.count {
            if since >= STRETCH {
                since = 0;
                if pause() {
                    return (n, true);
                }
            }
            since += 1 << self.request.order;
            // A null list is allowed where nothing is read from it.
            let at = self.list.add(n * 8);
            let done = match self.cmd {
                abi::XENMEM_DECREASE_RESERVATION => self.decrease(mm, space, owner, at),
                abi::XENMEM_POPULATE_PHYSMAP => self.populate(mm, space, owner, at),
                _ => self.increase(mm, space, owner, at),
            };
            if done.is_none() {
                return (n, false);
            }
        }
        (self.count, false)
    }

    fn decrease<M: FrameMem, T: Tlb>(
        &self,
        mm: &Mm<M, T>,
        space: &GuestSpace<'_, M>,
        owner: DomId,
        at: GuestVa,
    ) -> Option<()> {
        let first: u64 = space.read(at).ok()?;
        for n in 0..1 << self.request.order {
            let mfn = Mfn::from_guest(first.checked_add(n)?)?;
            mm.release_frame(mfn, owner).ok()?;
            let_in(n);
        }
        Some(())
    }

    fn populate<M: FrameMem, T: Tlb>(
        &self,
        mm: &Mm<M, T>,
        space: &GuestSpace<'_, M>,
        owner: DomId,
        at: GuestVa,
    ) -> Option<()> {
        let pfn: u64 = space.read(at).ok()?;
        let mfn = mm.alloc_for(owner, self.request).ok()?;
        for n in 0..1 << self.request.order {
            mm.name_frame(mfn.offset(n), owner, Pfn(pfn.wrapping_add(n)));
            let_in(n);
        }
        space.write(at, &mfn.raw()).ok()
    }

    fn increase<M: FrameMem, T: Tlb>(
        &self,
        mm: &Mm<M, T>,
        space: &GuestSpace<'_, M>,
        owner: DomId,
        at: GuestVa,
    ) -> Option<()> {
        let mfn = mm.alloc_for(owner, self.request).ok()?;
        if self.list.0 == 0 {
            return Some(());
        }
        space.write(at, &mfn.raw()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::pte;
    use crate::pv_mm::testing::Guest;

    const LIST: GuestVa = GuestVa(0x40_0000);

    fn job(cmd: u32, start: u64, count: u64, order: u32) -> Job {
        Job {
            cmd,
            list: LIST,
            start,
            count,
            request: Request::anywhere(order),
        }
    }

    #[test]
    fn the_balloon_goes_up_and_down() {
        let g = Guest::new(64, 0);
        let list = g.page();
        let root = g.space(&[(LIST, list, pte::RW)]);
        let space = GuestSpace::new(&g.mm, root);
        let before = g.mm.accounts.get(g.id).unwrap().total();
        let pfns: [u64; 4] = [100, 101, 200, 300];
        space.write(LIST, &pfns).unwrap();
        let populate = job(abi::XENMEM_POPULATE_PHYSMAP, 0, 4, 0);
        assert_eq!(populate.run(&g.mm, &space, g.id, &|| false), (4, false));
        let mfns: [u64; 4] = space.read(LIST).unwrap();
        for (mfn, pfn) in mfns.iter().zip(pfns) {
            assert_eq!(g.mm.m2p.get(Mfn::new(*mfn)), Some(Pfn(pfn)));
        }
        assert_eq!(g.mm.accounts.get(g.id).unwrap().total(), before + 4);
        // The third is not the domain's (twice the same): two are done.
        space.write(LIST.add(16), &mfns[0]).unwrap();
        let decrease = job(abi::XENMEM_DECREASE_RESERVATION, 0, 4, 0);
        assert_eq!(decrease.run(&g.mm, &space, g.id, &|| false), (2, false));
        assert_eq!(g.mm.m2p.get(Mfn::new(mfns[0])), None);
        assert_eq!(g.mm.accounts.get(g.id).unwrap().total(), before + 2);
    }

    #[test]
    fn limits_and_interruptions() {
        let g = Guest::new(256, 0);
        let (list, more) = (g.page(), g.page());
        let root = g.space(&[(LIST, list, pte::RW), (LIST.add(4096), more, pte::RW)]);
        let space = GuestSpace::new(&g.mm, root);
        let account = g.mm.accounts.get(g.id).unwrap();
        account.set_max(account.total() + 10);
        let populate = job(abi::XENMEM_POPULATE_PHYSMAP, 3, 20, 0);
        assert_eq!(populate.run(&g.mm, &space, g.id, &|| false), (13, false));
        account.set_max(account.total() + 200);
        let populate = job(abi::XENMEM_POPULATE_PHYSMAP, 0, 200, 0);
        assert_eq!(populate.run(&g.mm, &space, g.id, &|| true), (64, true));
        // Four frames an extent.
        let large = job(abi::XENMEM_INCREASE_RESERVATION, 0, 2, 2);
        let total = account.total();
        assert_eq!(large.run(&g.mm, &space, g.id, &|| false), (2, false));
        assert_eq!(account.total(), total + 8);
    }

    #[test]
    fn widths() {
        assert_eq!(address_bits(0), Some(64));
        assert_eq!(address_bits(32), Some(32));
        assert_eq!(address_bits(12), None);
    }
}
