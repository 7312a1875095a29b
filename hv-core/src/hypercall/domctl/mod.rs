//! `domctl` (36): control of domains, for the toolstack. One file a theme.
//!
//! Source: Xen `include/public/domctl.h`.

mod devices;
mod info;
mod life;
mod memory;
mod policy;
mod sched;
mod vcpu;

pub use info::describe;
pub use sched::write_bitmap;

use super::{Call, Error, HypercallResult, Reply, audit};
use crate::access;
use crate::addr::{DomId, GuestVa};
use crate::domain::{Domain, registry};
use crate::fallible::Arc;
use crate::mm::host;
use xen_abi::domctl as abi;
use xen_abi::xen::HYPERVISOR_DOMCTL;

/// One command, read from the caller.
type Request = super::request::Request<abi::XenDomctl>;

/// What a command that did not fail leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// Nothing.
    Done,
    /// The structure goes back to the caller.
    CopyBack,
    /// As [`After::CopyBack`], and the caller repeats the call to go on.
    Again,
}

/// Does what the structure at `args[0]` asks for.
///
/// # Errors
/// `EFAULT`: structure not accessible. `EACCES`: another version of the interface. `ESRCH`:
/// no such domain. `EPERM`: the caller is no control domain. `ENOSYS`: no such command.
/// Others as for each command.
pub fn domctl(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let at = GuestVa(args[0]);
    let op: abi::XenDomctl = call.guest().read(at)?;
    if op.interface_version != abi::XEN_DOMCTL_INTERFACE_VERSION {
        return Err(Error::Access);
    }
    let mut request = Request { op };
    let result = run(call, at, args, &mut request);
    let command = audit::Command {
        hypercall: HYPERVISOR_DOMCTL,
        command: op.cmd,
        target: Some(DomId(request.op.domain)),
        question: is_question(op.cmd),
    };
    audit::command(call, &command, &result);
    result
}

/// Whether a command changes nothing and shows no memory or registers of a domain.
fn is_question(cmd: u32) -> bool {
    matches!(
        cmd,
        abi::XEN_DOMCTL_GETDOMAININFO
            | abi::XEN_DOMCTL_GETVCPUINFO
            | abi::XEN_DOMCTL_GETVCPUAFFINITY
            | abi::XEN_DOMCTL_GETNODEAFFINITY
            | abi::XEN_DOMCTL_GET_ADDRESS_SIZE
            | abi::XEN_DOMCTL_GETTSCINFO
            | abi::XEN_DOMCTL_GET_CPU_POLICY
    )
}

/// Does what `request`, whose structure is at `at`, asks for.
fn run(call: &mut Call<'_>, at: GuestVa, args: [u64; 6], request: &mut Request) -> HypercallResult {
    let caller = call.domain.subject();
    let allowed = match request.op.cmd {
        abi::XEN_DOMCTL_GETDOMAININFO => access::may_see_domains(&caller),
        _ => access::may_control_host(&caller),
    };
    let subject = subject(&request.op, allowed)?;
    if !allowed {
        return Err(Error::NotPermitted);
    }
    let after = match subject {
        None => life::create(call, request)?,
        Some(domain) => {
            let after = dispatch(call, &domain, request)?;
            drop(domain);
            if request.op.cmd == abi::XEN_DOMCTL_DESTROYDOMAIN && after == After::Done {
                registry::reap(host::get());
            }
            after
        }
    };
    if after != After::Done {
        call.guest().write(at, &request.op)?;
    }
    match after {
        After::Done | After::CopyBack => Ok(Reply::Done(0)),
        After::Again => Ok(Reply::Continue(args)),
    }
}

/// Whom a command is about; nobody when a domain is to be made. For a caller who may do nothing
/// this only looks: as on Xen such a caller is told which domains there are not.
fn subject(op: &abi::XenDomctl, allowed: bool) -> Result<Option<Arc<Domain>>, Error> {
    match op.cmd {
        abi::XEN_DOMCTL_CREATEDOMAIN => Ok(None),
        abi::XEN_DOMCTL_GETDOMAININFO => {
            if allowed {
                registry::reap(host::get());
            }
            let found = registry::at_or_after(DomId(op.domain));
            found.map(Some).ok_or(Error::NoDomain)
        }
        _ => registry::get(DomId(op.domain))
            .map(Some)
            .ok_or(Error::NoDomain),
    }
}

/// Commands about `domain`.
fn dispatch(
    call: &mut Call<'_>,
    domain: &Arc<Domain>,
    request: &mut Request,
) -> Result<After, Error> {
    match request.op.cmd {
        abi::XEN_DOMCTL_DESTROYDOMAIN => life::destroy(call, domain),
        abi::XEN_DOMCTL_PAUSEDOMAIN => life::pause(call, domain),
        abi::XEN_DOMCTL_UNPAUSEDOMAIN => life::unpause(domain),
        abi::XEN_DOMCTL_RESUMEDOMAIN => life::resume(call, domain),
        abi::XEN_DOMCTL_MAX_MEM => life::max_mem(domain, request),
        abi::XEN_DOMCTL_MAX_VCPUS => life::max_vcpus(call, domain, request),
        abi::XEN_DOMCTL_SETDOMAINHANDLE => life::set_handle(domain, request),
        abi::XEN_DOMCTL_SETDEBUGGING => life::set_debugging(call, domain, request),
        abi::XEN_DOMCTL_SETTIMEOFFSET => life::set_time_offset(domain, request),
        abi::XEN_DOMCTL_HYPERCALL_INIT => life::hypercall_page(domain, request),
        abi::XEN_DOMCTL_GETDOMAININFO => info::domain(domain, request),
        abi::XEN_DOMCTL_GETVCPUINFO => info::vcpu(domain, request),
        abi::XEN_DOMCTL_SETVCPUCONTEXT => vcpu::set_context(call, domain, request),
        abi::XEN_DOMCTL_GETVCPUCONTEXT => vcpu::get_context(call, domain, request),
        abi::XEN_DOMCTL_SET_EXT_VCPUCONTEXT => vcpu::set_extended(call, domain, request),
        abi::XEN_DOMCTL_GET_EXT_VCPUCONTEXT => vcpu::get_extended(call, domain, request),
        abi::XEN_DOMCTL_SETVCPUEXTSTATE => vcpu::set_xsave(call, domain, request),
        abi::XEN_DOMCTL_GETVCPUEXTSTATE => vcpu::get_xsave(call, domain, request),
        abi::XEN_DOMCTL_SET_VCPU_MSRS => vcpu::set_msrs(call, domain, request),
        abi::XEN_DOMCTL_GET_VCPU_MSRS => vcpu::get_msrs(call, domain, request),
        abi::XEN_DOMCTL_SENDTRIGGER => vcpu::trigger(domain, request),
        abi::XEN_DOMCTL_SETVCPUAFFINITY => sched::set_affinity(call, domain, request),
        abi::XEN_DOMCTL_GETVCPUAFFINITY => sched::get_affinity(call, domain, request),
        abi::XEN_DOMCTL_SETNODEAFFINITY => sched::set_nodes(call, request),
        abi::XEN_DOMCTL_GETNODEAFFINITY => sched::get_nodes(call, request),
        abi::XEN_DOMCTL_SCHEDULER_OP => sched::parameters(domain, request),
        abi::XEN_DOMCTL_SET_ADDRESS_SIZE => policy::set_address_size(request),
        abi::XEN_DOMCTL_GET_ADDRESS_SIZE => policy::get_address_size(request),
        abi::XEN_DOMCTL_SETTSCINFO => policy::set_tsc(call, domain, request),
        abi::XEN_DOMCTL_GETTSCINFO => policy::get_tsc(call, domain, request),
        abi::XEN_DOMCTL_SET_CPU_POLICY => policy::set_cpu_policy(call, domain, request),
        abi::XEN_DOMCTL_GET_CPU_POLICY => policy::get_cpu_policy(call, domain, request),
        abi::XEN_DOMCTL_GETPAGEFRAMEINFO3 => memory::frame_types(call, domain, request),
        abi::XEN_DOMCTL_SHADOW_OP => memory::shadow(request),
        abi::XEN_DOMCTL_IRQ_PERMISSION => devices::irq(call, domain, request),
        abi::XEN_DOMCTL_IOMEM_PERMISSION => devices::iomem(call, domain, request),
        abi::XEN_DOMCTL_IOPORT_PERMISSION => devices::ioport(call, domain, request),
        abi::XEN_DOMCTL_ASSIGN_DEVICE
        | abi::XEN_DOMCTL_TEST_ASSIGN_DEVICE
        | abi::XEN_DOMCTL_DEASSIGN_DEVICE
        | abi::XEN_DOMCTL_GET_DEVICE_GROUP => devices::assign(),
        abi::XEN_DOMCTL_SUBSCRIBE => life::subscribe(domain, request),
        abi::XEN_DOMCTL_SET_VIRQ_HANDLER => life::set_virq_handler(domain, request),
        // A PV domain cannot be reset. Source: Xen 4.17, `arch_domain_soft_reset`.
        abi::XEN_DOMCTL_SOFT_RESET => Err(Error::Invalid),
        _ => Err(Error::NotImplemented),
    }
}

/// The vCPU numbered `id`.
///
/// # Errors
/// `EINVAL`: there can be none. `ESRCH`: it is not made yet.
fn vcpu_of(domain: &Domain, id: u32) -> Result<&Arc<crate::domain::Vcpu>, Error> {
    if id >= domain.max_vcpus {
        return Err(Error::Invalid);
    }
    domain.vcpus().get(id as usize).ok_or(Error::NoDomain)
}

/// Who stops itself could not go on.
///
/// # Errors
/// `EINVAL`.
fn not_oneself(call: &Call<'_>, domain: &Domain) -> Result<(), Error> {
    if domain.id == call.domain.id {
        Err(Error::Invalid)
    } else {
        Ok(())
    }
}
