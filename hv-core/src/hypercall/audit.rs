//! Tells the record of privileged operations ([`crate::access::audit`]) what a hypercall did.

use super::{Call, Error, HypercallResult, Reply};
use crate::access;
use crate::access::audit::{AUDIT, Operation};
use crate::addr::DomId;
use crate::time;
use xen_abi::xen as abi;

/// A command of one of the hypercalls for tools.
#[derive(Clone, Copy, Debug)]
pub(super) struct Command {
    /// The hypercall.
    pub hypercall: u64,
    /// Its command.
    pub command: u32,
    /// The domain it is about.
    pub target: Option<DomId>,
    /// It changes nothing and shows no domain's memory or registers: only a denial counts.
    pub question: bool,
}

/// Records `command`, which ended with `result`. One that goes on is recorded at its end.
pub(super) fn command(call: &Call<'_>, command: &Command, result: &HypercallResult) {
    let errno = match result {
        Ok(Reply::Continue(_)) => return,
        Ok(Reply::Done(_)) => 0,
        Err(error) => -(error.errno() as i32),
    };
    let operation = Operation {
        subject: call.domain.id,
        target: command.target,
        hypercall: command.hypercall as u32,
        command: command.command,
        result: errno,
    };
    let stranger = !access::may_have_business(&call.domain.subject());
    if stranger && errno != 0 || *result == Err(Error::NotPermitted) {
        AUDIT.record_denied(&call.domain.denied, &operation, time::now().0);
    } else if !command.question {
        AUDIT.record(&operation, time::now().0);
    }
}

/// Records that hypercall `number` was denied, unless it does so itself.
#[cold]
pub(super) fn denied(call: &Call<'_>, number: u64, args: [u64; 6]) {
    let target = match number {
        abi::HYPERVISOR_DOMCTL | abi::HYPERVISOR_SYSCTL | abi::HYPERVISOR_PLATFORM_OP => return,
        abi::HYPERVISOR_MMU_UPDATE
        | abi::HYPERVISOR_MMUEXT_OP
        | abi::HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN => Some(DomId(args[3] as u16)),
        _ => None,
    };
    let operation = Operation {
        subject: call.domain.id,
        target,
        hypercall: number as u32,
        command: args[0] as u32,
        result: -(Error::NotPermitted.errno() as i32),
    };
    AUDIT.record_denied(&call.domain.denied, &operation, time::now().0);
}
