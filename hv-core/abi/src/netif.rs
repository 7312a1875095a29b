//! The network card's rings.
//!
//! Source: Xen `include/public/io/netif.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Slots of one packet that every backend takes.
pub const XEN_NETIF_NR_SLOTS_MIN: usize = 18;
/// Longest packet to send, bytes.
pub const XEN_NETIF_MAX_TX_SIZE: usize = 0xffff;
/// To send: the transport's checksum is yet to be made; its field holds the pseudo header's sum.
pub const NETTXF_CSUM_BLANK: u16 = 1;
/// To send: the checksum need not be verified.
pub const NETTXF_DATA_VALIDATED: u16 = 2;
/// To send: goes on in the next slot.
pub const NETTXF_MORE_DATA: u16 = 4;
/// To send: an extra slot follows.
pub const NETTXF_EXTRA_INFO: u16 = 8;
/// Received: the checksum need not be verified.
pub const NETRXF_DATA_VALIDATED: u16 = 1;
/// Received: the transport's checksum was never made.
pub const NETRXF_CSUM_BLANK: u16 = 2;
/// Received: goes on in the next slot.
pub const NETRXF_MORE_DATA: u16 = 4;
/// Received: an extra slot follows.
pub const NETRXF_EXTRA_INFO: u16 = 8;
/// Received: the old way to announce a segmented packet.
pub const NETRXF_GSO_PREFIX: u16 = 16;
/// Extra slot: to be cut into segments.
pub const XEN_NETIF_EXTRA_TYPE_GSO: u8 = 1;
/// Extra slot: receive a multicast address.
pub const XEN_NETIF_EXTRA_TYPE_MCAST_ADD: u8 = 2;
/// Extra slot: receive it no more.
pub const XEN_NETIF_EXTRA_TYPE_MCAST_DEL: u8 = 3;
/// Extra slot: a hash of the packet's addresses.
pub const XEN_NETIF_EXTRA_TYPE_HASH: u8 = 4;
/// One more than the greatest type.
pub const XEN_NETIF_EXTRA_TYPE_MAX: u8 = 5;
/// Flag of an extra slot: another follows.
pub const XEN_NETIF_EXTRA_FLAG_MORE: u8 = 1;
/// Segments: none.
pub const XEN_NETIF_GSO_TYPE_NONE: u8 = 0;
/// Segments of TCP on IPv4.
pub const XEN_NETIF_GSO_TYPE_TCPV4: u8 = 1;
/// Segments of TCP on IPv6.
pub const XEN_NETIF_GSO_TYPE_TCPV6: u8 = 2;
/// Status: thrown away.
pub const NETIF_RSP_DROPPED: i16 = -2;
/// Status: failed.
pub const NETIF_RSP_ERROR: i16 = -1;
/// Status: sent.
pub const NETIF_RSP_OKAY: i16 = 0;
/// Status of an extra slot's response.
pub const NETIF_RSP_NULL: i16 = 1;

/// `struct netif_tx_request`: one part of a packet to send.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct NetifTxRequest {
    /// The page's grant reference.
    pub gref: u32,
    /// Where in the page it begins.
    pub offset: u16,
    /// `NETTXF_*`.
    pub flags: u16,
    /// The frontend's own, echoed.
    pub id: u16,
    /// Bytes: of the whole packet in its first slot, of this part in the others.
    pub size: u16,
}
layout! { NetifTxRequest: 12 { gref: 0, offset: 4, flags: 6, id: 8, size: 10 } }

/// `struct netif_tx_response`: it was sent, or not.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct NetifTxResponse {
    /// The request's.
    pub id: u16,
    /// `NETIF_RSP_*`.
    pub status: i16,
}
layout! { NetifTxResponse: 4 { id: 0, status: 2 } }

/// `struct netif_rx_request`: a page to receive into.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct NetifRxRequest {
    /// The frontend's own, echoed.
    pub id: u16,
    /// Padding.
    pub _pad: u16,
    /// The page's grant reference.
    pub gref: u32,
}
layout! { NetifRxRequest: 8 { id: 0, _pad: 2, gref: 4 } }

/// `struct netif_rx_response`: one part of a packet that came; in the request's own slot.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct NetifRxResponse {
    /// The request's.
    pub id: u16,
    /// Where in the page it begins.
    pub offset: u16,
    /// `NETRXF_*`.
    pub flags: u16,
    /// Bytes, or a negative `NETIF_RSP_*`.
    pub status: i16,
}
layout! { NetifRxResponse: 8 { id: 0, offset: 2, flags: 4, status: 6 } }

/// `struct netif_extra_info`: lies where a request or a response would; its last six bytes by type.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct NetifExtraInfo {
    /// `XEN_NETIF_EXTRA_TYPE_*`.
    pub r#type: u8,
    /// `XEN_NETIF_EXTRA_FLAG_*`.
    pub flags: u8,
    /// Segments: size (two bytes), `XEN_NETIF_GSO_TYPE_*`, 0, features (two bytes). Multicast: the
    /// address. Hash: type, algorithm, value (four bytes).
    pub u: [u8; 6],
}
layout! { NetifExtraInfo: 8 { r#type: 0, flags: 1, u: 2 } }
