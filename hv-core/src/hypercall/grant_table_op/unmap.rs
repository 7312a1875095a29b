//! `GNTTABOP_unmap_grant_ref`.

use super::map::slot;
use super::{BATCH, by_id, status};
use crate::addr::{CpuMask, GuestVa, Mfn};
use crate::arch::{Tlb, machine};
use crate::domain::Domain;
use crate::fallible::Arc;
use crate::grant::{GrantError, Handle, Mapping, Pages, Use};
use crate::hypercall::{Call, Error, HypercallResult, Reply};
use crate::mm;
use crate::mm::pte;
use crate::pv_mm::update;
use core::mem::offset_of;
use heapless::Vec;
use xen_abi::grant_table as abi;

/// A mapping that is out of the page table but may be in a TLB.
struct Gone {
    granter: Arc<Domain>,
    mapping: Mapping,
    mfn: Mfn,
    host: bool,
    device: bool,
    /// Some CPU has used it.
    stale: bool,
}

/// Unmaps the `args[2]` elements at `args[1]`.
///
/// # Errors
/// `EFAULT`: an element cannot be read or written.
pub(super) fn unmap(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    const SIZE: u64 = size_of::<abi::GnttabUnmapGrantRef>() as u64;
    let [cmd, at, count, ..] = args;
    let mut at = GuestVa(at);
    let mut left = u64::from(count as u32);
    while left > 0 {
        let batch = left.min(BATCH);
        unmap_batch(call, at, batch)?;
        at = at.add(batch * SIZE);
        left -= batch;
        if left > 0 && machine::preempt_point() {
            return Ok(Reply::go_on(args, [cmd, at.0, left]));
        }
    }
    Ok(Reply::Done(0))
}

/// Unmaps up to [`BATCH`] elements with one flush.
fn unmap_batch(call: &Call<'_>, at: GuestVa, count: u64) -> Result<(), Error> {
    let mut gone: Vec<Gone, { BATCH as usize }> = Vec::new();
    let mut fault = Ok(());
    for n in 0..count {
        let at = at.add(n * size_of::<abi::GnttabUnmapGrantRef>() as u64);
        fault = unmap_element(call, at, &mut gone);
        if fault.is_err() {
            break;
        }
    }
    finish(&gone);
    fault
}

fn unmap_element(
    call: &Call<'_>,
    at: GuestVa,
    gone: &mut Vec<Gone, { BATCH as usize }>,
) -> Result<(), Error> {
    let mut op: abi::GnttabUnmapGrantRef = call.guest().read(at)?;
    let last = gone.last().map(|g| &g.granter);
    op.status = status(unmap_one(call, &op, last).map(|one| {
        // There is room for each of a batch's elements.
        let _ = gone.push(one);
    }));
    let place = at.add(offset_of!(abi::GnttabUnmapGrantRef, status) as u64);
    Ok(call.guest().write(place, &op.status)?)
}

/// Takes one mapping out of the page table. `last` may be the granter.
fn unmap_one(
    call: &Call<'_>,
    op: &abi::GnttabUnmapGrantRef,
    last: Option<&Arc<Domain>>,
) -> Result<Gone, GrantError> {
    let handle = Handle(op.handle);
    let mapping = call.domain.grants.begin_unmap(handle)?;
    let granter = match last {
        Some(last) if last.id == mapping.granter => Ok(Arc::clone(last)),
        _ => by_id(call, mapping.granter.0),
    };
    let cleared = granter.and_then(|granter| {
        let mfn = granter.grants.pinned_frame(mapping.gref)?;
        if op.dev_bus_addr != 0 && op.dev_bus_addr != mfn.addr().raw() {
            return Err(GrantError::General);
        }
        let host = mapping.host && op.host_addr != 0;
        let stale = host && clear(call, &mapping, op.host_addr, mfn)?;
        Ok(Gone {
            granter,
            mapping,
            mfn,
            host,
            device: mapping.device && op.dev_bus_addr != 0,
            stale,
        })
    });
    let (host, device) = cleared
        .as_ref()
        .map_or((false, false), |gone| (gone.host, gone.device));
    call.domain.grants.finish_unmap(handle, host, device);
    cleared
}

/// Clears the page-table entry; the reference it held is the caller's now. Whether any
/// CPU has used the entry: only then can it be in a TLB.
fn clear(call: &Call<'_>, mapping: &Mapping, addr: u64, mfn: Mfn) -> Result<bool, GrantError> {
    let slot = slot(call, addr, mapping.by_pte)?;
    let mm = mm::host::get();
    match update::clear_if_maps(mm, call.domain.id, slot, mfn, !mapping.readonly, 0) {
        Ok(old) => Ok(old & pte::A != 0),
        Err(_) => Err(GrantError::General),
    }
}

/// Once no TLB remembers the mappings, gives the frames back and tells the granters.
fn finish(gone: &[Gone]) {
    let mm = mm::host::get();
    if gone.iter().any(|g| g.stale) {
        mm.tlb.flush_since(mm.tlb.now(), &CpuMask::ALL);
    }
    for one in gone {
        for (done, user) in [(one.host, Use::Host), (one.device, Use::Device)] {
            if done {
                mm.put(one.mfn, !one.mapping.readonly);
                one.granter.unpin_grant(&one.mapping, user);
            }
        }
    }
}
