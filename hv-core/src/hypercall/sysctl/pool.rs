//! The one CPU pool and its scheduler.

use super::{Call, Error, Request};
use crate::domain::notify::SCHEDULER;
use crate::domain::registry;
use crate::hypercall::domctl::write_bitmap;
use crate::sched::credit;
use xen_abi::domctl::XEN_SCHEDULER_CREDIT;
use xen_abi::sysctl as abi;

/// `sched_id`.
pub(super) fn scheduler(request: &mut Request) {
    request.set_body(&abi::XenSysctlSchedId {
        sched_id: XEN_SCHEDULER_CREDIT,
    });
}

/// `scheduler_op`. The parameters can be read; they cannot be changed to others.
///
/// `EINVAL`: another scheduler or pool, other parameters.
pub(super) fn parameters(request: &mut Request) -> Result<(), Error> {
    let mut op: abi::XenSysctlSchedulerOp = request.body();
    if op.sched_id != XEN_SCHEDULER_CREDIT || op.cpupool_id != 0 {
        return Err(Error::Invalid);
    }
    let now = abi::XenSysctlCreditSchedule {
        tslice_ms: credit::SLICE_MS,
        ratelimit_us: credit::RATE_LIMIT_US,
        vcpu_migr_delay_us: 0,
    };
    match op.cmd {
        abi::XEN_SYSCTL_SCHEDOP_GETINFO => op.sched_credit = now,
        abi::XEN_SYSCTL_SCHEDOP_PUTINFO if op.sched_credit == now => {}
        _ => return Err(Error::Invalid),
    }
    request.set_body(&op);
    Ok(())
}

/// `cpupool_op`: pool 0 has everything, and there is no other.
///
/// `ENOENT`: no pool with that number or a higher one. `EFAULT`. `EOPNOTSUPP`: changes.
pub(super) fn pool(call: &Call<'_>, request: &mut Request) -> Result<(), Error> {
    let mut op: abi::XenSysctlCpupoolOp = request.body();
    match op.op {
        abi::XEN_SYSCTL_CPUPOOL_OP_INFO => {
            if op.cpupool_id != 0 {
                return Err(Error::NoEntry);
            }
            op.sched_id = XEN_SCHEDULER_CREDIT;
            op.n_dom = registry::all().len() as u32;
            write_bitmap(call, &op.cpumap, SCHEDULER.online().0)?;
        }
        abi::XEN_SYSCTL_CPUPOOL_OP_FREEINFO => write_bitmap(call, &op.cpumap, 0)?,
        // Where it is already.
        abi::XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN if op.cpupool_id == 0 => {}
        _ => return Err(Error::NotSupported),
    }
    request.set_body(&op);
    Ok(())
}
