//! The calls of the FIFO interface.

use crate::addr::{GuestVa, Mfn};
use crate::domain::Domain;
use crate::event::{FifoFrame, LINK_BITS};
use crate::hypercall::{Call, Error};
use crate::mm;
use crate::mm::shared_page::SharedPage;
use xen_abi::event_channel as abi;

/// `EVTCHNOP_init_control`.
///
/// `ENOENT`: no such vCPU. `EINVAL`: bad place, not a writable frame of the caller's, or
/// the vCPU has its control block. `ENOMEM`.
pub(super) fn init_control(call: &Call<'_>, arg: GuestVa) -> Result<(), Error> {
    let mut op: abi::EvtchnInitControl = call.guest().read(arg)?;
    let domain: &Domain = call.domain;
    domain.events.check_control(op.vcpu, op.offset)?;
    let frame = writable(domain, op.control_gfn)?;
    domain
        .events
        .init_control(op.vcpu, op.offset, frame, domain)
        .map_err(|(e, frame)| give_back(e, &frame))?;
    op.link_bits = LINK_BITS;
    Ok(call.guest().write(arg, &op)?)
}

/// `EVTCHNOP_expand_array`.
///
/// `EOPNOTSUPP`: the domain uses the 2-level interface. `EINVAL`: not a writable frame
/// of the caller's. `ENOSPC`: the array is complete.
pub(super) fn expand_array(call: &Call<'_>, arg: GuestVa) -> Result<(), Error> {
    let op: abi::EvtchnExpandArray = call.guest().read(arg)?;
    let domain: &Domain = call.domain;
    if !domain.events.is_fifo() {
        return Err(Error::NotSupported);
    }
    let frame = writable(domain, op.array_gfn)?;
    domain
        .events
        .expand_array(frame, domain, |delivery| domain.notify(delivery))
        .map_err(|(e, frame)| give_back(e, &frame))
}

/// `EVTCHNOP_set_priority`.
///
/// `EINVAL`: no such port or priority. `ENOSYS`: the domain uses the 2-level interface.
pub(super) fn set_priority(call: &Call<'_>, arg: GuestVa) -> Result<(), Error> {
    let op: abi::EvtchnSetPriority = call.guest().read(arg)?;
    Ok(call.domain.events.set_priority(op.port, op.priority)?)
}

/// A frame of `domain`'s for the hypervisor to write to.
fn writable(domain: &Domain, gfn: u64) -> Result<FifoFrame, Error> {
    let mm = mm::host::get();
    let mfn = Mfn::from_guest(gfn).ok_or(Error::Invalid)?;
    mm.get_writable(mfn, domain.id)
        .map_err(|_| Error::Invalid)?;
    Ok(FifoFrame {
        page: SharedPage::new(&mm.mem, mfn),
        mfn,
    })
}

fn give_back(error: crate::event::EventError, frame: &FifoFrame) -> Error {
    mm::host::get().put_writable(frame.mfn);
    error.into()
}
