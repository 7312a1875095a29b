//! Size and version of a grant table.

use super::{by_name, status};
use crate::access;
use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::fallible::Arc;
use crate::grant::GrantError;
use crate::hypercall::{Call, Error, HypercallResult, Reply, mmu};
use core::mem::offset_of;
use xen_abi::grant_table as abi;

/// Frames made between two looks at what else this CPU has to do.
const BATCH: u32 = 16;

/// `GNTTABOP_setup_table`: grows the table and lists its frames.
pub(super) fn setup(call: &Call<'_>, args: [u64; 6]) -> HypercallResult {
    let [_, at, count, ..] = args;
    let at = GuestVa(at);
    if count as u32 != 1 {
        return Err(Error::Invalid);
    }
    let mut op: abi::GnttabSetupTable = call.guest().read(at)?;
    op.status = match grow(call, &op) {
        Ok(None) => return Ok(Reply::Continue(args)),
        Ok(Some(domain)) => status(list(call, &op, &domain)),
        Err(why) => why.status(),
    };
    let place = at.add(offset_of!(abi::GnttabSetupTable, status) as u64);
    call.guest().write(place, &op.status)?;
    Ok(Reply::Done(0))
}

/// Makes the table as long as asked for; whose it is, or `None` if that takes another call.
fn grow(call: &Call<'_>, op: &abi::GnttabSetupTable) -> Result<Option<Arc<Domain>>, GrantError> {
    let domain = subject(call, op.dom)?;
    let (mut has, most) = domain.grants.size();
    if op.nr_frames > most {
        return Err(GrantError::General);
    }
    while has < op.nr_frames {
        has = op.nr_frames.min(has + BATCH);
        domain.grow_grants(has)?;
        if has < op.nr_frames && mmu::pause() {
            return Ok(None);
        }
    }
    Ok(Some(domain))
}

/// Tells the caller the table's frames.
fn list(call: &Call<'_>, op: &abi::GnttabSetupTable, domain: &Domain) -> Result<(), GrantError> {
    for n in 0..op.nr_frames {
        let frame = domain.grants.frame(n).ok_or(GrantError::General)?.raw();
        call.guest()
            .write(GuestVa(op.frame_list).add(u64::from(n) * 8), &frame)
            .map_err(|_| GrantError::BadAddress)?;
    }
    Ok(())
}

/// `GNTTABOP_query_size`.
pub(super) fn query_size(call: &Call<'_>, at: GuestVa, count: u32) -> HypercallResult {
    if count != 1 {
        return Err(Error::Invalid);
    }
    let mut op: abi::GnttabQuerySize = call.guest().read(at)?;
    op.status = match subject(call, op.dom) {
        Ok(domain) => {
            (op.nr_frames, op.max_nr_frames) = domain.grants.size();
            abi::GNTST_OKAY
        }
        Err(e) => e.status(),
    };
    call.guest().write(at, &op)?;
    Ok(Reply::Done(0))
}

/// `GNTTABOP_set_version`: there is version 1 only.
///
/// `EINVAL`: no such version. `ENOSYS`: version 2.
pub(super) fn set_version(call: &Call<'_>, at: GuestVa, count: u32) -> HypercallResult {
    if count > 1 {
        return Err(Error::Invalid);
    }
    let mut op: abi::GnttabSetVersion = call.guest().read(at)?;
    let result = match op.version {
        1 => Ok(Reply::Done(0)),
        2 => Err(Error::NotImplemented),
        _ => Err(Error::Invalid),
    };
    // Whatever was asked for, the caller learns what there is.
    op.version = 1;
    call.guest().write(at, &op)?;
    result
}

/// `GNTTABOP_get_version`.
///
/// `ESRCH`: no such domain. `EPERM`: not the caller's to know.
pub(super) fn get_version(call: &Call<'_>, at: GuestVa, count: u32) -> HypercallResult {
    if count > 1 {
        return Err(Error::Invalid);
    }
    let mut op: abi::GnttabGetVersion = call.guest().read(at)?;
    let domain = by_name(call, op.dom).map_err(|_| Error::NoDomain)?;
    if !access::may_size_grants_of(call.domain, &domain) {
        return Err(Error::NotPermitted);
    }
    op.version = 1;
    call.guest().write(at, &op)?;
    Ok(Reply::Done(0))
}

fn subject(call: &Call<'_>, id: u16) -> Result<Arc<Domain>, GrantError> {
    let domain = by_name(call, id)?;
    if access::may_size_grants_of(call.domain, &domain) {
        Ok(domain)
    } else {
        Err(GrantError::Denied)
    }
}
