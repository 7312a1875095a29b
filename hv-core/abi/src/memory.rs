//! Memory reservation, maps and exchange (`memory_op`).
//!
//! Source: Xen `include/public/memory.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// More frames.
pub const XENMEM_INCREASE_RESERVATION: u32 = 0;
/// Fewer frames.
pub const XENMEM_DECREASE_RESERVATION: u32 = 1;
/// Highest frame of the host.
pub const XENMEM_MAXIMUM_RAM_PAGE: u32 = 2;
/// Frames a domain has.
pub const XENMEM_CURRENT_RESERVATION: u32 = 3;
/// Frames a domain may have.
pub const XENMEM_MAXIMUM_RESERVATION: u32 = 4;
/// Frames of the machine-to-physical table.
pub const XENMEM_MACHPHYS_MFN_LIST: u32 = 5;
/// Frames at given PFNs.
pub const XENMEM_POPULATE_PHYSMAP: u32 = 6;
/// Places a special page (translated guests).
pub const XENMEM_ADD_TO_PHYSMAP: u32 = 7;
/// The domain's E820.
pub const XENMEM_MEMORY_MAP: u32 = 9;
/// The host's E820.
pub const XENMEM_MACHINE_MEMORY_MAP: u32 = 10;
/// Swaps frames for contiguous or low ones.
pub const XENMEM_EXCHANGE: u32 = 11;
/// Address range of the machine-to-physical table.
pub const XENMEM_MACHPHYS_MAPPING: u32 = 12;
/// Sets a domain's E820.
pub const XENMEM_SET_MEMORY_MAP: u32 = 13;
/// Highest PFN of a domain.
pub const XENMEM_MAXIMUM_GPFN: u32 = 14;
/// Removes a special page.
pub const XENMEM_REMOVE_FROM_PHYSMAP: u32 = 15;
/// Populate on demand.
pub const XENMEM_SET_POD_TARGET: u32 = 16;
/// Populate on demand.
pub const XENMEM_GET_POD_TARGET: u32 = 17;
/// Page sharing.
pub const XENMEM_GET_SHARING_FREED_PAGES: u32 = 18;
/// Page sharing.
pub const XENMEM_GET_SHARING_SHARED_PAGES: u32 = 19;
/// Paging out.
pub const XENMEM_PAGING_OP: u32 = 20;
/// Access rights.
pub const XENMEM_ACCESS_OP: u32 = 21;
/// Page sharing.
pub const XENMEM_SHARING_OP: u32 = 22;
/// Places special pages.
pub const XENMEM_ADD_TO_PHYSMAP_BATCH: u32 = 23;
/// Reserves frames for a domain being built.
pub const XENMEM_CLAIM_PAGES: u32 = 24;
/// 32-bit machine-to-physical table.
pub const XENMEM_MACHPHYS_COMPAT_MFN_LIST: u32 = 25;
/// Virtual NUMA.
pub const XENMEM_GET_VNUMAINFO: u32 = 26;
/// Reserved device memory.
pub const XENMEM_RESERVED_DEVICE_MEMORY_MAP: u32 = 27;
/// Frames of a domain's resource.
pub const XENMEM_ACQUIRE_RESOURCE: u32 = 28;
/// Shift of a continuation's start extent in the command.
pub const MEMOP_EXTENT_SHIFT: u32 = 6;
/// Bits of the command.
pub const MEMOP_CMD_MASK: u32 = 0x3f;
/// Flags: address width.
pub const XENMEMF_ADDRESS_BITS_MASK: u32 = 0xff;
/// Flags: shift of node + 1 (8 bits).
pub const XENMEMF_NODE_SHIFT: u32 = 8;
/// Flags: populate on demand.
pub const XENMEMF_POPULATE_ON_DEMAND: u32 = 0x1_0000;
/// Flags: that node only.
pub const XENMEMF_EXACT_NODE_REQUEST: u32 = 0x2_0000;
/// Flags: the node is virtual.
pub const XENMEMF_VNODE: u32 = 0x4_0000;
/// Shared info page.
pub const XENMAPSPACE_SHARED_INFO: u32 = 0;
/// Grant table page.
pub const XENMAPSPACE_GRANT_TABLE: u32 = 1;
/// A frame.
pub const XENMAPSPACE_GMFN: u32 = 2;
/// Frames.
pub const XENMAPSPACE_GMFN_RANGE: u32 = 3;
/// Another domain's frame.
pub const XENMAPSPACE_GMFN_FOREIGN: u32 = 4;
/// Index: status page.
pub const XENMAPIDX_GRANT_TABLE_STATUS: u32 = 0x8000_0000;
/// Resource: device model pages.
pub const XENMEM_RESOURCE_IOREQ_SERVER: u16 = 0;
/// Resource: grant table.
pub const XENMEM_RESOURCE_GRANT_TABLE: u16 = 1;
/// Resource: trace buffer.
pub const XENMEM_RESOURCE_VMTRACE_BUF: u16 = 2;
/// Grant entries.
pub const XENMEM_RESOURCE_GRANT_TABLE_ID_SHARED: u32 = 0;
/// Version 2's status.
pub const XENMEM_RESOURCE_GRANT_TABLE_ID_STATUS: u32 = 1;

/// `struct xen_memory_reservation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenMemoryReservation {
    /// Pointer to frame numbers.
    pub extent_start: u64,
    /// Number of extents.
    pub nr_extents: u64,
    /// log2 of an extent's frames.
    pub extent_order: u32,
    /// `XENMEMF_*`.
    pub mem_flags: u32,
    /// Domain.
    pub domid: u16,
    /// Padding.
    pub _pad: [u16; 3],
}
layout! { XenMemoryReservation: 32 { extent_start: 0, nr_extents: 8, extent_order: 16, mem_flags: 20, domid: 24, _pad: 26 } }

/// `struct xen_memory_exchange`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenMemoryExchange {
    /// Frames given.
    pub r#in: XenMemoryReservation,
    /// Frames taken.
    pub out: XenMemoryReservation,
    /// In: progress; out: input extents exchanged.
    pub nr_exchanged: u64,
}
layout! { XenMemoryExchange: 72 { r#in: 0, out: 32, nr_exchanged: 64 } }

/// `struct xen_memory_domain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenMemoryDomain {
    /// Domain.
    pub domid: u16,
}
layout! { XenMemoryDomain: 2 { domid: 0 } }

/// `struct xen_machphys_mfn_list`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenMachphysMfnList {
    /// Capacity.
    pub max_extents: u32,
    /// Padding.
    pub _pad0: u32,
    /// Pointer to frame numbers.
    pub extent_start: u64,
    /// Out: entries written.
    pub nr_extents: u32,
    /// Padding.
    pub _pad1: u32,
}
layout! { XenMachphysMfnList: 24 { max_extents: 0, _pad0: 4, extent_start: 8, nr_extents: 16, _pad1: 20 } }

/// `struct xen_machphys_mapping`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenMachphysMapping {
    /// First address.
    pub v_start: u64,
    /// First address above.
    pub v_end: u64,
    /// Highest frame with an entry.
    pub max_mfn: u64,
}
layout! { XenMachphysMapping: 24 { v_start: 0, v_end: 8, max_mfn: 16 } }

/// `struct xen_add_to_physmap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenAddToPhysmap {
    /// Domain.
    pub domid: u16,
    /// Pages.
    pub size: u16,
    /// `XENMAPSPACE_*`.
    pub space: u32,
    /// Index in that space.
    pub idx: u64,
    /// Where.
    pub gpfn: u64,
}
layout! { XenAddToPhysmap: 24 { domid: 0, size: 2, space: 4, idx: 8, gpfn: 16 } }

/// `struct xen_add_to_physmap_batch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenAddToPhysmapBatch {
    /// Domain.
    pub domid: u16,
    /// `XENMAPSPACE_*`.
    pub space: u16,
    /// Pages.
    pub size: u16,
    /// Union: foreign domain or 0.
    pub u: u16,
    /// Pointer to indices.
    pub idxs: u64,
    /// Pointer to PFNs.
    pub gpfns: u64,
    /// Pointer to errors.
    pub errs: u64,
}
layout! { XenAddToPhysmapBatch: 32 { domid: 0, space: 2, size: 4, u: 6, idxs: 8, gpfns: 16, errs: 24 } }

/// `struct xen_remove_from_physmap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenRemoveFromPhysmap {
    /// Domain.
    pub domid: u16,
    /// Padding.
    pub _pad: [u16; 3],
    /// Where.
    pub gpfn: u64,
}
layout! { XenRemoveFromPhysmap: 16 { domid: 0, _pad: 2, gpfn: 8 } }

/// `struct xen_memory_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenMemoryMap {
    /// In: capacity; out: entries.
    pub nr_entries: u32,
    /// Padding.
    pub _pad: u32,
    /// Pointer to [`E820Entry`]s.
    pub buffer: u64,
}
layout! { XenMemoryMap: 16 { nr_entries: 0, _pad: 4, buffer: 8 } }

/// `struct xen_foreign_memory_map`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenForeignMemoryMap {
    /// Domain.
    pub domid: u16,
    /// Padding.
    pub _pad: [u16; 3],
    /// Its map.
    pub map: XenMemoryMap,
}
layout! { XenForeignMemoryMap: 24 { domid: 0, _pad: 2, map: 8 } }

/// One entry of an E820 map (packed, so 64-bit fields are halves; ACPI specification, INT 15h E820h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct E820Entry {
    /// First byte, low half.
    pub addr_lo: u32,
    /// First byte, high half.
    pub addr_hi: u32,
    /// Bytes, low half.
    pub size_lo: u32,
    /// Bytes, high half.
    pub size_hi: u32,
    /// `E820_*`.
    pub r#type: u32,
}
layout! { E820Entry: 20 { addr_lo: 0, addr_hi: 4, size_lo: 8, size_hi: 12, r#type: 16 } }
impl E820Entry {
    /// An entry of `size` bytes at `addr`.
    #[must_use]
    pub const fn new(addr: u64, size: u64, r#type: u32) -> Self {
        Self {
            addr_lo: addr as u32,
            addr_hi: (addr >> 32) as u32,
            size_lo: size as u32,
            size_hi: (size >> 32) as u32,
            r#type,
        }
    }

    /// First byte's physical address.
    #[must_use]
    pub const fn addr(&self) -> u64 {
        self.addr_lo as u64 | (self.addr_hi as u64) << 32
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size_lo as u64 | (self.size_hi as u64) << 32
    }
}

/// Usable memory.
pub const E820_RAM: u32 = 1;
/// Reserved.
pub const E820_RESERVED: u32 = 2;
/// ACPI tables.
pub const E820_ACPI: u32 = 3;
/// ACPI non-volatile storage.
pub const E820_NVS: u32 = 4;
/// Faulty memory.
pub const E820_UNUSABLE: u32 = 5;

/// `struct xen_mem_acquire_resource`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenMemAcquireResource {
    /// Domain.
    pub domid: u16,
    /// `XENMEM_RESOURCE_*`.
    pub r#type: u16,
    /// Which of that type.
    pub id: u32,
    /// Frames.
    pub nr_frames: u32,
    /// Must be zero.
    pub pad: u32,
    /// First frame's index.
    pub frame: u64,
    /// Pointer to frame numbers.
    pub frame_list: u64,
}
layout! { XenMemAcquireResource: 32 { domid: 0, r#type: 2, id: 4, nr_frames: 8, pad: 12, frame: 16, frame_list: 24 } }
