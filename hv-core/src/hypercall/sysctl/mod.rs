//! `sysctl` (35): questions about the host, for dom0's tools.

use super::{Call, Error, HypercallResult, Reply};
use crate::access;
use crate::addr::GuestVa;
use crate::arch::machine;
use crate::mm::host;
use crate::time;
use xen_abi::sysctl as abi;

/// Bytes before the command's own struct.
const HEADER: u64 = size_of::<abi::XenSysctlHeader>() as u64;

/// Answers the question in memory at `args[0]`.
///
/// # Errors
/// `EFAULT`: memory not accessible. `EACCES`: another version of the interface. `EPERM`: the caller
/// is no control domain. `ENOSYS`: no such question.
///
/// Source: Xen `include/public/sysctl.h`.
pub fn sysctl(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let at = GuestVa(args[0]);
    let header: abi::XenSysctlHeader = call.guest().read(at)?;
    if header.interface_version != abi::XEN_SYSCTL_INTERFACE_VERSION {
        return Err(Error::Access);
    }
    if !access::may_control_host(&call.domain.subject()) {
        return Err(Error::NotPermitted);
    }
    match header.cmd {
        abi::XEN_SYSCTL_PHYSINFO => {
            let body = GuestVa(at.0.checked_add(HEADER).ok_or(Error::Fault)?);
            call.guest().write(body, &physinfo())?;
            Ok(Reply::Done(0))
        }
        _ => Err(Error::NotImplemented),
    }
}

fn physinfo() -> abi::XenSysctlPhysinfo {
    let mm = host::get();
    let cpus = u32::try_from(machine::cpu_count()).unwrap_or(u32::MAX);
    abi::XenSysctlPhysinfo {
        threads_per_core: 1,
        cores_per_socket: cpus,
        nr_cpus: cpus,
        max_cpu_id: cpus.saturating_sub(1),
        nr_nodes: 1,
        max_node_id: 0,
        cpu_khz: time::tsc_khz(),
        capabilities: abi::XEN_SYSCTL_PHYSCAP_PV | abi::XEN_SYSCTL_PHYSCAP_GNTTAB_V1,
        arch_capabilities: 0,
        pad: 0,
        total_pages: mm.alloc.total_frames(),
        free_pages: mm.alloc.free_frames(),
        scrub_pages: 0,
        outstanding_pages: 0,
        max_mfn: mm.frames.limit() - 1,
        hw_cap: [0; 8],
    }
}
