//! What domains are and have.

use super::{Call, Error, Request};
use crate::addr::{DomId, GuestVa};
use crate::domain::registry;
use crate::hypercall::domctl;
use crate::mm::host;
use xen_abi::domctl::XenDomctlGetdomaininfo;
use xen_abi::sysctl as abi;

/// `getdomaininfolist`.
///
/// `EFAULT`.
pub(super) fn list(call: &Call<'_>, request: &mut Request) -> Result<(), Error> {
    let mut op: abi::XenSysctlGetdomaininfolist = request.body();
    registry::reap(host::get());
    let first = DomId(op.first_domain);
    op.num_domains = 0;
    for domain in registry::from(first) {
        if op.num_domains == op.max_domains {
            break;
        }
        let size = size_of::<XenDomctlGetdomaininfo>() as u64;
        let at = GuestVa(op.buffer).add(u64::from(op.num_domains) * size);
        call.guest().write(at, &domctl::describe(&domain))?;
        op.num_domains += 1;
    }
    request.set_body(&op);
    Ok(())
}
