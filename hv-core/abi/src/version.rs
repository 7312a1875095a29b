//! Version and features of the hypervisor.
//!
//! Source: Xen `include/public/version.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Major in the high, minor in the low half.
pub const XENVER_VERSION: u32 = 0;
/// Text after the minor number.
pub const XENVER_EXTRAVERSION: u32 = 1;
/// How it was built.
pub const XENVER_COMPILE_INFO: u32 = 2;
/// Guest types.
pub const XENVER_CAPABILITIES: u32 = 3;
/// Source revision.
pub const XENVER_CHANGESET: u32 = 4;
/// Start of the hypervisor's range.
pub const XENVER_PLATFORM_PARAMETERS: u32 = 5;
/// Feature flags.
pub const XENVER_GET_FEATURES: u32 = 6;
/// Page size.
pub const XENVER_PAGESIZE: u32 = 7;
/// The domain's UUID.
pub const XENVER_GUEST_HANDLE: u32 = 8;
/// The hypervisor's command line.
pub const XENVER_COMMANDLINE: u32 = 9;
/// Build id.
pub const XENVER_BUILD_ID: u32 = 10;
/// What Xen 4.17 answers to `XENVER_VERSION`.
pub const XEN_VERSION_4_17: u32 = 0x0004_0011;
/// Bytes.
pub const XEN_EXTRAVERSION_LEN: usize = 16;
/// Bytes.
pub const XEN_CAPABILITIES_INFO_LEN: usize = 1024;
/// Bytes.
pub const XEN_CHANGESET_INFO_LEN: usize = 64;
/// Bytes.
pub const XEN_COMMANDLINE_LEN: usize = 1024;

/// `struct xen_compile_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenCompileInfo {
    /// Compiler.
    pub compiler: [u8; 64],
    /// Who.
    pub compile_by: [u8; 16],
    /// Where.
    pub compile_domain: [u8; 32],
    /// When.
    pub compile_date: [u8; 32],
}
layout! { XenCompileInfo: 144 { compiler: 0, compile_by: 64, compile_domain: 80, compile_date: 112 } }

/// `struct xen_platform_parameters`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenPlatformParameters {
    /// First address of the hypervisor's range.
    pub virt_start: u64,
}
layout! { XenPlatformParameters: 8 { virt_start: 0 } }

/// `struct xen_feature_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenFeatureInfo {
    /// Which 32 flags.
    pub submap_idx: u32,
    /// Out: the flags.
    pub submap: u32,
}
layout! { XenFeatureInfo: 8 { submap_idx: 0, submap: 4 } }

/// `struct xen_build_id`, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenBuildId {
    /// Bytes that follow.
    pub len: u32,
}
layout! { XenBuildId: 4 { len: 0 } }
