//! Questions about the host, for tools in dom0.
//!
//! Source: Xen `include/public/sysctl.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version of this interface in Xen 4.17; callers state the one they mean.
pub const XEN_SYSCTL_INTERFACE_VERSION: u32 = 0x15;
/// CPUs and memory of the host.
pub const XEN_SYSCTL_PHYSINFO: u32 = 3;
/// Capability: PV guests can be made.
pub const XEN_SYSCTL_PHYSCAP_PV: u32 = 1 << 1;
/// Capability: guests may use version 1 of grant tables.
pub const XEN_SYSCTL_PHYSCAP_GNTTAB_V1: u32 = 1 << 8;

/// How `struct xen_sysctl` begins; the command's own struct follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlHeader {
    /// `XEN_SYSCTL_*`.
    pub cmd: u32,
    /// [`XEN_SYSCTL_INTERFACE_VERSION`].
    pub interface_version: u32,
}
layout! { XenSysctlHeader: 8 { cmd: 0, interface_version: 4 } }

/// `struct xen_sysctl_physinfo`. Memory is in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlPhysinfo {
    /// Hyperthreads per core.
    pub threads_per_core: u32,
    /// Cores per package.
    pub cores_per_socket: u32,
    /// CPUs online.
    pub nr_cpus: u32,
    /// Largest CPU number.
    pub max_cpu_id: u32,
    /// NUMA nodes online.
    pub nr_nodes: u32,
    /// Largest node number.
    pub max_node_id: u32,
    /// Rate of the CPUs' time stamp counters, in kHz.
    pub cpu_khz: u32,
    /// `XEN_SYSCTL_PHYSCAP_*`.
    pub capabilities: u32,
    /// None for x86.
    pub arch_capabilities: u32,
    /// Not used.
    pub pad: u32,
    /// All memory the hypervisor manages.
    pub total_pages: u64,
    /// Free memory.
    pub free_pages: u64,
    /// Free memory that waits for scrubbing.
    pub scrub_pages: u64,
    /// Memory promised to domains.
    pub outstanding_pages: u64,
    /// Largest frame number.
    pub max_mfn: u64,
    /// CPUID feature words.
    pub hw_cap: [u32; 8],
}
layout! {
    XenSysctlPhysinfo: 112 {
        threads_per_core: 0, cores_per_socket: 4, nr_cpus: 8, max_cpu_id: 12, nr_nodes: 16,
        max_node_id: 20, cpu_khz: 24, capabilities: 28, arch_capabilities: 32, pad: 36,
        total_pages: 40, free_pages: 48, scrub_pages: 56, outstanding_pages: 64, max_mfn: 72,
        hw_cap: 80,
    }
}
