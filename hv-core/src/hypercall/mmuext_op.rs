//! `mmuext_op` (26): pins, base pointers, flushes, the LDT; a list, as `mmu_update`.
//! Source: Xen `include/public/xen.h`.

use super::mmu::{self, ELEMENTS, Halt, Stretch};
use super::{Call, Error, HypercallResult, Reply};
use crate::access;
use crate::addr::{CpuMask, DomId, GuestVa, Mfn};
use crate::arch::{FrameMem, Tlb, machine};
use crate::mm::account::DomainPages;
use crate::mm::host;
use crate::pv_mm::run::Runner;
use crate::pv_mm::{Budget, demote, pin, promote};
use core::sync::atomic::Ordering;
use xen_abi::xen as abi;

const SIZE: u64 = size_of::<abi::MmuextOp>() as u64;

/// Most LDT entries. Source: Intel SDM volume 3A, section 3.5.1.
const MAX_LDT_ENTRIES: u32 = 8192;

/// Handles `mmuext_op(list, count, done, foreigndom)`.
///
/// # Errors
/// `ESRCH`, `EPERM`: `foreigndom`. `EFAULT`: list or `done`. Else the first failing
/// element's.
pub fn mmuext_op(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    if args[1] as u32 == 1
        && args[2] == 0
        && args[3] as u32 == u32::from(DomId::SELF.0)
        && call.state.unfinished.is_empty()
    {
        // One flush, say.
        let op = call.guest().read(GuestVa(args[0]))?;
        match one(call, call.domain.id, &op) {
            Ok(()) if call.state.unfinished.is_empty() => return Ok(Reply::Done(0)),
            Ok(()) => {
                return match runner(call).drain() {
                    Ok(()) => Ok(Reply::Done(0)),
                    Err(_) => Ok(mmu::rest_of_list(args, SIZE, 1, 1)),
                };
            }
            Err(Halt::Failed(e)) => return Err(e),
            Err(Halt::Preempted) => return Ok(mmu::rest_of_list(args, SIZE, 0, 1)),
        }
    }
    list(call, args)
}

#[inline(never)]
fn list(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let resumed = args[1] as u32 & abi::MMU_UPDATE_PREEMPTED != 0;
    let count = args[1] as u32 & !abi::MMU_UPDATE_PREEMPTED;
    let owner = mmu::frame_owner(call, args[3] as u16)?;
    let before = mmu::read_done(&call.guest(), GuestVa(args[2]), resumed)?;
    let mut done = 0;
    let mut stretch = Stretch::begin();
    let mut end = runner(call).drain().map_err(Halt::from);
    while done < count && end.is_ok() {
        let at = GuestVa(args[0]).add(SIZE * u64::from(done));
        end = call
            .guest()
            .read(at)
            .map_err(Halt::from)
            .and_then(|op| one(call, owner, &op));
        if end.is_err() {
            break;
        }
        done += 1;
        end = runner(call).drain().map_err(Halt::from);
        if end.is_ok() && done < count && stretch.is_over(done.into(), ELEMENTS.into()) {
            if mmu::pause() {
                end = Err(Halt::Preempted);
            }
            stretch = Stretch::begin();
        }
    }
    mmu::write_done(&call.guest(), GuestVa(args[2]), before.wrapping_add(done))?;
    match end {
        Ok(()) => Ok(Reply::Done(0)),
        Err(Halt::Failed(e)) => Err(e),
        Err(Halt::Preempted) => Ok(mmu::rest_of_list(args, SIZE, done, count)),
    }
}

/// Does one element, on frames of `owner`.
fn one(call: &mut Call<'_>, owner: DomId, op: &abi::MmuextOp) -> Result<(), Halt> {
    let own = owner == call.domain.id;
    match op.cmd {
        abi::MMUEXT_PIN_L1_TABLE..=abi::MMUEXT_PIN_L4_TABLE => {
            let level = (op.cmd - abi::MMUEXT_PIN_L1_TABLE) as u8 + 1;
            pin_table(call, owner, mmu::frame(op.arg1)?, level)
        }
        abi::MMUEXT_UNPIN_TABLE => unpin_table(call, owner, mmu::frame(op.arg1)?),
        abi::MMUEXT_CLEAR_PAGE => clear_page(owner, mmu::frame(op.arg1)?),
        abi::MMUEXT_COPY_PAGE => copy_page(owner, mmu::frame(op.arg1)?, mmu::frame(op.arg2)?),
        abi::MMUEXT_MARK_SUPER | abi::MMUEXT_UNMARK_SUPER => Err(Error::NotSupported.into()),
        abi::MMUEXT_NEW_BASEPTR
        | abi::MMUEXT_NEW_USER_BASEPTR
        | abi::MMUEXT_TLB_FLUSH_LOCAL
        | abi::MMUEXT_INVLPG_LOCAL
        | abi::MMUEXT_TLB_FLUSH_MULTI
        | abi::MMUEXT_INVLPG_MULTI
        | abi::MMUEXT_TLB_FLUSH_ALL
        | abi::MMUEXT_INVLPG_ALL
        | abi::MMUEXT_FLUSH_CACHE
        | abi::MMUEXT_FLUSH_CACHE_GLOBAL
        | abi::MMUEXT_SET_LDT
            if !own =>
        {
            Err(Error::NotPermitted.into())
        }
        abi::MMUEXT_NEW_BASEPTR => new_baseptr(call, mmu::frame(op.arg1)?),
        abi::MMUEXT_NEW_USER_BASEPTR => new_user_baseptr(call, op.arg1),
        abi::MMUEXT_SET_LDT => set_ldt(call, op.arg1, op.arg2 as u32),
        abi::MMUEXT_FLUSH_CACHE | abi::MMUEXT_FLUSH_CACHE_GLOBAL => {
            if !access::may_write_back_caches(&call.domain.subject()) {
                return Err(Error::Access.into());
            }
            machine::wbinvd();
            Ok(())
        }
        _ => flush(call, op),
    }
}

/// The flushes: which CPUs, and all or one page.
fn flush(call: &Call<'_>, op: &abi::MmuextOp) -> Result<(), Halt> {
    let several;
    let cpus = match op.cmd {
        abi::MMUEXT_TLB_FLUSH_LOCAL | abi::MMUEXT_INVLPG_LOCAL => mmu::here(),
        abi::MMUEXT_TLB_FLUSH_MULTI | abi::MMUEXT_INVLPG_MULTI => {
            several = mmu::cpus_in_bitmap(call, GuestVa(op.arg2)).map_err(|_| Error::Invalid)?;
            &several
        }
        abi::MMUEXT_TLB_FLUSH_ALL | abi::MMUEXT_INVLPG_ALL => {
            several = mmu::cpus_of(call.domain);
            &several
        }
        _ => return Err(Error::NotImplemented.into()),
    };
    match op.cmd {
        abi::MMUEXT_INVLPG_LOCAL | abi::MMUEXT_INVLPG_MULTI | abi::MMUEXT_INVLPG_ALL => {
            flush_page(GuestVa(op.arg1), cpus);
        }
        _ => flush_all(cpus),
    }
    Ok(())
}

/// Flushes everything of guests on `cpus`.
pub(super) fn flush_all(cpus: &CpuMask) {
    host::get().tlb.flush(cpus);
}

/// Flushes one page on `cpus`, if a guest can have an entry for it.
pub(super) fn flush_page(va: GuestVa, cpus: &CpuMask) {
    if va.is_guest() {
        host::get().tlb.flush_page(va, cpus);
    }
}

fn runner<'a>(
    call: &'a mut Call<'_>,
) -> Runner<'a, crate::mm::host_map::DirectMap, machine::MachineTlb> {
    Runner {
        mm: host::get(),
        unfinished: &mut call.state.unfinished,
        pause: &mmu::pause,
        budget: Budget::full(),
    }
}

fn pin_table(call: &mut Call<'_>, owner: DomId, mfn: Mfn, level: u8) -> Result<(), Halt> {
    let other = (owner != call.domain.id).then(|| crate::domain::registry::get(owner));
    let rights = match &other {
        None => call.domain.rights(),
        Some(Some(other)) => other.rights(),
        // Device memory, or the hypervisor's: none of it is a table.
        Some(None) => return Err(Error::Invalid.into()),
    };
    let mm = host::get();
    runner(call).run(|budget| pin::pin(mm, &rights, mfn, level, budget))?;
    let account = mm.accounts.get(owner);
    if account.is_some_and(DomainPages::is_dying) {
        // Whoever takes the domain apart may have passed the frame already. If not, the pin
        // is gone, which is no mistake of the caller's.
        let _ = unpin_table(call, owner, mfn);
    }
    Ok(())
}

fn unpin_table(call: &mut Call<'_>, owner: DomId, mfn: Mfn) -> Result<(), Halt> {
    let mm = host::get();
    let mut runner = runner(call);
    let leftover = runner.run(|budget| pin::unpin(mm, owner, mfn, budget).map_err(Into::into))?;
    if let Some(leftover) = leftover {
        runner.unfinished.retire(mm, leftover);
    }
    Ok(())
}

/// Takes a reference to a root, and gives the old one back when it is no longer used.
fn acquire_root(call: &mut Call<'_>, mfn: Mfn) -> Result<(), Halt> {
    let rights = call.domain.rights();
    let mm = host::get();
    runner(call).run(|budget| promote::acquire_table(mm, &rights, mfn, 4, budget))?;
    Ok(())
}

fn release_root(call: &mut Call<'_>, old: Option<Mfn>) {
    if let Some(old) = old
        && let Err(leftover) = demote::release_table(host::get(), old, 4, &Budget::new(0))
    {
        call.state.unfinished.retire(host::get(), leftover);
    }
}

fn new_baseptr(call: &mut Call<'_>, mfn: Mfn) -> Result<(), Halt> {
    let old = call.state.kernel_root;
    if old != Some(mfn) {
        acquire_root(call, mfn)?;
        call.state.kernel_root = Some(mfn);
    }
    if call.state.ldt_entries != 0 {
        super::descriptors::release_ldt(call.state);
        machine::load_ldt(call.state);
    }
    // A load of CR3 flushes, as guests know.
    machine::note_flush();
    machine::load_vcpu_root(call.state);
    if old != Some(mfn) {
        release_root(call, old);
    }
    Ok(())
}

/// As `MMUEXT_NEW_BASEPTR`, for the instruction that does the same. False: interrupted,
/// to be done again.
///
/// # Errors
/// As for the command.
pub fn load_root(call: &mut Call<'_>, mfn: Mfn) -> Result<bool, Error> {
    let end = match runner(call).drain() {
        Ok(()) => new_baseptr(call, mfn),
        Err(preempted) => Err(preempted.into()),
    };
    match end {
        Ok(()) => {
            // What is left of the old root is finished with the next operation, if not now.
            let _ = runner(call).drain();
            Ok(true)
        }
        Err(Halt::Preempted) => Ok(false),
        Err(Halt::Failed(e)) => Err(e),
    }
}

fn new_user_baseptr(call: &mut Call<'_>, raw: u64) -> Result<(), Halt> {
    let new = if raw == 0 {
        None
    } else {
        Some(mmu::frame(raw)?)
    };
    let old = call.state.user_root;
    if old == new {
        return Ok(());
    }
    if let Some(mfn) = new {
        acquire_root(call, mfn)?;
    }
    call.state.user_root = new;
    release_root(call, old);
    Ok(())
}

fn set_ldt(call: &mut Call<'_>, base: u64, entries: u32) -> Result<(), Halt> {
    let base = GuestVa(if entries == 0 { 0 } else { base });
    if base.page_offset() != 0 || !base.is_guest() || entries > MAX_LDT_ENTRIES {
        return Err(Error::Invalid.into());
    }
    let entries = entries as u16;
    if (call.state.ldt_base, call.state.ldt_entries) != (base, entries) {
        super::descriptors::release_ldt(call.state);
        call.state.ldt_base = base;
        call.state.ldt_entries = entries;
        machine::load_ldt(call.state);
    }
    Ok(())
}

fn clear_page(owner: DomId, mfn: Mfn) -> Result<(), Halt> {
    let mm = host::get();
    mm.get_writable(mfn, owner).map_err(|_| Error::Invalid)?;
    for word in mm.mem.words(mfn) {
        word.store(0, Ordering::Relaxed);
    }
    mm.put_writable(mfn);
    Ok(())
}

fn copy_page(owner: DomId, to: Mfn, from: Mfn) -> Result<(), Halt> {
    let mm = host::get();
    let source = mm.page(from, owner).map_err(|_| Error::Invalid)?;
    mm.get_writable(to, owner).map_err(|_| Error::Invalid)?;
    for (to, from) in mm.mem.words(to).iter().zip(mm.mem.words(source.mfn())) {
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    mm.put_writable(to);
    Ok(())
}
