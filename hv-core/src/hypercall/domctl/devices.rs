//! Devices for domains other than dom0. There are none yet: nothing is given, so there is
//! nothing to take.

use super::{After, Request};
use crate::hypercall::Error;
use xen_abi::domctl as abi;

/// `irq_permission`, `iomem_permission`, `ioport_permission`.
///
/// `EOPNOTSUPP`: something is to be given.
pub(super) fn permission(request: &Request) -> Result<After, Error> {
    let allow = match request.op.cmd {
        abi::XEN_DOMCTL_IRQ_PERMISSION => {
            request.body::<abi::XenDomctlIrqPermission>().allow_access
        }
        abi::XEN_DOMCTL_IOMEM_PERMISSION => {
            request.body::<abi::XenDomctlIomemPermission>().allow_access
        }
        _ => {
            request
                .body::<abi::XenDomctlIoportPermission>()
                .allow_access
        }
    };
    if allow == 0 {
        Ok(After::Done)
    } else {
        Err(Error::NotSupported)
    }
}
