//! `event_channel_op` (32) and its old form (16).
//!
//! Source: Xen `include/public/event_channel.h`; errors as Xen 4.17 gives them.

mod fifo;
mod ports;

use super::{Call, Error, HypercallResult, Reply};
use crate::addr::{DomId, GuestVa};
use crate::domain::{Domain, registry};
use crate::event::Sent;
use crate::fallible::Arc;
use xen_abi::event_channel as abi;

/// Runs sub-operation `args[0]` with the argument structure at `args[1]`.
///
/// # Errors
/// `ENOSYS`: no such sub-operation. `EFAULT`: the structure cannot be read or the
/// answer not written (what was done stays done). Else see each.
#[inline]
pub fn event_channel_op(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let [cmd, arg, ..] = args;
    if cmd as u32 == abi::EVTCHNOP_SEND {
        return send(call, GuestVa(arg));
    }
    other(call, args)
}

/// The form before Xen 3.2: the command and the structures in one.
///
/// # Errors
/// As [`event_channel_op`].
pub fn event_channel_op_compat(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let cmd: u32 = call.guest().read(GuestVa(args[0]))?;
    if cmd > abi::EVTCHNOP_UNMASK {
        return Err(Error::NotImplemented);
    }
    event_channel_op(
        call,
        [u64::from(cmd), GuestVa(args[0]).add(4).0, 0, 0, 0, 0],
    )
}

/// `EVTCHNOP_send`: by far the most frequent.
#[inline]
fn send(call: &Call<'_>, arg: GuestVa) -> HypercallResult {
    let port: u32 = call.guest().read(arg)?;
    let domain: &Domain = call.domain;
    let sent = domain.events.send(port, domain)?;
    call.vcpu.usage.events_sent.add(1);
    match sent {
        Sent::Dropped => {}
        Sent::Local(delivery) => domain.notify(delivery),
        Sent::Remote {
            domain: to,
            port: far,
        } => {
            // The peer goes away with its domain: then there is nobody to tell.
            if let Some(peer) = by_id(call, to) {
                let delivery = peer.events.receive(far, domain.id, port, &*peer);
                peer.notify(delivery);
            }
        }
    }
    Ok(Reply::Done(0))
}

#[cold]
fn other(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let [cmd, arg, ..] = args;
    let arg = GuestVa(arg);
    match cmd as u32 {
        abi::EVTCHNOP_BIND_INTERDOMAIN => ports::bind_interdomain(call, arg)?,
        abi::EVTCHNOP_BIND_VIRQ => ports::bind_virq(call, arg)?,
        abi::EVTCHNOP_BIND_PIRQ => ports::bind_pirq(call, arg)?,
        abi::EVTCHNOP_CLOSE => ports::close(call, arg)?,
        abi::EVTCHNOP_STATUS => ports::status(call, arg)?,
        abi::EVTCHNOP_ALLOC_UNBOUND => ports::alloc_unbound(call, arg)?,
        abi::EVTCHNOP_BIND_IPI => ports::bind_ipi(call, arg)?,
        abi::EVTCHNOP_BIND_VCPU => ports::bind_vcpu(call, arg)?,
        abi::EVTCHNOP_UNMASK => ports::unmask(call, arg)?,
        abi::EVTCHNOP_RESET => return ports::reset(call, args),
        abi::EVTCHNOP_INIT_CONTROL => fifo::init_control(call, arg)?,
        abi::EVTCHNOP_EXPAND_ARRAY => fifo::expand_array(call, arg)?,
        abi::EVTCHNOP_SET_PRIORITY => fifo::set_priority(call, arg)?,
        _ => return Err(Error::NotImplemented),
    }
    Ok(Reply::Done(0))
}

/// The domain numbered `id`, without a search if it is the caller.
#[inline]
fn by_id(call: &Call<'_>, id: DomId) -> Option<Arc<Domain>> {
    if id == call.domain.id {
        Some(Arc::clone(call.domain))
    } else {
        registry::get(id)
    }
}

/// The domain a guest names, perhaps as "the caller".
fn by_name(call: &Call<'_>, id: u16) -> Result<Arc<Domain>, Error> {
    let id = DomId(id);
    if id == DomId::SELF {
        return Ok(Arc::clone(call.domain));
    }
    by_id(call, id).ok_or(Error::NoDomain)
}
