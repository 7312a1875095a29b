//! NMI callbacks.
//!
//! Source: Xen `include/public/nmi.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Registers a handler.
pub const XENNMI_REGISTER_CALLBACK: u32 = 0;
/// Removes it.
pub const XENNMI_UNREGISTER_CALLBACK: u32 = 1;
/// I/O check.
pub const XEN_NMIREASON_IO_ERROR: u64 = 1;
/// PCI system error.
pub const XEN_NMIREASON_PCI_SERR: u64 = 2;
/// Other.
pub const XEN_NMIREASON_UNKNOWN: u64 = 4;

/// `struct xennmi_callback`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XennmiCallback {
    /// Handler.
    pub handler_address: u64,
    /// Padding.
    pub pad: u64,
}
layout! { XennmiCallback: 16 { handler_address: 0, pad: 8 } }
