//! What domains and vCPUs are, have and do.

use super::{After, Request, vcpu_of};
use crate::access::Roles;
use crate::addr::Nanos;
use crate::domain::Domain;
use crate::domain::life::Stage;
use crate::domain::notify::SCHEDULER;
use crate::domain::shutdown::NOT_SHUT_DOWN;
use crate::hypercall::Error;
use crate::mm::host;
use crate::sched::RunState;
use crate::time;
use core::sync::atomic::Ordering;
use xen_abi::domctl as abi;

/// `getdomaininfo`.
pub(super) fn domain(domain: &Domain, request: &mut Request) -> Result<After, Error> {
    request.op.domain = domain.id.0;
    request.set_body(&describe(domain));
    Ok(After::CopyBack)
}

/// What a domain is and has.
#[must_use]
pub fn describe(domain: &Domain) -> abi::XenDomctlGetdomaininfo {
    let now = time::now();
    let account = host::get().accounts.get(domain.id);
    let count = |f: fn(&crate::mm::account::DomainPages) -> u64| account.map_or(0, f);
    let vcpus = domain.vcpus();
    let max_vcpu_id = (vcpus.len() as u32)
        .checked_sub(1)
        .unwrap_or(abi::XEN_INVALID_MAX_VCPU_ID);
    abi::XenDomctlGetdomaininfo {
        domain: domain.id.0,
        pad1: 0,
        flags: flags(domain),
        tot_pages: count(crate::mm::account::DomainPages::total),
        max_pages: count(crate::mm::account::DomainPages::max),
        outstanding_pages: count(crate::mm::account::DomainPages::claimed),
        shr_pages: 0,
        paged_pages: 0,
        shared_info_frame: domain.shared_info.raw(),
        cpu_time: vcpus.iter().map(|v| ran(v, now)).sum(),
        nr_online_vcpus: vcpus.iter().filter(|v| SCHEDULER.is_up(v.unit)).count() as u32,
        max_vcpu_id,
        ssidref: 0,
        handle: domain.handle(),
        cpupool: 0,
        gpaddr_bits: 0,
        pad2: [0; 7],
        arch_config: abi::XenArchDomainconfig {
            emulation_flags: 0,
            misc_flags: 0,
        },
    }
}

/// Nanoseconds a vCPU ran.
fn ran(vcpu: &crate::domain::Vcpu, now: Nanos) -> u64 {
    SCHEDULER.run_times(vcpu.unit, now).time[RunState::Running as usize]
}

fn flags(domain: &Domain) -> u32 {
    let vcpus = domain.vcpus();
    let up = || vcpus.iter().filter(|v| SCHEDULER.is_up(v.unit));
    let mut flags = 0;
    let mut set = |on: bool, flag: u32| {
        if on {
            flags |= flag;
        }
    };
    // Not while it is being taken apart: who sees the flag need not wait for more.
    set(domain.life.stage() == Stage::Dead, abi::XEN_DOMINF_DYING);
    set(domain.pauses() != 0, abi::XEN_DOMINF_PAUSED);
    set(
        up().count() > 0 && up().all(|v| SCHEDULER.is_blocked(v.unit)),
        abi::XEN_DOMINF_BLOCKED,
    );
    set(
        up().any(|v| SCHEDULER.is_on_cpu(v.unit)),
        abi::XEN_DOMINF_RUNNING,
    );
    set(
        domain.life.debugged.load(Ordering::Relaxed),
        abi::XEN_DOMINF_DEBUGGED,
    );
    set(
        domain.roles.contains(Roles::XENSTORE) && !domain.privileged,
        abi::XEN_DOMINF_XS_DOMAIN,
    );
    match domain.shutdown.load(Ordering::SeqCst) {
        NOT_SHUT_DOWN => {}
        reason => {
            set(true, abi::XEN_DOMINF_SHUTDOWN);
            set(true, (reason & 0xff) << abi::XEN_DOMINF_SHUTDOWNSHIFT);
        }
    }
    flags
}

/// `getvcpuinfo`.
///
/// `EINVAL`: no such vCPU. `ESRCH`: it is not made yet.
pub(super) fn vcpu(domain: &Domain, request: &mut Request) -> Result<After, Error> {
    let asked: abi::XenDomctlGetvcpuinfo = request.body();
    let vcpu = vcpu_of(domain, asked.vcpu)?;
    let unit = vcpu.unit;
    request.set_body(&abi::XenDomctlGetvcpuinfo {
        vcpu: asked.vcpu,
        online: SCHEDULER.is_up(unit).into(),
        blocked: SCHEDULER.is_blocked(unit).into(),
        running: SCHEDULER.is_on_cpu(unit).into(),
        _pad0: 0,
        cpu_time: ran(vcpu, time::now()),
        cpu: SCHEDULER.home(unit).0.into(),
        _pad1: 0,
    });
    Ok(After::CopyBack)
}
