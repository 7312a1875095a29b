//! `acquire_resource`: frames the hypervisor made for a domain, for its tools to map.

use super::super::{Call, Error, HypercallResult, Reply, mmu};
use crate::access;
use crate::addr::{DomId, GuestVa};
use crate::domain::{Domain, registry};
use crate::fallible::Arc;
use core::mem::offset_of;
use xen_abi::memory as abi;

/// Frames listed between two looks at what else this CPU has to do.
const BATCH: u32 = 32;

/// Handles `acquire_resource`; `start` frames are listed already. Without a list it answers
/// how many frames there may be.
///
/// # Errors
/// `EFAULT`. `EPERM`: oneself, or a domain that is not the caller's to map. `ESRCH`: no such
/// domain. `EINVAL`: it has no such resource, or not so much of it; no memory for it.
pub(super) fn acquire(
    call: &Call<'_>,
    args: [u64; 6],
    start: u64,
    arg: GuestVa,
) -> HypercallResult {
    let wanted: abi::XenMemAcquireResource = call.guest().read(arg)?;
    if wanted.pad != 0 {
        return Err(Error::Invalid);
    }
    let subject = other_domain(call, wanted.domid)?;
    let most = most_frames(&subject, wanted.r#type, wanted.id).ok_or(Error::Invalid)?;
    if wanted.frame_list == 0 {
        if wanted.nr_frames != 0 {
            return Err(Error::Invalid);
        }
        let at = offset_of!(abi::XenMemAcquireResource, nr_frames) as u64;
        call.guest().write(arg.add(at), &most)?;
        return Ok(Reply::Done(0));
    }
    let first = u32::try_from(wanted.frame).map_err(|_| Error::Invalid)?;
    let end = first.checked_add(wanted.nr_frames).ok_or(Error::Invalid)?;
    let done = u32::try_from(start).map_err(|_| Error::Invalid)?;
    if done >= wanted.nr_frames || end > most {
        return Err(Error::Invalid);
    }
    for n in done..wanted.nr_frames {
        if n > done && n.is_multiple_of(BATCH) && mmu::pause() {
            let again =
                u64::from(abi::XENMEM_ACQUIRE_RESOURCE) | u64::from(n) << abi::MEMOP_EXTENT_SHIFT;
            return Ok(Reply::go_on(args, [again]));
        }
        let frame = first + n;
        subject.grow_grants(frame + 1).map_err(|_| Error::Invalid)?;
        let mfn = subject.grants.frame(frame).ok_or(Error::Invalid)?;
        let at = GuestVa(wanted.frame_list).add(u64::from(n) * 8);
        call.guest().write(at, &mfn.raw())?;
    }
    Ok(Reply::Done(0))
}

/// The domain `id` names, which is not the caller.
fn other_domain(call: &Call<'_>, id: u16) -> Result<Arc<Domain>, Error> {
    if DomId(id) == call.domain.id {
        return Err(Error::NotPermitted);
    }
    let subject = registry::get(DomId(id)).ok_or(Error::NoDomain)?;
    if access::may_control(&call.domain.subject(), subject.id) {
        Ok(subject)
    } else {
        Err(Error::NotPermitted)
    }
}

/// Most frames of a resource, if the domain has it: its grant table. (Its status frames
/// come with version 2 of the interface only.)
fn most_frames(subject: &Domain, kind: u16, id: u32) -> Option<u32> {
    let is_table = kind == abi::XENMEM_RESOURCE_GRANT_TABLE
        && id == abi::XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED;
    let (_, most) = subject.grants.size();
    (is_table && most > 0).then_some(most)
}
