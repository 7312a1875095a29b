//! Bodies of records, and numbers in them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `X86_PV_INFO`.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PvInfo {
    pub guest_width: u8,
    pub page_table_levels: u8,
    pub reserved: [u8; 6],
}

/// The only kind of guest there is: 64-bit.
pub const PV_INFO: PvInfo = PvInfo {
    guest_width: 8,
    page_table_levels: 4,
    reserved: [0; 6],
};

/// Head of `PAGE_DATA`: then that many PFNs with their types, then the pages that have content.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PageData {
    pub count: u32,
    pub reserved: u32,
}

/// Head of `X86_PV_P2M_FRAMES`: then the PFN of each page of the P2M list.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct P2mFrames {
    pub first: u32,
    /// The last one, not the one after it.
    pub last: u32,
}

/// Head of the records of a vCPU.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuHead {
    pub vcpu: u32,
    pub reserved: u32,
}

/// `X86_TSC_INFO`.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Tsc {
    pub mode: u32,
    pub khz: u32,
    pub nsec: u64,
    pub incarnation: u32,
    pub reserved: u32,
}

/// PFNs of the P2M list in one of its pages.
pub const PFNS_PER_PAGE: u64 = 512;
/// Pages in a `PAGE_DATA`.
pub const BATCH: usize = 1024;

/// What a page is, as streams say it: bits 28 to 31 of what the hypervisor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageType(pub u8);

impl PageType {
    /// There is no such page.
    pub const NONE: Self = Self(0xf);
    /// It is broken.
    const BROKEN: Self = Self(0xd);
    /// It is there, its content does not matter.
    const EMPTY: Self = Self(0xe);
    const PINNED: u8 = 8;

    /// Of `XEN_DOMCTL_PFINFO_*`.
    pub const fn of(info: u32) -> Self {
        Self((info >> 28) as u8)
    }

    /// Level of a page table.
    pub const fn table_level(self) -> Option<u32> {
        match self.0 & !Self::PINNED {
            level @ 1..=4 => Some(level as u32),
            _ => None,
        }
    }

    /// A pinned page table.
    pub const fn is_pinned(self) -> bool {
        self.0 & Self::PINNED != 0 && self.table_level().is_some()
    }

    /// Its content is in the stream.
    pub const fn has_content(self) -> bool {
        self.0 == 0 || self.table_level().is_some()
    }

    /// The domain has memory there.
    pub fn is_memory(self) -> bool {
        self.has_content() || self == Self::EMPTY
    }

    /// It is one of those that there are.
    pub fn is_known(self) -> bool {
        self.is_memory() || self == Self::BROKEN || self == Self::NONE
    }
}

/// A PFN and its type, as `PAGE_DATA` has them.
pub const fn packed(pfn: u64, kind: PageType) -> u64 {
    pfn | (kind.0 as u64) << 60
}

/// The PFN and the type.
pub const fn unpacked(word: u64) -> (u64, PageType) {
    (word & ((1 << 52) - 1), PageType((word >> 60) as u8))
}

/// Present bit of a page-table entry.
pub const PTE_PRESENT: u64 = 1;
/// The frame in a page-table entry: bits 12 to 51.
pub const PTE_FRAME: u64 = ((1 << 52) - 1) & !0xfff;

/// A page-table entry with another frame.
pub const fn with_frame(entry: u64, frame: u64) -> u64 {
    entry & !PTE_FRAME | (frame << 12 & PTE_FRAME)
}

/// Whether an entry of an L4 table is the hypervisor's.
pub const fn is_hypervisor_slot(level: u32, index: usize) -> bool {
    level == 4 && index >= 256 && index < 272
}
