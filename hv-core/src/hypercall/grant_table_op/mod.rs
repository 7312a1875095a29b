//! `grant_table_op` (20), version 1.
//!
//! Each sub-operation takes an array. Its elements are done in order and get a status
//! of their own (`GNTST_*`); the call as a whole fails only if the array cannot be
//! read or written, or makes no sense. Long arrays let events in between elements.
//!
//! Source: Xen `include/public/grant_table.h`; statuses as Xen 4.17 gives them.

mod copy;
mod map;
mod table;
mod unmap;

use super::mmu::Stretch;
use super::{Call, Error, HypercallResult, Reply};
use crate::addr::{DomId, GuestVa};
use crate::arch::machine;
use crate::domain::{Domain, registry};
use crate::fallible::Arc;
use crate::grant::GrantError;
use xen_abi::grant_table as abi;

/// Bits of the sub-operation's number. Source: Xen 4.17's behaviour.
const CMD_MASK: u32 = 0xfff;

/// Elements done between two looks at what else this CPU has to do.
const BATCH: u64 = 32;

/// Runs sub-operation `args[0]` on the `args[2]` elements at `args[1]`.
///
/// # Errors
/// `EINVAL`: an impossible count. `EFAULT`: an element cannot be read or its result not
/// written. `ENOSYS`: no such sub-operation here.
pub fn grant_table_op(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let [cmd, at, count, ..] = args;
    let at = GuestVa(at);
    let count = count as u32;
    // The command's high bits are for continuations that this version has none of.
    if count.cast_signed() < 0 || cmd as u32 & !CMD_MASK != 0 {
        return Err(Error::Invalid);
    }
    match cmd as u32 {
        abi::GNTTABOP_MAP_GRANT_REF => {
            each::<abi::GnttabMapGrantRef>(call, args, |call, at| map::map(call, at))
        }
        abi::GNTTABOP_UNMAP_GRANT_REF => unmap::unmap(call, args),
        abi::GNTTABOP_COPY => each::<abi::GnttabCopy>(call, args, |call, at| copy::copy(call, at)),
        abi::GNTTABOP_SETUP_TABLE => table::setup(call, args),
        abi::GNTTABOP_QUERY_SIZE => table::query_size(call, at, count),
        abi::GNTTABOP_SET_VERSION => table::set_version(call, at, count),
        abi::GNTTABOP_GET_VERSION => table::get_version(call, at, count),
        _ => Err(Error::NotImplemented),
    }
}

/// Runs `one` on each element, which has the size of a `T`.
fn each<T>(
    call: &mut Call<'_>,
    args: [u64; 6],
    mut one: impl FnMut(&mut Call<'_>, GuestVa) -> Result<(), Error>,
) -> HypercallResult {
    let [cmd, at, count, ..] = args;
    let mut at = GuestVa(at);
    let count = u64::from(count as u32);
    let mut stretch = Stretch::begin();
    for done in 0..count {
        if done > 0 && stretch.is_over(done, BATCH) {
            if machine::preempt_point() {
                return Ok(Reply::go_on(args, [cmd, at.0, count - done]));
            }
            stretch = Stretch::begin();
        }
        one(call, at)?;
        at = at.add(size_of::<T>() as u64);
    }
    Ok(Reply::Done(0))
}

/// The domain numbered `id`.
fn by_id(call: &Call<'_>, id: u16) -> Result<Arc<Domain>, GrantError> {
    if DomId(id) == call.domain.id {
        Ok(Arc::clone(call.domain))
    } else {
        registry::get(DomId(id)).ok_or(GrantError::BadDomain)
    }
}

/// The domain a guest names, perhaps as "the caller".
fn by_name(call: &Call<'_>, id: u16) -> Result<Arc<Domain>, GrantError> {
    if DomId(id) == DomId::SELF {
        Ok(Arc::clone(call.domain))
    } else {
        by_id(call, id)
    }
}

/// An element's status.
fn status(result: Result<(), GrantError>) -> i16 {
    match result {
        Ok(()) => abi::GNTST_OKAY,
        Err(e) => e.status(),
    }
}
