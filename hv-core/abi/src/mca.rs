//! Machine checks, as dom0 hears of them.
//!
//! Source: Xen `include/public/arch-x86/xen-mca.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version callers must state.
pub const XEN_MCA_INTERFACE_VERSION: u32 = 0x01ec_c003;
/// Fetches what was logged.
pub const XEN_MC_FETCH: u32 = 1;
/// Passes an error on to a guest.
pub const XEN_MC_NOTIFYDOMAIN: u32 = 2;
/// Physical CPUs.
pub const XEN_MC_PHYSCPUINFO: u32 = 3;
/// Fetch: what is not urgent.
pub const XEN_MC_NONURGENT: u32 = 1;
/// Fetch: what is urgent.
pub const XEN_MC_URGENT: u32 = 2;
/// Fetch: what was fetched is dealt with.
pub const XEN_MC_ACK: u32 = 4;
/// Fetch: there is nothing.
pub const XEN_MC_NODATA: u32 = 2;

/// `struct xen_mc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenMc {
    /// `XEN_MC_*`.
    pub cmd: u32,
    /// `XEN_MCA_INTERFACE_VERSION`.
    pub interface_version: u32,
    /// Union of the commands' structs.
    pub u: [u64; 18],
}
layout! { XenMc: 152 { cmd: 0, interface_version: 4, u: 8 } }

/// `struct xen_mc_fetch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenMcFetch {
    /// In: which; out: what came of it.
    pub flags: u32,
    /// Padding.
    pub _pad0: u32,
    /// Number for the acknowledgement.
    pub fetch_id: u64,
    /// Guest address for the data.
    pub data: u64,
}
layout! { XenMcFetch: 24 { flags: 0, fetch_id: 8, data: 16 } }

/// `struct xen_mc_physcpuinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenMcPhyscpuinfo {
    /// In: room; out: CPUs.
    pub ncpus: u32,
    /// Padding.
    pub _pad0: u32,
    /// Guest address of an array of [`McinfoLogicalCpu`]; 0: only the number.
    pub info: u64,
}
layout! { XenMcPhyscpuinfo: 16 { ncpus: 0, info: 8 } }

/// `struct mcinfo_logical_cpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct McinfoLogicalCpu {
    /// Number.
    pub mc_cpunr: u32,
    /// Package.
    pub mc_chipid: u32,
    /// Core.
    pub mc_coreid: u16,
    /// Thread.
    pub mc_threadid: u16,
    /// APIC id.
    pub mc_apicid: u32,
    /// Cluster.
    pub mc_clusterid: u32,
    /// Cores in the package.
    pub mc_ncores: u32,
    /// Those that run.
    pub mc_ncores_active: u32,
    /// Threads of a core.
    pub mc_nthreads: u32,
    /// Highest CPUID leaf.
    pub mc_cpuid_level: i32,
    /// Family.
    pub mc_family: u32,
    /// Vendor, as Xen numbers them.
    pub mc_vendor: u32,
    /// Model.
    pub mc_model: u32,
    /// Stepping.
    pub mc_step: u32,
    /// Vendor's name.
    pub mc_vendorid: [u8; 16],
    /// Model's name.
    pub mc_brandid: [u8; 64],
    /// CPUID's feature words.
    pub mc_cpu_caps: [u32; 7],
    /// Cache size in KiB.
    pub mc_cache_size: u32,
    /// Cache line in bytes.
    pub mc_cache_alignment: u32,
    /// MSRs that follow.
    pub mc_nmsrvals: i32,
    /// Padding.
    pub _pad0: u32,
    /// `{ number, value }` each.
    pub mc_msrvalues: [[u64; 2]; 8],
}
layout! { McinfoLogicalCpu: 304 {
    mc_cpunr: 0, mc_chipid: 4, mc_coreid: 8, mc_threadid: 10, mc_apicid: 12, mc_clusterid: 16,
    mc_ncores: 20, mc_ncores_active: 24, mc_nthreads: 28, mc_cpuid_level: 32, mc_family: 36,
    mc_vendor: 40, mc_model: 44, mc_step: 48, mc_vendorid: 52, mc_brandid: 68, mc_cpu_caps: 132,
    mc_cache_size: 160, mc_cache_alignment: 164, mc_nmsrvals: 168, mc_msrvalues: 176,
} }
