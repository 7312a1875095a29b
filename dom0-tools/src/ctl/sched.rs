//! Scheduling of one domain.

use xen_abi::domctl::{
    XEN_DOMCTL_SCHEDOP_GETINFO, XEN_DOMCTL_SCHEDOP_PUTINFO, XEN_DOMCTL_SCHEDULER_OP,
    XenDomctlSchedCredit, XenDomctlSchedulerOp,
};

use super::{Result, Xen};
use crate::sys::DomId;

/// A domain's part of CPU time. The schedulers credit and credit2 both have these parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditParams {
    /// Share of CPU time, against the other domains' (1 to 65535; 256 by default).
    pub weight: u16,
    /// Most of one CPU it gets, in percent; 0: no limit.
    pub cap: u16,
}

impl Xen {
    /// A domain's parameters.
    ///
    /// # Errors
    /// `EINVAL`: the scheduler is neither credit nor credit2.
    pub fn credit(&self, domain: DomId) -> Result<CreditParams> {
        let zeroed = CreditParams { weight: 0, cap: 0 };
        self.scheduler_op(domain, XEN_DOMCTL_SCHEDOP_GETINFO, zeroed)
    }

    /// Sets them.
    ///
    /// # Errors
    /// `EINVAL`: beyond the limits, or the scheduler is neither credit nor credit2.
    pub fn set_credit(&self, domain: DomId, params: CreditParams) -> Result<()> {
        self.scheduler_op(domain, XEN_DOMCTL_SCHEDOP_PUTINFO, params)
            .map(drop)
    }

    fn scheduler_op(&self, domain: DomId, cmd: u32, params: CreditParams) -> Result<CreditParams> {
        let argument = XenDomctlSchedulerOp {
            sched_id: self.scheduler()?,
            cmd,
            credit: XenDomctlSchedCredit {
                weight: params.weight,
                cap: params.cap,
            },
            _pad: [0; 3],
        };
        let operation = "use the scheduling parameters of";
        let mut call = self.domctl(operation, XEN_DOMCTL_SCHEDULER_OP, domain, &[])?;
        let back = call.run(&argument)?;
        Ok(CreditParams {
            weight: back.credit.weight,
            cap: back.credit.cap,
        })
    }
}
