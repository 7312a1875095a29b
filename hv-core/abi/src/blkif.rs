//! The block device's ring.
//!
//! Source: Xen `include/public/io/blkif.h`. Sectors have 512 bytes here whatever the device's own
//! have, as long as the frontend does not write `feature-large-sector-size`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Reads sectors.
pub const BLKIF_OP_READ: u8 = 0;
/// Writes sectors.
pub const BLKIF_OP_WRITE: u8 = 1;
/// Writes sectors (or none), after all writes before and before all after.
pub const BLKIF_OP_WRITE_BARRIER: u8 = 2;
/// Makes durable what was written.
pub const BLKIF_OP_FLUSH_DISKCACHE: u8 = 3;
/// Gives sectors up.
pub const BLKIF_OP_DISCARD: u8 = 5;
/// Reads or writes with segments in pages of their own.
pub const BLKIF_OP_INDIRECT: u8 = 6;
/// Segments within a request.
pub const BLKIF_MAX_SEGMENTS_PER_REQUEST: usize = 11;
/// Pages of segments of an indirect request.
pub const BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST: usize = 8;
/// Flag of a discard: leave no copy.
pub const BLKIF_DISCARD_SECURE: u8 = 1;
/// Status: done.
pub const BLKIF_RSP_OKAY: i16 = 0;
/// Status: failed.
pub const BLKIF_RSP_ERROR: i16 = -1;
/// Status: the backend does not know that operation.
pub const BLKIF_RSP_EOPNOTSUPP: i16 = -2;
/// Bit of `info`: a CD.
pub const VDISK_CDROM: u32 = 1;
/// Bit of `info`: a medium that can be removed.
pub const VDISK_REMOVABLE: u32 = 2;
/// Bit of `info`: not for writing.
pub const VDISK_READONLY: u32 = 4;

/// `struct blkif_request_segment`: a run of sectors in a granted page.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct BlkifRequestSegment {
    /// The page's grant reference.
    pub gref: u32,
    /// First sector in the page.
    pub first_sect: u8,
    /// Last sector in the page.
    pub last_sect: u8,
    /// Padding.
    pub _pad: [u8; 2],
}
layout! { BlkifRequestSegment: 8 { gref: 0, first_sect: 4, last_sect: 5, _pad: 6 } }

/// `struct blkif_request`: a request, and the size of all kinds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct BlkifRequest {
    /// `BLKIF_OP_*`.
    pub operation: u8,
    /// Segments that count.
    pub nr_segments: u8,
    /// The device's number; nobody needs it.
    pub handle: u16,
    /// Padding.
    pub _pad: u32,
    /// The frontend's own, echoed.
    pub id: u64,
    /// First sector of the device.
    pub sector_number: u64,
    /// Where data comes from or goes to.
    pub seg: [BlkifRequestSegment; BLKIF_MAX_SEGMENTS_PER_REQUEST],
}
layout! { BlkifRequest: 112 { operation: 0, nr_segments: 1, handle: 2, _pad: 4, id: 8, sector_number: 16, seg: 24 } }

/// `struct blkif_request_discard`: the same bytes when `operation` is `BLKIF_OP_DISCARD`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct BlkifRequestDiscard {
    /// `BLKIF_OP_DISCARD`.
    pub operation: u8,
    /// `BLKIF_DISCARD_SECURE` or 0.
    pub flag: u8,
    /// As in [`BlkifRequest`].
    pub handle: u16,
    /// Padding.
    pub _pad: u32,
    /// As in [`BlkifRequest`].
    pub id: u64,
    /// First sector of the device.
    pub sector_number: u64,
    /// How many.
    pub nr_sectors: u64,
}
layout! { BlkifRequestDiscard: 32 { operation: 0, flag: 1, handle: 2, _pad: 4, id: 8, sector_number: 16, nr_sectors: 24 } }

/// `struct blkif_request_indirect`: the same bytes when `operation` is `BLKIF_OP_INDIRECT`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct BlkifRequestIndirect {
    /// `BLKIF_OP_INDIRECT`.
    pub operation: u8,
    /// `BLKIF_OP_READ` or `BLKIF_OP_WRITE`; this is what the response echoes.
    pub indirect_op: u8,
    /// Segments that count.
    pub nr_segments: u16,
    /// Padding.
    pub _pad: u32,
    /// As in [`BlkifRequest`].
    pub id: u64,
    /// First sector of the device.
    pub sector_number: u64,
    /// As in [`BlkifRequest`].
    pub handle: u16,
    /// Padding.
    pub _pad2: u16,
    /// Pages full of [`BlkifRequestSegment`]s.
    pub indirect_grefs: [u32; BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST],
    /// Padding.
    pub _pad3: u32,
}
layout! { BlkifRequestIndirect: 64 { operation: 0, indirect_op: 1, nr_segments: 2, _pad: 4, id: 8, sector_number: 16, handle: 24, _pad2: 26, indirect_grefs: 28, _pad3: 60 } }

/// `struct blkif_response`: an answer.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable,
)]
#[repr(C)]
pub struct BlkifResponse {
    /// The request's.
    pub id: u64,
    /// The request's.
    pub operation: u8,
    /// Padding.
    pub _pad: u8,
    /// `BLKIF_RSP_*`.
    pub status: i16,
    /// Padding.
    pub _pad2: u32,
}
layout! { BlkifResponse: 16 { id: 0, operation: 8, _pad: 9, status: 10, _pad2: 12 } }
