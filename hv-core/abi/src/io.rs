//! Shared rings of the console, of xenstore and of split drivers.
//!
//! Source: Xen `include/public/io/{console,xs_wire,ring}.h`. All are written concurrently by both sides.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of the console's input ring.
pub const XENCONS_IN_SIZE: usize = 1024;
/// Bytes of the console's output ring.
pub const XENCONS_OUT_SIZE: usize = 2048;
/// Bytes of each xenstore ring.
pub const XENSTORE_RING_SIZE: usize = 1024;
/// Bytes of a xenstore message's body.
pub const XENSTORE_PAYLOAD_MAX: usize = 4096;
/// Bytes of an absolute path.
pub const XENSTORE_ABS_PATH_MAX: usize = 3072;
/// Bytes of a relative path.
pub const XENSTORE_REL_PATH_MAX: usize = 2048;
/// Server can reconnect.
pub const XENSTORE_SERVER_FEATURE_RECONNECTION: u32 = 1;
/// Server sets `error`.
pub const XENSTORE_SERVER_FEATURE_ERROR: u32 = 2;
/// Steady state.
pub const XENSTORE_CONNECTED: u32 = 0;
/// Reconnect in progress.
pub const XENSTORE_RECONNECT: u32 = 1;

/// `struct xencons_interface`: the console ring page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenconsInterface {
    /// To the guest.
    pub r#in: [u8; XENCONS_IN_SIZE],
    /// From the guest.
    pub out: [u8; XENCONS_OUT_SIZE],
    /// Input consumed.
    pub in_cons: u32,
    /// Input produced.
    pub in_prod: u32,
    /// Output consumed.
    pub out_cons: u32,
    /// Output produced.
    pub out_prod: u32,
}
layout! { XenconsInterface: 3088 { r#in: 0, out: 1024, in_cons: 3072, in_prod: 3076, out_cons: 3080, out_prod: 3084 } }

/// `struct xenstore_domain_interface`: the xenstore ring page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenstoreDomainInterface {
    /// Requests.
    pub req: [u8; XENSTORE_RING_SIZE],
    /// Replies and watch events.
    pub rsp: [u8; XENSTORE_RING_SIZE],
    /// Requests consumed.
    pub req_cons: u32,
    /// Requests produced.
    pub req_prod: u32,
    /// Replies consumed.
    pub rsp_cons: u32,
    /// Replies produced.
    pub rsp_prod: u32,
    /// `XENSTORE_SERVER_FEATURE_*`.
    pub server_features: u32,
    /// `XENSTORE_CONNECTED` or `XENSTORE_RECONNECT`.
    pub connection: u32,
    /// Error.
    pub error: u32,
}
layout! { XenstoreDomainInterface: 2076 { req: 0, rsp: 1024, req_cons: 2048, req_prod: 2052, rsp_cons: 2056, rsp_prod: 2060, server_features: 2064, connection: 2068, error: 2072 } }

/// `struct xsd_sockmsg`: head of a xenstore message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XsdSockmsg {
    /// Kind.
    pub r#type: u32,
    /// Request.
    pub req_id: u32,
    /// Transaction.
    pub tx_id: u32,
    /// Bytes of the body.
    pub len: u32,
}
layout! { XsdSockmsg: 16 { r#type: 0, req_id: 4, tx_id: 8, len: 12 } }

/// Head of a split driver's ring (`DEFINE_RING_TYPES`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct SringHeader {
    /// Requests produced.
    pub req_prod: u32,
    /// Notify when requests reach this.
    pub req_event: u32,
    /// Responses produced.
    pub rsp_prod: u32,
    /// Notify when responses reach this.
    pub rsp_event: u32,
    /// Padding.
    pub _pad: [u8; 48],
}
layout! { SringHeader: 64 { req_prod: 0, req_event: 4, rsp_prod: 8, rsp_event: 12, _pad: 16 } }
