//! `GNTTABOP_copy`.

use super::{by_name, status};
use crate::addr::{DomId, GuestVa, Mfn, PAGE_SIZE};
use crate::domain::Domain;
use crate::fallible::Arc;
use crate::grant::{GrantError, Pages, Pin, Use};
use crate::hypercall::{Call, Error};
use crate::mm;
use crate::mm::frame_copy;
use crate::mm::page_ref::RefError;
use core::mem::offset_of;
use xen_abi::grant_table as abi;

/// Copies for one element.
///
/// `EFAULT`: the element cannot be read or written.
pub(super) fn copy(call: &Call<'_>, at: GuestVa) -> Result<(), Error> {
    let mut op: abi::GnttabCopy = call.guest().read(at)?;
    let copied = copy_one(call, &op);
    call.vcpu.usage.grant_copies.add(copied.is_ok().into());
    op.status = status(copied);
    let place = at.add(offset_of!(abi::GnttabCopy, status) as u64);
    Ok(call.guest().write(place, &op.status)?)
}

fn copy_one(call: &Call<'_>, op: &abi::GnttabCopy) -> Result<(), GrantError> {
    let from_grant = op.flags & abi::GNTCOPY_SOURCE_GREF != 0;
    let to_grant = op.flags & abi::GNTCOPY_DEST_GREF != 0;
    // Both domains before either frame, as Xen does.
    let from = owner(call, &op.source, from_grant)?;
    let to = owner(call, &op.dest, to_grant)?;
    let source = Side::claim(call, from, &op.source, from_grant, true)?;
    let dest = Side::claim(call, to, &op.dest, to_grant, false)?;
    let end = |offset: u16| u64::from(offset) + u64::from(op.len);
    if end(op.source.offset) > PAGE_SIZE || end(op.dest.offset) > PAGE_SIZE {
        return Err(GrantError::BadCopy);
    }
    frame_copy::copy(
        &mm::host::get().mem,
        (source.mfn, usize::from(op.source.offset)),
        (dest.mfn, usize::from(op.dest.offset)),
        usize::from(op.len),
    );
    Ok(())
}

/// Whose frame it is. Only the caller's own may be named by number.
fn owner(
    call: &Call<'_>,
    ptr: &abi::GnttabCopyPtr,
    grant: bool,
) -> Result<Arc<Domain>, GrantError> {
    if !grant && DomId(ptr.domid) != DomId::SELF {
        return Err(GrantError::Denied);
    }
    by_name(call, ptr.domid)
}

/// One frame of a copy, kept until the copy is done.
struct Side {
    owner: Arc<Domain>,
    mfn: Mfn,
    readonly: bool,
    gref: Option<u32>,
}

impl Side {
    fn claim(
        call: &Call<'_>,
        owner: Arc<Domain>,
        ptr: &abi::GnttabCopyPtr,
        grant: bool,
        readonly: bool,
    ) -> Result<Self, GrantError> {
        let mm = mm::host::get();
        let gref = grant.then_some(ptr.u as u32);
        let mfn = if let Some(gref) = gref {
            let pin = Pin {
                user: Use::Copy,
                readonly,
            };
            owner.grants.pin(gref, call.domain.id, pin, mm)?
        } else {
            let mfn = Mfn::from_guest(ptr.u).ok_or(GrantError::BadPage)?;
            mm.get(mfn, owner.id, !readonly).map_err(|e| match e {
                RefError::NotOwned => GrantError::BadPage,
                RefError::InUseAs(_) | RefError::Overflow => GrantError::General,
            })?;
            mfn
        };
        Ok(Self {
            owner,
            mfn,
            readonly,
            gref,
        })
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        mm::host::get().put(self.mfn, !self.readonly);
        if let Some(gref) = self.gref {
            let pin = Pin {
                user: Use::Copy,
                readonly: self.readonly,
            };
            self.owner.grants.unpin(gref, pin);
        }
    }
}
