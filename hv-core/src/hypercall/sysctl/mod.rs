//! `sysctl` (35): questions about the host and its knobs, for the toolstack.
//!
//! Source: Xen `include/public/sysctl.h`.

mod console;
mod domains;
mod machine;
mod oxen;
mod pool;

use super::{Call, Error, HypercallResult, Reply, audit};
use crate::access;
use crate::addr::GuestVa;
use xen_abi::oxen::{OXEN_SYSCTL_AUDIT, OXEN_SYSCTL_STATS};
use xen_abi::sysctl as abi;
use xen_abi::xen::HYPERVISOR_SYSCTL;

/// One command, read from the caller.
type Request = super::request::Request<abi::XenSysctl>;

/// Whether a command changes nothing.
fn is_question(request: &Request) -> bool {
    match request.op.cmd {
        abi::XEN_SYSCTL_DEBUG_KEYS => false,
        abi::XEN_SYSCTL_READCONSOLE => request.body::<abi::XenSysctlReadconsole>().clear == 0,
        abi::XEN_SYSCTL_SCHEDULER_OP => {
            request.body::<abi::XenSysctlSchedulerOp>().cmd == abi::XEN_SYSCTL_SCHEDOP_GETINFO
        }
        abi::XEN_SYSCTL_CPUPOOL_OP => matches!(
            request.body::<abi::XenSysctlCpupoolOp>().op,
            abi::XEN_SYSCTL_CPUPOOL_OP_INFO | abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO
        ),
        _ => true,
    }
}

/// Answers the question in memory at `args[0]`.
///
/// # Errors
/// `EFAULT`: memory not accessible. `EACCES`: another version of the interface. `EPERM`: the caller
/// is no control domain. `ENOSYS`: no such question. Others as for each command.
pub fn sysctl(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let at = GuestVa(args[0]);
    let op: abi::XenSysctl = call.guest().read(at)?;
    if op.interface_version != abi::XEN_SYSCTL_INTERFACE_VERSION {
        return Err(Error::Access);
    }
    let mut request = Request { op };
    let result = run(call, at, &mut request);
    let command = audit::Command {
        hypercall: HYPERVISOR_SYSCTL,
        command: op.cmd,
        target: None,
        question: is_question(&request),
    };
    audit::command(call, &command, &result);
    result
}

/// Answers `request`, whose structure is at `at`.
fn run(call: &mut Call<'_>, at: GuestVa, request: &mut Request) -> HypercallResult {
    let caller = call.domain.subject();
    let allowed = match request.op.cmd {
        abi::XEN_SYSCTL_GETDOMAININFOLIST => access::may_see_domains(&caller),
        _ => access::may_control_host(&caller),
    };
    if !allowed {
        return Err(Error::NotPermitted);
    }
    let r = &mut *request;
    match r.op.cmd {
        abi::XEN_SYSCTL_READCONSOLE => console::read(call, r)?,
        abi::XEN_SYSCTL_DEBUG_KEYS => console::keys(call, r)?,
        abi::XEN_SYSCTL_PHYSINFO => machine::physinfo(r),
        abi::XEN_SYSCTL_CPUTOPOINFO => machine::topology(call, r)?,
        abi::XEN_SYSCTL_NUMAINFO => machine::nodes(call, r)?,
        abi::XEN_SYSCTL_PCITOPOINFO => machine::pci(call, r)?,
        abi::XEN_SYSCTL_GETCPUINFO => machine::idle(call, r)?,
        abi::XEN_SYSCTL_AVAILHEAP => machine::free_memory(r),
        abi::XEN_SYSCTL_GET_CPU_FEATURESET => {
            if machine::features(call, r)? == machine::Fit::Part {
                call.guest().write(at, &request.op)?;
                return Err(Error::NoBuffer);
            }
        }
        abi::XEN_SYSCTL_GET_CPU_POLICY => machine::cpu_policy(call, r)?,
        abi::XEN_SYSCTL_GETDOMAININFOLIST => domains::list(call, r)?,
        abi::XEN_SYSCTL_SCHED_ID => pool::scheduler(r),
        abi::XEN_SYSCTL_SCHEDULER_OP => pool::parameters(r)?,
        abi::XEN_SYSCTL_CPUPOOL_OP => pool::pool(call, r)?,
        OXEN_SYSCTL_STATS => oxen::stats(call, r)?,
        OXEN_SYSCTL_AUDIT => oxen::audit(call, r)?,
        _ => return Err(Error::NotImplemented),
    }
    call.guest().write(at, &request.op)?;
    Ok(Reply::Done(0))
}
