//! Grant tables.
//!
//! Source: Xen `include/public/grant_table.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Maps a grant.
pub const GNTTABOP_MAP_GRANT_REF: u32 = 0;
/// Unmaps a grant.
pub const GNTTABOP_UNMAP_GRANT_REF: u32 = 1;
/// Grows the table and lists its frames.
pub const GNTTABOP_SETUP_TABLE: u32 = 2;
/// Prints the table.
pub const GNTTABOP_DUMP_TABLE: u32 = 3;
/// Gives a frame away.
pub const GNTTABOP_TRANSFER: u32 = 4;
/// Copies bytes.
pub const GNTTABOP_COPY: u32 = 5;
/// Size of the table.
pub const GNTTABOP_QUERY_SIZE: u32 = 6;
/// Unmaps and moves another mapping in.
pub const GNTTABOP_UNMAP_AND_REPLACE: u32 = 7;
/// Selects the entry format.
pub const GNTTABOP_SET_VERSION: u32 = 8;
/// Frames of version 2's status.
pub const GNTTABOP_GET_STATUS_FRAMES: u32 = 9;
/// The entry format.
pub const GNTTABOP_GET_VERSION: u32 = 10;
/// Exchanges two entries.
pub const GNTTABOP_SWAP_GRANT_REF: u32 = 11;
/// Cache maintenance.
pub const GNTTABOP_CACHE_FLUSH: u32 = 12;
/// First entry free for the guest's own use.
pub const GNTTAB_NR_RESERVED_ENTRIES: u32 = 8;
/// Entry of the console ring.
pub const GNTTAB_RESERVED_CONSOLE: u32 = 0;
/// Entry of the xenstore ring.
pub const GNTTAB_RESERVED_XENSTORE: u32 = 1;
/// Entry type: no grant.
pub const GTF_INVALID: u16 = 0;
/// Entry type: access.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// Entry type: accepts a frame.
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// Entry type: grants a grant (version 2).
pub const GTF_TRANSITIVE: u16 = 3;
/// Bits of the type.
pub const GTF_TYPE_MASK: u16 = 3;
/// Read access only.
pub const GTF_READONLY: u16 = 4;
/// In use for reading (set by the hypervisor).
pub const GTF_READING: u16 = 8;
/// In use for writing (set by the hypervisor).
pub const GTF_WRITING: u16 = 16;
/// Cache attribute (unused).
pub const GTF_PWT: u16 = 32;
/// Cache attribute (unused).
pub const GTF_PCD: u16 = 64;
/// Cache attribute (unused).
pub const GTF_PAT: u16 = 128;
/// Part of a page (version 2).
pub const GTF_SUB_PAGE: u16 = 256;
/// Transfer will happen.
pub const GTF_TRANSFER_COMMITTED: u16 = 4;
/// Transfer has happened.
pub const GTF_TRANSFER_COMPLETED: u16 = 8;
/// Map for devices.
pub const GNTMAP_DEVICE_MAP: u32 = 1;
/// Map for CPUs.
pub const GNTMAP_HOST_MAP: u32 = 2;
/// Map read-only.
pub const GNTMAP_READONLY: u32 = 4;
/// Accessible to user mode.
pub const GNTMAP_APPLICATION_MAP: u32 = 8;
/// `host_addr` is the machine address of an L1 entry.
pub const GNTMAP_CONTAINS_PTE: u32 = 16;
/// Shift of the available bits in the flags.
pub const GNTMAP_GUEST_AVAIL0: u32 = 16;
/// Source is a grant.
pub const GNTCOPY_SOURCE_GREF: u16 = 1;
/// Destination is a grant.
pub const GNTCOPY_DEST_GREF: u16 = 2;
/// Success.
pub const GNTST_OKAY: i16 = 0;
/// Anything else.
pub const GNTST_GENERAL_ERROR: i16 = -1;
/// Unknown domain.
pub const GNTST_BAD_DOMAIN: i16 = -2;
/// Bad grant reference.
pub const GNTST_BAD_GNTREF: i16 = -3;
/// Bad handle.
pub const GNTST_BAD_HANDLE: i16 = -4;
/// Bad virtual address.
pub const GNTST_BAD_VIRT_ADDR: i16 = -5;
/// Bad device address.
pub const GNTST_BAD_DEV_ADDR: i16 = -6;
/// IOMMU is full.
pub const GNTST_NO_DEVICE_SPACE: i16 = -7;
/// Not permitted.
pub const GNTST_PERMISSION_DENIED: i16 = -8;
/// Bad page.
pub const GNTST_BAD_PAGE: i16 = -9;
/// Copy crosses a page.
pub const GNTST_BAD_COPY_ARG: i16 = -10;
/// Transferred page's address is too large.
pub const GNTST_ADDRESS_TOO_BIG: i16 = -11;
/// Try again.
pub const GNTST_EAGAIN: i16 = -12;
/// Out of handles.
pub const GNTST_NO_SPACE: i16 = -13;

/// `struct grant_entry_v1`: one entry of the table (written concurrently by both sides).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GrantEntryV1 {
    /// `GTF_*`.
    pub flags: u16,
    /// Grantee.
    pub domid: u16,
    /// Frame.
    pub frame: u32,
}
layout! { GrantEntryV1: 8 { flags: 0, domid: 2, frame: 4 } }

/// `struct gnttab_map_grant_ref`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabMapGrantRef {
    /// Where to map.
    pub host_addr: u64,
    /// `GNTMAP_*`.
    pub flags: u32,
    /// Grant reference.
    pub r#ref: u32,
    /// Granter.
    pub dom: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Out: handle.
    pub handle: u32,
    /// Out: machine address.
    pub dev_bus_addr: u64,
}
layout! { GnttabMapGrantRef: 32 { host_addr: 0, flags: 8, r#ref: 12, dom: 16, status: 18, handle: 20, dev_bus_addr: 24 } }

/// `struct gnttab_unmap_grant_ref`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabUnmapGrantRef {
    /// Where it is mapped.
    pub host_addr: u64,
    /// Machine address or 0.
    pub dev_bus_addr: u64,
    /// Handle.
    pub handle: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad: u16,
}
layout! { GnttabUnmapGrantRef: 24 { host_addr: 0, dev_bus_addr: 8, handle: 16, status: 20, _pad: 22 } }

/// `struct gnttab_setup_table`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabSetupTable {
    /// Domain.
    pub dom: u16,
    /// Padding.
    pub _pad0: u16,
    /// Frames wanted.
    pub nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad1: [u16; 3],
    /// Pointer to the frame numbers.
    pub frame_list: u64,
}
layout! { GnttabSetupTable: 24 { dom: 0, _pad0: 2, nr_frames: 4, status: 8, _pad1: 10, frame_list: 16 } }

/// `struct gnttab_dump_table`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabDumpTable {
    /// Domain.
    pub dom: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
}
layout! { GnttabDumpTable: 4 { dom: 0, status: 2 } }

/// `struct gnttab_transfer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabTransfer {
    /// Frame to give away.
    pub mfn: u64,
    /// Receiver.
    pub domid: u16,
    /// Padding.
    pub _pad0: u16,
    /// Receiver's grant reference.
    pub r#ref: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad1: [u16; 3],
}
layout! { GnttabTransfer: 24 { mfn: 0, domid: 8, _pad0: 10, r#ref: 12, status: 16, _pad1: 18 } }

/// `struct gnttab_copy_ptr`: one side of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabCopyPtr {
    /// Union: grant reference (low 32 bits) or frame.
    pub u: u64,
    /// Domain.
    pub domid: u16,
    /// Offset in the frame.
    pub offset: u16,
    /// Padding.
    pub _pad: u32,
}
layout! { GnttabCopyPtr: 16 { u: 0, domid: 8, offset: 10, _pad: 12 } }

/// `struct gnttab_copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabCopy {
    /// From.
    pub source: GnttabCopyPtr,
    /// To.
    pub dest: GnttabCopyPtr,
    /// Bytes.
    pub len: u16,
    /// `GNTCOPY_*`.
    pub flags: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad: u16,
}
layout! { GnttabCopy: 40 { source: 0, dest: 16, len: 32, flags: 34, status: 36, _pad: 38 } }

/// `struct gnttab_query_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabQuerySize {
    /// Domain.
    pub dom: u16,
    /// Padding.
    pub _pad0: u16,
    /// Out: frames.
    pub nr_frames: u32,
    /// Out: most frames.
    pub max_nr_frames: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad1: u16,
}
layout! { GnttabQuerySize: 16 { dom: 0, _pad0: 2, nr_frames: 4, max_nr_frames: 8, status: 12, _pad1: 14 } }

/// `struct gnttab_unmap_and_replace`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabUnmapAndReplace {
    /// Where it is mapped.
    pub host_addr: u64,
    /// Whose mapping takes its place.
    pub new_addr: u64,
    /// Handle.
    pub handle: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad: u16,
}
layout! { GnttabUnmapAndReplace: 24 { host_addr: 0, new_addr: 8, handle: 16, status: 20, _pad: 22 } }

/// `struct gnttab_set_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabSetVersion {
    /// In and out: version.
    pub version: u32,
}
layout! { GnttabSetVersion: 4 { version: 0 } }

/// `struct gnttab_get_status_frames`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabGetStatusFrames {
    /// Frames.
    pub nr_frames: u32,
    /// Domain.
    pub dom: u16,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Pointer to the frame numbers.
    pub frame_list: u64,
}
layout! { GnttabGetStatusFrames: 16 { nr_frames: 0, dom: 4, status: 6, frame_list: 8 } }

/// `struct gnttab_get_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabGetVersion {
    /// Domain.
    pub dom: u16,
    /// Padding.
    pub pad: u16,
    /// Out: version.
    pub version: u32,
}
layout! { GnttabGetVersion: 8 { dom: 0, pad: 2, version: 4 } }

/// `struct gnttab_swap_grant_ref`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabSwapGrantRef {
    /// One.
    pub ref_a: u32,
    /// The other.
    pub ref_b: u32,
    /// Out: `GNTST_*`.
    pub status: i16,
    /// Padding.
    pub _pad: u16,
}
layout! { GnttabSwapGrantRef: 12 { ref_a: 0, ref_b: 4, status: 8, _pad: 10 } }

/// `struct gnttab_cache_flush`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct GnttabCacheFlush {
    /// Union: device address or grant reference.
    pub a: u64,
    /// Offset in bytes.
    pub offset: u16,
    /// Length in bytes.
    pub length: u16,
    /// What to do.
    pub op: u32,
}
layout! { GnttabCacheFlush: 16 { a: 0, offset: 8, length: 10, op: 12 } }
