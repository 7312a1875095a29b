//! ELF note types of PV kernels (name `Xen`).
//!
//! Source: Xen `include/public/elfnote.h`.

/// Free text.
pub const XEN_ELFNOTE_INFO: u32 = 0;
/// Entry point.
pub const XEN_ELFNOTE_ENTRY: u32 = 1;
/// Page to fill with hypercall stubs.
pub const XEN_ELFNOTE_HYPERCALL_PAGE: u32 = 2;
/// Address of PFN 0.
pub const XEN_ELFNOTE_VIRT_BASE: u32 = 3;
/// Subtracted from segments' physical addresses.
pub const XEN_ELFNOTE_PADDR_OFFSET: u32 = 4;
/// `"xen-3.0"`.
pub const XEN_ELFNOTE_XEN_VERSION: u32 = 5;
/// Name.
pub const XEN_ELFNOTE_GUEST_OS: u32 = 6;
/// Version.
pub const XEN_ELFNOTE_GUEST_VERSION: u32 = 7;
/// `"generic"`.
pub const XEN_ELFNOTE_LOADER: u32 = 8;
/// 32-bit: PAE.
pub const XEN_ELFNOTE_PAE_MODE: u32 = 9;
/// Feature names.
pub const XEN_ELFNOTE_FEATURES: u32 = 10;
/// Wants its symbol table loaded.
pub const XEN_ELFNOTE_BSD_SYMTAB: u32 = 11;
/// 32-bit: lowest hypervisor address.
pub const XEN_ELFNOTE_HV_START_LOW: u32 = 12;
/// How to recognise present entries.
pub const XEN_ELFNOTE_L1_MFN_VALID: u32 = 13;
/// Understands a cancelled suspend.
pub const XEN_ELFNOTE_SUSPEND_CANCEL: u32 = 14;
/// Where the P2M list shall be.
pub const XEN_ELFNOTE_INIT_P2M: u32 = 15;
/// The module may be unmapped.
pub const XEN_ELFNOTE_MOD_START_PFN: u32 = 16;
/// Bitmap of `XENFEAT_*`.
pub const XEN_ELFNOTE_SUPPORTED_FEATURES: u32 = 17;
/// PVH entry point.
pub const XEN_ELFNOTE_PHYS32_ENTRY: u32 = 18;
/// Last type.
pub const XEN_ELFNOTE_MAX: u32 = 18;
