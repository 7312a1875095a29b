//! `mmu_update` (1): a list of checked page-table stores and machine-to-physical
//! updates.
//!
//! Elements are done in order up to the first that fails; how many were done is told
//! through a pointer, also on failure. An interrupted list goes on with the rest.
//! Source: Xen `include/public/xen.h`.

use super::mmu::{self, ELEMENTS, Halt};
use super::{Call, Error, HypercallResult, Reply};
use crate::addr::{CpuMask, DomId, GuestVa, MachAddr};
use crate::arch::{FrameMem, Tlb};
use crate::mm::guest_copy::GuestSpace;
use crate::mm::{guest_stack, host};
use crate::pv_mm::run::Runner;
use crate::pv_mm::update::{self, Store};
use crate::pv_mm::{Budget, Rights};
use xen_abi::xen as abi;
use zerocopy::FromZeros;

const SIZE: u64 = size_of::<abi::MmuUpdate>() as u64;

/// Elements copied from the guest at a time.
const CHUNK: usize = 8;

/// Handles `mmu_update(list, count, done, foreigndom)`.
///
/// # Errors
/// `ESRCH`, `EPERM`: `foreigndom`. `EFAULT`: list or `done`. Else the first failing
/// element's: `ENOSYS` (kind), `EINVAL` (frame, flags, type), `EBUSY` (type conflict),
/// `EPERM` (device memory).
pub fn mmu_update(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    if args[1] as u32 == 1
        && args[2] == 0
        && args[3] as u32 == u32::from(DomId::SELF.0)
        && let Some(result) = single(call, args[0])
    {
        return result;
    }
    list(call, args)
}

/// One store of one's own into an L1 table: nearly every call is this. `None`: it is
/// something else.
#[inline]
fn single(call: &Call<'_>, at: u64) -> Option<HypercallResult> {
    let [ptr, val] = guest_stack::read_arguments(call.state.kernel_root?, GuestVa(at)).ok()?;
    let element = abi::MmuUpdate { ptr, val };
    let how = match element.ptr & 7 {
        abi::MMU_NORMAL_PT_UPDATE => Store::Set,
        abi::MMU_PT_UPDATE_PRESERVE_AD => Store::PreserveAd,
        _ => return None,
    };
    let addr = MachAddr::from_guest(element.ptr & !7)?;
    let rights = call.domain.rights();
    let stored = update::store_l1(host::get(), &rights, addr, element.val, how)?;
    Some(stored.map(|_| Reply::Done(0)).map_err(Error::from))
}

#[inline(never)]
fn list(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let resumed = args[1] as u32 & abi::MMU_UPDATE_PREEMPTED != 0;
    let count = args[1] as u32 & !abi::MMU_UPDATE_PREEMPTED;
    let tables = mmu::table_owner(call, args[3] as u32)?;
    let rights = mmu::rights(call, tables.as_deref(), args[3] as u32)?;
    let foreign_tables = rights.tables() != call.domain.id;
    let mm = host::get();
    let space = call.guest();
    let before = mmu::read_done(&space, GuestVa(args[2]), resumed)?;
    let mut runner = Runner {
        mm,
        unfinished: &mut call.state.unfinished,
        pause: &mmu::pause,
        budget: Budget::full(),
    };
    let ran = run_list(&mut runner, &space, &rights, GuestVa(args[0]), count);
    if ran.stale {
        if foreign_tables {
            mm.tlb.flush(&CpuMask::ALL);
        } else {
            mm.tlb.flush(&mmu::cpus_of(call.domain));
        }
    }
    mmu::count_foreign(call, rights.frames(), ran.done.into());
    mmu::write_done(&space, GuestVa(args[2]), before.wrapping_add(ran.done))?;
    match ran.end {
        Ok(()) => Ok(Reply::Done(0)),
        Err(Halt::Failed(e)) => Err(e),
        Err(Halt::Preempted) => Ok(mmu::rest_of_list(args, SIZE, ran.done, count)),
    }
}

/// How far a list came.
struct Ran {
    /// Elements done.
    done: u32,
    /// Paging-structure caches are stale.
    stale: bool,
    end: Result<(), Halt>,
}

/// Runs a list of `count` elements.
#[inline]
fn run_list<M: FrameMem, T: Tlb>(
    runner: &mut Runner<'_, M, T>,
    space: &GuestSpace<'_, M>,
    rights: &Rights<'_>,
    list: GuestVa,
    count: u32,
) -> Ran {
    let mut ran = Ran {
        done: 0,
        stale: false,
        end: Ok(()),
    };
    ran.end = runner.drain().map_err(Halt::from);
    if ran.end.is_err() {
        return ran;
    }
    let mut chunk = [abi::MmuUpdate::new_zeroed(); CHUNK];
    let mut at = list;
    while ran.done < count {
        let wanted = ((count - ran.done) as usize).min(CHUNK);
        let mut have = wanted;
        if space.read_slice(at, &mut chunk[..wanted]).is_err() {
            // Up to the element that cannot be read, the list is good.
            have = 1;
            if let Err(fault) = space.read_slice(at, &mut chunk[..1]) {
                ran.end = Err(fault.into());
                return ran;
            }
        }
        for element in &chunk[..have] {
            match one(runner, rights, element) {
                Ok(stale) => ran.stale |= stale,
                Err(halt) => {
                    ran.end = Err(halt);
                    return ran;
                }
            }
            ran.done += 1;
            ran.end = runner.drain().map_err(Halt::from);
            if ran.end.is_err() {
                return ran;
            }
        }
        at = at.add(SIZE * have as u64);
        let rest = ran.done.is_multiple_of(ELEMENTS) || runner.budget.is_spent();
        if rest && ran.done < count {
            ran.end = runner.rest().map_err(Halt::from);
            if ran.end.is_err() {
                return ran;
            }
        }
    }
    ran
}

/// Does one element; whether paging-structure caches are stale.
#[inline]
fn one<M: FrameMem, T: Tlb>(
    runner: &mut Runner<'_, M, T>,
    rights: &Rights<'_>,
    element: &abi::MmuUpdate,
) -> Result<bool, Halt> {
    let how = match element.ptr & 7 {
        abi::MMU_NORMAL_PT_UPDATE | abi::MMU_PT_UPDATE_NO_TRANSLATE => Store::Set,
        abi::MMU_PT_UPDATE_PRESERVE_AD => Store::PreserveAd,
        abi::MMU_MACHPHYS_UPDATE => return machphys(runner, rights, element).map(|()| false),
        _ => return Err(Error::NotImplemented.into()),
    };
    let addr = MachAddr::from_guest(element.ptr & !7).ok_or(Error::Invalid)?;
    let mm = runner.mm;
    let updated = runner.run(|budget| update::store(mm, rights, addr, element.val, how, budget))?;
    if let Some(leftover) = updated.leftover {
        runner.unfinished.retire(mm, leftover);
    }
    Ok(updated.stale)
}

/// Notes the PFN of a frame of the named owner's.
fn machphys<M: FrameMem, T: Tlb>(
    runner: &Runner<'_, M, T>,
    rights: &Rights<'_>,
    element: &abi::MmuUpdate,
) -> Result<(), Halt> {
    let mfn = mmu::frame(element.ptr >> 12)?;
    let page = runner.mm.page(mfn, rights.frames()).map_err(Error::from)?;
    runner.mm.m2p.set_raw(page.mfn(), element.val);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Mfn;
    use crate::mm::pte;
    use crate::pv_mm::testing::Guest;
    use crate::pv_mm::{Unfinished, pin};

    const LIST: GuestVa = GuestVa(0x40_0000);

    struct Run {
        done: u32,
        end: Result<(), Halt>,
    }

    fn run(g: &Guest, root: Mfn, elements: &[(u64, u64)], pause: &dyn Fn() -> bool) -> Run {
        let space = GuestSpace::new(&g.mm, root);
        for (n, (ptr, val)) in elements.iter().enumerate() {
            let element = abi::MmuUpdate {
                ptr: *ptr,
                val: *val,
            };
            space.write(LIST.add(SIZE * n as u64), &element).unwrap();
        }
        let mut unfinished = Unfinished::new();
        let mut runner = Runner {
            mm: &g.mm,
            unfinished: &mut unfinished,
            pause,
            budget: Budget::full(),
        };
        let ran = run_list(
            &mut runner,
            &space,
            &g.rights(),
            LIST,
            elements.len() as u32,
        );
        while unfinished.finish(&g.mm, &Budget::endless()).is_err() {}
        Run {
            done: ran.done,
            end: ran.end,
        }
    }

    #[test]
    fn stops_at_the_first_failure_and_says_where() {
        let g = Guest::new(64, 0);
        let (list, l1, page) = (g.page(), g.page(), g.page());
        let root = g.space(&[(LIST, list, pte::RW)]);
        pin::pin(&g.mm, &g.rights(), l1, 1, &Budget::endless()).unwrap();
        let at = |n: u64| l1.addr().raw() + n * 8;
        let good = pte::make(page, pte::P | pte::RW | pte::US);
        let cases = [
            (at(1), pte::make(l1, pte::P | pte::RW), Error::Busy),
            (at(1), good | pte::PCD, Error::Invalid),
            (at(1) | 4, good, Error::NotImplemented),
            (0x3000_0000, good, Error::Invalid),
            (1 << 60, good, Error::Invalid),
            (0x3000_0001, 7, Error::Invalid),
        ];
        for (ptr, val, error) in cases {
            let ran = run(
                &g,
                root,
                &[(at(0), good), (ptr, val), (at(2), good)],
                &|| false,
            );
            assert_eq!((ran.done, ran.end), (1, Err(Halt::Failed(error))));
            assert_eq!(g.peek(l1, 0), good);
            assert_eq!(g.peek(l1, 1), 0);
            assert_eq!(g.peek(l1, 2), 0);
        }
        // Plain memory gets plain bytes; the machine-to-physical table is the owner's.
        let plain = g.page();
        let machphys = page.addr().raw() | abi::MMU_MACHPHYS_UPDATE;
        let ran = run(
            &g,
            root,
            &[(plain.addr().raw() + 8, !0), (machphys, 77)],
            &|| false,
        );
        assert_eq!((ran.done, ran.end), (2, Ok(())));
        assert_eq!(g.peek(plain, 1), !0);
        assert_eq!(g.mm.m2p.get(page), Some(crate::addr::Pfn(77)));
    }

    #[test]
    fn an_unreadable_list_counts_what_came_before() {
        let g = Guest::new(64, 0);
        let (list, l1) = (g.page(), g.page());
        // The list's last element is on a page that is not there.
        let start = LIST.add(4096 - 3 * SIZE);
        let root = g.space(&[(LIST, list, pte::RW)]);
        pin::pin(&g.mm, &g.rights(), l1, 1, &Budget::endless()).unwrap();
        let space = GuestSpace::new(&g.mm, root);
        for n in 0..3 {
            let element = abi::MmuUpdate {
                ptr: l1.addr().raw() + n * 8,
                val: 0x1000,
            };
            space.write(start.add(SIZE * n), &element).unwrap();
        }
        let mut unfinished = Unfinished::new();
        let mut runner = Runner {
            mm: &g.mm,
            unfinished: &mut unfinished,
            pause: &|| false,
            budget: Budget::full(),
        };
        let ran = run_list(&mut runner, &space, &g.rights(), start, 4);
        assert_eq!((ran.done, ran.end), (3, Err(Halt::Failed(Error::Fault))));
        assert_eq!(g.peek(l1, 2), 0x1000);
    }

    #[test]
    fn long_lists_let_events_in() {
        let g = Guest::new(64, 0);
        let (list, l1) = (g.page(), g.page());
        let root = g.space(&[(LIST, list, pte::RW)]);
        pin::pin(&g.mm, &g.rights(), l1, 1, &Budget::endless()).unwrap();
        let elements: Vec<_> = (0..100).map(|n| (l1.addr().raw() + n * 8, 0)).collect();
        let ran = run(&g, root, &elements, &|| true);
        assert_eq!((ran.done, ran.end), (32, Err(Halt::Preempted)));
        let ran = run(&g, root, &elements, &|| false);
        assert_eq!((ran.done, ran.end), (100, Ok(())));
    }
}
