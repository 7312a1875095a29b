//! The one CPU pool and its scheduler.

use super::{Call, Error, Request};
use crate::addr::{CpuMask, DomId};
use crate::domain::notify::SCHEDULER;
use crate::domain::registry;
use crate::hypercall::domctl::write_bitmap;
use crate::sched::Knobs;
use xen_abi::domctl::XEN_SCHEDULER_CREDIT;
use xen_abi::sysctl as abi;

/// The number of the one pool.
const THE_POOL: u32 = 0;

/// `sched_id`.
pub(super) fn scheduler(request: &mut Request) {
    request.set_body(&abi::XenSysctlSchedId {
        sched_id: XEN_SCHEDULER_CREDIT,
    });
}

/// `scheduler_op`: the knobs of the credit scheduler.
///
/// `EINVAL`: neither put nor get, another scheduler, a knob outside its range. `ESRCH`: no
/// such pool.
pub(super) fn parameters(request: &mut Request) -> Result<(), Error> {
    let mut op: abi::XenSysctlSchedulerOp = request.body();
    let puts = match op.cmd {
        abi::XEN_SYSCTL_SCHEDOP_PUTINFO => true,
        abi::XEN_SYSCTL_SCHEDOP_GETINFO => false,
        _ => return Err(Error::Invalid),
    };
    if op.cpupool_id != THE_POOL {
        return Err(Error::NoDomain);
    }
    if op.sched_id != XEN_SCHEDULER_CREDIT {
        return Err(Error::Invalid);
    }
    let policy = SCHEDULER.policy();
    if puts {
        let wanted = op.sched_credit;
        policy
            .set_knobs(Knobs {
                slice_ms: wanted.tslice_ms,
                ratelimit_us: wanted.ratelimit_us,
                migration_delay_us: wanted.vcpu_migr_delay_us,
            })
            .map_err(|_| Error::Invalid)?;
    }
    let knobs = policy.knobs();
    op.sched_credit = abi::XenSysctlCreditSchedule {
        tslice_ms: knobs.slice_ms,
        ratelimit_us: knobs.ratelimit_us,
        vcpu_migr_delay_us: knobs.migration_delay_us,
    };
    request.set_body(&op);
    Ok(())
}

/// `cpupool_op`: pool 0 has everything, and there is no other.
///
/// `ENOENT`: no such pool (when asked about it: none with a higher number either). `ESRCH`: no
/// such domain. `EPERM`: the caller would move itself. `EBUSY`: pool 0 is to go. `EOPNOTSUPP`: other changes. `ENOSYS`: no such
/// operation. `EFAULT`.
pub(super) fn pool(call: &Call<'_>, request: &mut Request) -> Result<(), Error> {
    let mut op: abi::XenSysctlCpupoolOp = request.body();
    let known = op.cpupool_id == THE_POOL;
    match op.op {
        abi::XEN_SYSCTL_CPUPOOL_OP_INFO if known => {
            op.sched_id = XEN_SCHEDULER_CREDIT;
            op.n_dom = u32::try_from(registry::count()).unwrap_or(u32::MAX);
            write_bitmap(call, &op.cpumap, &SCHEDULER.online())?;
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO => write_bitmap(call, &op.cpumap, &CpuMask::NONE)?,
        abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN => {
            let id = u16::try_from(op.domid).map_err(|_| Error::NoDomain)?;
            if DomId(id) == call.domain.id {
                return Err(Error::NotPermitted);
            }
            registry::get(DomId(id)).ok_or(Error::NoDomain)?;
            // It is where it should be already.
            if !known {
                return Err(Error::NoEntry);
            }
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY if known => return Err(Error::Busy),
        abi::XEN_SYSCTL_CPUPOOL_OP_ADDCPU | abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU if known => {
            return Err(Error::NotSupported);
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_CREATE => return Err(Error::NotSupported),
        abi::XEN_SYSCTL_CPUPOOL_OP_INFO
        | abi::XEN_SYSCTL_CPUPOOL_OP_DESTROY
        | abi::XEN_SYSCTL_CPUPOOL_OP_ADDCPU
        | abi::XEN_SYSCTL_CPUPOOL_OP_RMCPU => return Err(Error::NoEntry),
        _ => return Err(Error::NotImplemented),
    }
    request.set_body(&op);
    Ok(())
}
