//! `domctl` (36): control of domains, for dom0's tools. So far only what comes before a
//! command: there is no domain but dom0 yet.

use super::{Call, Error, HypercallResult};
use crate::access;
use crate::addr::{DomId, GuestVa};
use crate::domain::registry;
use xen_abi::domctl as abi;

/// Does what the structure at `args[0]` asks for.
///
/// # Errors
/// `EFAULT`: structure not accessible. `EACCES`: another version of the interface. `ESRCH`:
/// no such domain. `EPERM`: the caller is no control domain. `EINVAL`: not to oneself.
/// `ENOSYS`: no such command.
///
/// Source: Xen `include/public/domctl.h`.
pub fn domctl(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let op: abi::XenDomctl = call.guest().read(GuestVa(args[0]))?;
    if op.interface_version != abi::XEN_DOMCTL_INTERFACE_VERSION {
        return Err(Error::Access);
    }
    let subject = DomId(op.domain);
    let named = !matches!(
        op.cmd,
        abi::XEN_DOMCTL_CREATEDOMAIN | abi::XEN_DOMCTL_GETDOMAININFO
    );
    if named && registry::get(subject).is_none() {
        return Err(Error::NoDomain);
    }
    if !access::may_control_host(&call.domain.subject()) {
        return Err(Error::NotPermitted);
    }
    match op.cmd {
        // Who stops itself cannot start itself.
        abi::XEN_DOMCTL_PAUSEDOMAIN | abi::XEN_DOMCTL_DESTROYDOMAIN
            if subject == call.domain.id =>
        {
            Err(Error::Invalid)
        }
        _ => Err(Error::NotImplemented),
    }
}
