//! Opening, moving, looking at and closing ports.

use super::{by_id, by_name};
use crate::access;
use crate::addr::{CpuId, DomId, GuestVa, VcpuId};
use crate::arch::machine;
use crate::domain::Domain;
use crate::domain::notify::SCHEDULER;
use crate::event::{Binding, Channel, Reset};
use crate::hypercall::{Call, Error, HypercallResult, Reply};
use crate::irq;
use xen_abi::event_channel as abi;

/// Ports closed between two looks at what else this CPU has to do.
const RESET_BATCH: usize = 32;

/// `EVTCHNOP_bind_interdomain`.
///
/// `ESRCH`: no such domain. `EINVAL`: the port does not wait for the caller.
/// `ENOSPC`, `ENOMEM`: no port is left.
pub(super) fn bind_interdomain(call: &Call<'_>, arg: GuestVa) -> Result<(), Error> {
    let mut op: abi::EvtchnBindInterdomain = call.guest().read(arg)?;
    let peer = by_name(call, op.remote_dom)?;
    let me: &Domain = call.domain;
    let (port, delivery) = me
        .events
        .bind_interdomain(&peer.events, op.remote_port, me)?;
    me.notify(delivery);
    op.local_port = port.0;
    Ok(call.guest().write(arg, &op)?)
}

/// `EVTCHNOP_alloc_unbound`.
///
/// `ESRCH`: no such domain. `EPERM`: another domain's ports are not the caller's to
/// open. `ENOSPC`, `ENOMEM`: no port is left.
pub(super) fn alloc_unbound(call: &Call<'_>, arg: GuestVa) -> Result<(), Error> {
    let mut op: abi::EvtchnAllocUnbound = call.guest().read(arg)?;
    let domain = by_name(call, op.dom)?;
    if !access::may_open_ports_of(call.domain, &domain) {
        return Err(Error::NotPermitted);
    }
    let remote = match DomId(op.remote_dom) {
        DomId::SELF => call.domain.id,
        other => other,
    };
    op.port = domain.events.alloc_unbound(remote)?.0;
    Ok(call.guest().write(arg, &op)?)
}

/// `EVTCHNOP_bind_virq`.
///
/// `EINVAL`: no such interrupt, or a global one not on vCPU 0. `ENOENT`: no such vCPU.
/// `EEXIST`: bound already. `ENOSPC`, `ENOMEM`: no port is left.
pub(super) fn bind_virq(call: &Call<'_>, arg: GuestVa) -> Result<(), Error> {
    let mut op: abi::EvtchnBindVirq = call.guest().read(arg)?;
    op.port = call.domain.events.bind_virq(op.virq, op.vcpu)?.0;
    Ok(call.guest().write(arg, &op)?)
}

/// `EVTCHNOP_bind_ipi`.
///
/// `ENOENT`: no such vCPU. `ENOSPC`, `ENOMEM`: no port is left.
pub(super) fn bind_ipi(call: &Call<'_>, arg: GuestVa) -> Result<(), Error> {
    let mut op: abi::EvtchnBindIpi = call.guest().read(arg)?;
    op.port = call.domain.events.bind_ipi(op.vcpu)?.0;
    Ok(call.guest().write(arg, &op)?)
}

/// `EVTCHNOP_bind_pirq`. A domain's number of a line is the host's.
///
/// `EINVAL`: no such line. `EPERM`: not the caller's. `EEXIST`: bound already.
/// `EBUSY`: in other use. `ENOSPC`, `ENOMEM`: no port is left.
pub(super) fn bind_pirq(call: &Call<'_>, arg: GuestVa) -> Result<(), Error> {
    let mut op: abi::EvtchnBindPirq = call.guest().read(arg)?;
    let domain: &Domain = call.domain;
    if op.pirq >= domain.events.pirq_limit() {
        return Err(Error::Invalid);
    }
    if !access::may_use_line(domain, op.pirq) {
        return Err(Error::NotPermitted);
    }
    let to = irq::Binding {
        domain: domain.id,
        pirq: op.pirq,
    };
    let cpu = home_of(domain, VcpuId(0));
    let connect = || irq::bind(op.pirq, to, cpu).map_err(Error::from);
    let port = domain.events.bind_pirq(op.pirq, domain, connect)?;
    op.port = port.0;
    Ok(call.guest().write(arg, &op)?)
}

/// `EVTCHNOP_bind_vcpu`. A line follows its vCPU to the CPU where that is at home.
///
/// `ENOENT`: no such vCPU. `EINVAL`: no such port, or its vCPU is fixed.
pub(super) fn bind_vcpu(call: &Call<'_>, arg: GuestVa) -> Result<(), Error> {
    let op: abi::EvtchnBindVcpu = call.guest().read(arg)?;
    if let Some(pirq) = call.domain.events.bind_vcpu(op.port, op.vcpu)? {
        let cpu = home_of(call.domain, VcpuId(op.vcpu as u16));
        irq::set_affinity(pirq, call.domain.id, cpu);
    }
    Ok(())
}

/// `EVTCHNOP_close`.
///
/// `EINVAL`: no such port.
pub(super) fn close(call: &Call<'_>, arg: GuestVa) -> Result<(), Error> {
    let op: abi::EvtchnClose = call.guest().read(arg)?;
    let domain: &Domain = call.domain;
    Ok(domain.events.close(op.port, domain, |id| by_id(call, id))?)
}

/// `EVTCHNOP_unmask`.
///
/// `EINVAL`: no such port.
pub(super) fn unmask(call: &Call<'_>, arg: GuestVa) -> Result<(), Error> {
    let op: abi::EvtchnUnmask = call.guest().read(arg)?;
    let domain: &Domain = call.domain;
    let delivery = domain.events.unmask(op.port, domain)?;
    domain.notify(delivery);
    Ok(())
}

/// `EVTCHNOP_status`.
///
/// `ESRCH`: no such domain. `EINVAL`: no such port. `EPERM`: another domain's ports are
/// not the caller's to see.
pub(super) fn status(call: &Call<'_>, arg: GuestVa) -> Result<(), Error> {
    let mut op: abi::EvtchnStatus = call.guest().read(arg)?;
    let domain = by_name(call, op.dom)?;
    let channel = domain.events.status(op.port)?;
    if !access::may_see_ports_of(call.domain, &domain) {
        return Err(Error::NotPermitted);
    }
    describe(&mut op, channel);
    Ok(call.guest().write(arg, &op)?)
}

fn describe(op: &mut abi::EvtchnStatus, channel: Channel) {
    op.vcpu = u32::from(channel.vcpu.0);
    (op.status, op.u0) = match channel.binding {
        Binding::Closed => (abi::EVTCHNSTAT_CLOSED, op.u0),
        Binding::Unbound { remote } => (abi::EVTCHNSTAT_UNBOUND, u32::from(remote.0)),
        Binding::Interdomain { remote, port } => {
            op.u1 = port.0;
            (abi::EVTCHNSTAT_INTERDOMAIN, u32::from(remote.0))
        }
        Binding::Pirq(n) => (abi::EVTCHNSTAT_PIRQ, n),
        Binding::Virq(n) => (abi::EVTCHNSTAT_VIRQ, n),
        Binding::Ipi => (abi::EVTCHNSTAT_IPI, op.u0),
    };
}

/// `EVTCHNOP_reset`: all ports closed, back to the 2-level interface.
///
/// `ESRCH`: no such domain. `EPERM`: another domain is not the caller's to reset. `EINVAL`: it
/// is not paused.
pub(super) fn reset(call: &Call<'_>, args: [u64; 6]) -> HypercallResult {
    let op: abi::EvtchnReset = call.guest().read(GuestVa(args[1]))?;
    let domain = by_name(call, op.dom)?;
    if !access::may_open_ports_of(call.domain, &domain) {
        return Err(Error::NotPermitted);
    }
    if domain.id != call.domain.id && domain.pauses() == 0 {
        return Err(Error::Invalid);
    }
    while domain.close_ports(RESET_BATCH) == Reset::More {
        if machine::preempt_point() {
            return Ok(Reply::Continue(args));
        }
    }
    domain.end_fifo();
    Ok(Reply::Done(0))
}

/// The CPU where a vCPU mostly runs.
fn home_of(domain: &Domain, vcpu: VcpuId) -> CpuId {
    domain
        .vcpu(vcpu)
        .map_or_else(machine::cpu_id, |v| SCHEDULER.home(v.unit))
}
