//! `claim_pages`: memory set aside for a domain that is being built.

use super::super::{Call, Error, HypercallResult, Reply};
use crate::access;
use crate::addr::{DomId, GuestVa};
use crate::domain::registry;
use crate::mm::{AllocError, host};
use xen_abi::memory as abi;

/// Handles `claim_pages`: `nr_extents` frames in all for the domain, 0 to cancel.
///
/// # Errors
/// `EPERM`; `EFAULT`; `EINVAL`: other fields set, no such domain, a claim already, too
/// little or too much; `ENOMEM`: the host has less.
pub(super) fn claim(call: &Call<'_>, arg: GuestVa) -> HypercallResult {
    if !access::may_control_host(&call.domain.subject()) {
        return Err(Error::NotPermitted);
    }
    let r: abi::XenMemoryReservation = call.guest().read(arg)?;
    if r.extent_start != 0 || r.extent_order != 0 || r.mem_flags != 0 {
        return Err(Error::Invalid);
    }
    let subject = registry::get(DomId(r.domid)).ok_or(Error::Invalid)?;
    match host::get().claim(subject.id, r.nr_extents) {
        Ok(()) => Ok(Reply::Done(0)),
        Err(AllocError::NoMemory) => Err(Error::NoMemory),
        Err(AllocError::OverLimit | AllocError::NoDomain) => Err(Error::Invalid),
    }
}
