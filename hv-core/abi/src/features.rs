//! Feature flags (`XENVER_get_features`, ELF notes).
//!
//! Source: Xen `include/public/features.h`.

/// Page tables may be written directly.
pub const XENFEAT_WRITABLE_PAGE_TABLES: u32 = 0;
/// Descriptor tables may be written directly.
pub const XENFEAT_WRITABLE_DESCRIPTOR_TABLES: u32 = 1;
/// The hypervisor translates guest frames.
pub const XENFEAT_AUTO_TRANSLATED_PHYSMAP: u32 = 2;
/// The kernel runs in ring 0.
pub const XENFEAT_SUPERVISOR_MODE_KERNEL: u32 = 3;
/// Page directories may lie above 4 GiB.
pub const XENFEAT_PAE_PGDIR_ABOVE_4GB: u32 = 4;
/// `MMU_PT_UPDATE_PRESERVE_AD` works.
pub const XENFEAT_MMU_PT_UPDATE_PRESERVE_AD: u32 = 5;
/// Clear and copy page commands work.
pub const XENFEAT_HIGHMEM_ASSIST: u32 = 6;
/// Grant maps set available bits.
pub const XENFEAT_GNTTAB_MAP_AVAIL_BITS: u32 = 7;
/// HVM: callback vector.
pub const XENFEAT_HVM_CALLBACK_VECTOR: u32 = 8;
/// HVM: safe clock.
pub const XENFEAT_HVM_SAFE_PVCLOCK: u32 = 9;
/// HVM: physical interrupts.
pub const XENFEAT_HVM_PIRQS: u32 = 10;
/// The kernel may be, or is, dom0.
pub const XENFEAT_DOM0: u32 = 11;
/// Grant maps are identity in the IOMMU.
pub const XENFEAT_GRANT_MAP_IDENTITY: u32 = 12;
/// `XENMEMF_vnode` works.
pub const XENFEAT_MEMORY_OP_VNODE_SUPPORTED: u32 = 13;
/// ARM only.
pub const XENFEAT_ARM_SMCCC_SUPPORTED: u32 = 14;
/// PVH Linux finds the RSDP anywhere.
pub const XENFEAT_LINUX_RSDP_UNRESTRICTED: u32 = 15;
/// The domain is not direct mapped.
pub const XENFEAT_NOT_DIRECT_MAPPED: u32 = 16;
/// The domain is direct mapped.
pub const XENFEAT_DIRECT_MAPPED: u32 = 17;
