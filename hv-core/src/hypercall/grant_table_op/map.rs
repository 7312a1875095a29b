//! `GNTTABOP_map_grant_ref`.

use super::{by_id, status};
use crate::addr::{DomId, GuestVa, MachAddr, Mfn};
use crate::domain::Domain;
use crate::grant::{GrantError, Handle, Mapping, Pages, Pin, Use};
use crate::hypercall::{Call, Error};
use crate::mm;
use crate::mm::pte;
use crate::mm::walk::{L1Slot, find_l1};
use crate::pv_mm::update;
use xen_abi::grant_table as abi;

/// Maps one grant.
///
/// `EFAULT`: the element cannot be read or written.
pub(super) fn map(call: &Call<'_>, at: GuestVa) -> Result<(), Error> {
    let mut op: abi::GnttabMapGrantRef = call.guest().read(at)?;
    op.status = status(map_one(call, &op).map(|(handle, mfn)| {
        op.handle = handle.0;
        op.dev_bus_addr = mfn.addr().raw();
    }));
    Ok(call.guest().write(at, &op)?)
}

fn map_one(call: &Call<'_>, op: &abi::GnttabMapGrantRef) -> Result<(Handle, Mfn), GrantError> {
    let mapping = wanted(op);
    if !mapping.host && !mapping.device {
        return Err(GrantError::BadRef);
    }
    let granter = by_id(call, op.dom)?;
    let mapper: &Domain = call.domain;
    let handle = mapper.grants.reserve()?;
    match pin_and_place(call, &granter, &mapping, op) {
        Ok(mfn) => {
            mapper.grants.commit(handle, mapping);
            call.vcpu.usage.grant_maps.add(1);
            Ok((handle, mfn))
        }
        Err(e) => {
            mapper.grants.cancel(handle);
            Err(e)
        }
    }
}

fn wanted(op: &abi::GnttabMapGrantRef) -> Mapping {
    Mapping {
        granter: DomId(op.dom),
        gref: op.r#ref,
        host: op.flags & abi::GNTMAP_HOST_MAP != 0,
        device: op.flags & abi::GNTMAP_DEVICE_MAP != 0,
        readonly: op.flags & abi::GNTMAP_READONLY != 0,
        application: op.flags & abi::GNTMAP_APPLICATION_MAP != 0,
        by_pte: op.flags & abi::GNTMAP_CONTAINS_PTE != 0,
    }
}

/// Pins the grant for each use and writes the page-table entry, or does nothing.
fn pin_and_place(
    call: &Call<'_>,
    granter: &Domain,
    mapping: &Mapping,
    op: &abi::GnttabMapGrantRef,
) -> Result<Mfn, GrantError> {
    let mm = mm::host::get();
    let pin = |user| {
        let pin = Pin {
            user,
            readonly: mapping.readonly,
        };
        granter.grants.pin(mapping.gref, call.domain.id, pin, mm)
    };
    let undo = |user, mfn| {
        mm.put(mfn, !mapping.readonly);
        let pin = Pin {
            user,
            readonly: mapping.readonly,
        };
        granter.grants.unpin(mapping.gref, pin);
    };
    let device = if mapping.device {
        Some(pin(Use::Device)?)
    } else {
        None
    };
    if !mapping.host {
        return device.ok_or(GrantError::General);
    }
    let placed = pin(Use::Host).and_then(|mfn| {
        place(call, mapping, op, mfn).inspect_err(|_| undo(Use::Host, mfn))?;
        Ok(mfn)
    });
    if let (Err(_), Some(mfn)) = (&placed, device) {
        undo(Use::Device, mfn);
    }
    placed
}

/// Writes the page-table entry, which takes over the reference on `mfn`.
fn place(
    call: &Call<'_>,
    mapping: &Mapping,
    op: &abi::GnttabMapGrantRef,
    mfn: Mfn,
) -> Result<(), GrantError> {
    let slot = slot(call, op.host_addr, mapping.by_pte)?;
    // Not marked accessed: so unmapping can see whether any TLB may have it.
    let mut flags = pte::P;
    if mapping.application {
        flags |= pte::US;
    }
    if !mapping.readonly {
        flags |= pte::RW;
    }
    // The guest's own bits start at the lowest bit that is for software.
    let avail = u64::from(op.flags >> abi::GNTMAP_GUEST_AVAIL0);
    flags |= (avail << pte::AVAIL.trailing_zeros()) & pte::AVAIL;
    match update::replace_l1(
        mm::host::get(),
        &call.domain.rights(),
        slot,
        pte::make(mfn, flags),
    ) {
        Ok(_) => Ok(()),
        Err(_) => Err(GrantError::General),
    }
}

/// The L1 entry that a mapping's address means.
pub(super) fn slot(call: &Call<'_>, addr: u64, by_pte: bool) -> Result<L1Slot, GrantError> {
    if by_pte {
        let addr = MachAddr::from_guest(addr).ok_or(GrantError::General)?;
        if addr.page_offset() % 8 != 0 {
            return Err(GrantError::General);
        }
        return Ok(L1Slot {
            table: addr.frame(),
            index: (addr.page_offset() / 8) as usize,
        });
    }
    let root = call.state.kernel_root.ok_or(GrantError::General)?;
    find_l1(&mm::host::get().mem, root, GuestVa(addr)).ok_or(GrantError::General)
}
