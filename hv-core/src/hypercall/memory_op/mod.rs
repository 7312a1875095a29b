//! `memory_op` (12): how much memory domains have, and where it is.
//!
//! The command's low six bits say what, the rest is the number of extents an
//! interrupted call had done. Source: Xen `include/public/memory.h`.

mod claim;
mod exchange;
pub mod maps;
mod reservation;
mod resource;

use super::{Call, Error, HypercallResult, Reply};
use crate::access;
use crate::addr::{DomId, GuestVa};
use crate::domain::{Domain, registry};
use crate::fallible::Arc;
use crate::mm::host;
use xen_abi::arch_x86;
use xen_abi::memory as abi;

/// Handles `memory_op(cmd, arg)`.
///
/// # Errors
/// `ENOSYS`: unknown command. Else see the commands; the reservations never fail, they
/// answer how many extents they did.
pub fn memory_op(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let cmd = args[0] as u32 & abi::MEMOP_CMD_MASK;
    let start = args[0] >> abi::MEMOP_EXTENT_SHIFT;
    let arg = GuestVa(args[1]);
    match cmd {
        abi::XENMEM_INCREASE_RESERVATION
        | abi::XENMEM_DECREASE_RESERVATION
        | abi::XENMEM_POPULATE_PHYSMAP => Ok(reservation::change(call, args, cmd, start, arg)),
        abi::XENMEM_EXCHANGE => exchange::exchange(call, args),
        abi::XENMEM_MAXIMUM_RAM_PAGE => {
            no_extents(start)?;
            Ok(Reply::Done(host::get().frames.limit()))
        }
        abi::XENMEM_CURRENT_RESERVATION
        | abi::XENMEM_MAXIMUM_RESERVATION
        | abi::XENMEM_MAXIMUM_GPFN => {
            no_extents(start)?;
            statistic(call, cmd, arg)
        }
        abi::XENMEM_MEMORY_MAP => maps::own(call, arg),
        abi::XENMEM_MACHINE_MEMORY_MAP => maps::machine(call, arg),
        abi::XENMEM_SET_MEMORY_MAP => maps::set(call, arg),
        abi::XENMEM_MACHPHYS_MFN_LIST => machphys_mfn_list(call, arg),
        abi::XENMEM_MACHPHYS_MAPPING => machphys_mapping(call, arg),
        abi::XENMEM_CLAIM_PAGES => {
            no_extents(start)?;
            claim::claim(call, arg)
        }
        abi::XENMEM_GET_SHARING_FREED_PAGES | abi::XENMEM_GET_SHARING_SHARED_PAGES => {
            Ok(Reply::Done(0))
        }
        abi::XENMEM_ACQUIRE_RESOURCE => resource::acquire(call, args, start, arg),
        abi::XENMEM_GET_VNUMAINFO => Err(Error::NotSupported),
        _ => Err(Error::NotImplemented),
    }
}

/// Commands that are never interrupted take no start extent.
fn no_extents(start: u64) -> Result<(), Error> {
    if start == 0 {
        Ok(())
    } else {
        Err(Error::Invalid)
    }
}

/// The domain `id` names, the caller included.
fn any_domain(call: &Call<'_>, id: u16) -> Option<Arc<Domain>> {
    if DomId(id) == DomId::SELF || DomId(id) == call.domain.id {
        return Some(Arc::clone(call.domain));
    }
    registry::get(DomId(id))
}

/// Numbers of one domain's memory, in frames.
fn statistic(call: &Call<'_>, cmd: u32, arg: GuestVa) -> HypercallResult {
    let named: abi::XenMemoryDomain = call.guest().read(arg)?;
    let subject = any_domain(call, named.domid).ok_or(Error::NoDomain)?;
    if !access::may_see_memory_of(call.domain, &subject) {
        return Err(Error::NotPermitted);
    }
    let account = host::get()
        .accounts
        .get(subject.id)
        .ok_or(Error::NoDomain)?;
    Ok(Reply::Done(match cmd {
        abi::XENMEM_CURRENT_RESERVATION => account.total(),
        abi::XENMEM_MAXIMUM_RESERVATION => account.max(),
        // A domain that is being restored has not said anything yet: tools expect 0 then.
        _ => max_pfn(&subject).max(1) - 1,
    }))
}

/// Number of PFNs the domain says it has (`shared_info.arch.max_pfn`).
fn max_pfn(subject: &Domain) -> u64 {
    /// Offset in `shared_info`. Source: Xen `include/public/xen.h`.
    const MAX_PFN: usize = 3088;
    subject
        .shared
        .u64_at(MAX_PFN)
        .load(core::sync::atomic::Ordering::Relaxed)
}

/// The frames at which the parts of the machine-to-physical table begin, for tools that
/// map it; a part is 2 MiB and describes 1 GiB.
fn machphys_mfn_list(call: &Call<'_>, arg: GuestVa) -> HypercallResult {
    let space = call.guest();
    let mut list: abi::XenMachphysMfnList = space.read(arg)?;
    let mut at = GuestVa(list.extent_start);
    list.nr_extents = 0;
    while list.nr_extents < list.max_extents {
        let Some(first) = host::m2p_part(list.nr_extents as usize) else {
            break;
        };
        space.write(at, &first.raw())?;
        at = at.add(8);
        list.nr_extents += 1;
    }
    space.write(arg, &list)?;
    Ok(Reply::Done(0))
}

fn machphys_mapping(call: &Call<'_>, arg: GuestVa) -> HypercallResult {
    let mapping = abi::XenMachphysMapping {
        v_start: arch_x86::MACH2PHYS_VIRT_START,
        v_end: arch_x86::MACH2PHYS_VIRT_END,
        max_mfn: host::get().frames.limit() - 1,
    };
    call.guest().write(arg, &mapping)?;
    Ok(Reply::Done(0))
}
