//! Control of domains, for tools in dom0.
//!
//! Source: Xen `include/public/domctl.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version of this interface in Xen 4.17; callers state the one they mean.
pub const XEN_DOMCTL_INTERFACE_VERSION: u32 = 0x15;
/// Makes a domain.
pub const XEN_DOMCTL_CREATEDOMAIN: u32 = 1;
/// Ends a domain.
pub const XEN_DOMCTL_DESTROYDOMAIN: u32 = 2;
/// Stops a domain's vCPUs.
pub const XEN_DOMCTL_PAUSEDOMAIN: u32 = 3;
/// Lets them run again.
pub const XEN_DOMCTL_UNPAUSEDOMAIN: u32 = 4;
/// What a domain is and has; of the first from the named number on.
pub const XEN_DOMCTL_GETDOMAININFO: u32 = 5;

/// `struct xen_domctl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctl {
    /// `XEN_DOMCTL_*`.
    pub cmd: u32,
    /// [`XEN_DOMCTL_INTERFACE_VERSION`].
    pub interface_version: u32,
    /// Domain.
    pub domain: u16,
    /// Padding.
    pub _pad: [u16; 3],
    /// The command's own struct.
    pub u: [u64; 16],
}
layout! { XenDomctl: 144 { cmd: 0, interface_version: 4, domain: 8, _pad: 10, u: 16 } }
