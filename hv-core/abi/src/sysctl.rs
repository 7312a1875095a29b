//! Questions about the host and its knobs, for the toolstack.
//!
//! Source: Xen `include/public/sysctl.h`. Guest pointers are 64-bit words.

use crate::domctl::XenctlBitmap;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version of this interface in Xen 4.17; callers state the one they mean.
pub const XEN_SYSCTL_INTERFACE_VERSION: u32 = 0x15;

// Commands.

/// Text of the hypervisor's console.
pub const XEN_SYSCTL_READCONSOLE: u32 = 1;
/// CPUs and memory of the host.
pub const XEN_SYSCTL_PHYSINFO: u32 = 3;
/// Which scheduler runs.
pub const XEN_SYSCTL_SCHED_ID: u32 = 4;
/// What domains are and have.
pub const XEN_SYSCTL_GETDOMAININFOLIST: u32 = 6;
/// Debug keys, as if typed.
pub const XEN_SYSCTL_DEBUG_KEYS: u32 = 7;
/// How long CPUs were idle.
pub const XEN_SYSCTL_GETCPUINFO: u32 = 8;
/// Free memory below an address width.
pub const XEN_SYSCTL_AVAILHEAP: u32 = 9;
/// Cores, packages and nodes of CPUs.
pub const XEN_SYSCTL_CPUTOPOINFO: u32 = 16;
/// Memory of nodes and the distances between them.
pub const XEN_SYSCTL_NUMAINFO: u32 = 17;
/// CPU pools.
pub const XEN_SYSCTL_CPUPOOL_OP: u32 = 18;
/// Parameters of a scheduler.
pub const XEN_SYSCTL_SCHEDULER_OP: u32 = 19;
/// Nodes of PCI devices.
pub const XEN_SYSCTL_PCITOPOINFO: u32 = 22;
/// CPUID features as bitmaps.
pub const XEN_SYSCTL_GET_CPU_FEATURESET: u32 = 26;
/// CPUID leaves and MSRs.
pub const XEN_SYSCTL_GET_CPU_POLICY: u32 = 29;

// Other numbers.

/// Capability: PV guests can be made.
pub const XEN_SYSCTL_PHYSCAP_PV: u32 = 1 << 1;
/// Capability: guests may use version 1 of grant tables.
pub const XEN_SYSCTL_PHYSCAP_GNTTAB_V1: u32 = 1 << 8;
/// The pool with this number or the next higher one.
pub const XEN_SYSCTL_CPUPOOL_OP_INFO: u32 = 3;
/// Ends a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_DESTROY: u32 = 2;
/// Gives a pool a CPU.
pub const XEN_SYSCTL_CPUPOOL_OP_ADDCPU: u32 = 4;
/// Takes a CPU from a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_RMCPU: u32 = 5;
/// CPUs in no pool.
pub const XEN_SYSCTL_CPUPOOL_OP_FREEINFO: u32 = 7;
/// A new pool.
pub const XEN_SYSCTL_CPUPOOL_OP_CREATE: u32 = 1;
/// Moves a domain into a pool.
pub const XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN: u32 = 6;
/// Sets a scheduler's parameters.
pub const XEN_SYSCTL_SCHEDOP_PUTINFO: u32 = 0;
/// Reads them.
pub const XEN_SYSCTL_SCHEDOP_GETINFO: u32 = 1;
/// What PV guests may have.
pub const XEN_SYSCTL_CPU_FEATURESET_PV: u32 = 2;
/// What the host has.
pub const XEN_SYSCTL_CPU_POLICY_HOST: u32 = 1;
/// What a PV guest gets.
pub const XEN_SYSCTL_CPU_POLICY_PV_DEFAULT: u32 = 4;
/// No node.
pub const XEN_INVALID_NODE_ID: u32 = 0xffff_ffff;

/// `struct xen_sysctl`: the head of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctl {
    /// `XEN_SYSCTL_*`.
    pub cmd: u32,
    /// [`XEN_SYSCTL_INTERFACE_VERSION`].
    pub interface_version: u32,
    /// The command's own struct.
    pub u: [u64; 16],
}
layout! { XenSysctl: 136 { cmd: 0, interface_version: 4, u: 8 } }

/// `struct xen_sysctl_readconsole`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlReadconsole {
    /// Forget the text read.
    pub clear: u8,
    /// Start at `index`.
    pub incremental: u8,
    /// Padding.
    pub pad0: u8,
    /// Padding.
    pub pad1: u8,
    /// Position, in and out.
    pub index: u32,
    /// Text.
    pub buffer: u64,
    /// Bytes, in and out.
    pub count: u32,
    /// Padding.
    pub _pad: u32,
}
layout! { XenSysctlReadconsole: 24 { clear: 0, incremental: 1, pad0: 2, pad1: 3, index: 4, buffer: 8, count: 16, _pad: 20 } }

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
    /// Padding.
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
layout! { XenSysctlPhysinfo: 112 { threads_per_core: 0, cores_per_socket: 4, nr_cpus: 8, max_cpu_id: 12, nr_nodes: 16, max_node_id: 20, cpu_khz: 24, capabilities: 28, arch_capabilities: 32, pad: 36, total_pages: 40, free_pages: 48, scrub_pages: 56, outstanding_pages: 64, max_mfn: 72, hw_cap: 80 } }

/// `struct xen_sysctl_sched_id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlSchedId {
    /// `XEN_SCHEDULER_*`.
    pub sched_id: u32,
}
layout! { XenSysctlSchedId: 4 { sched_id: 0 } }

/// `struct xen_sysctl_getdomaininfolist`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlGetdomaininfolist {
    /// From this one on.
    pub first_domain: u16,
    /// Padding.
    pub _pad0: u16,
    /// Room.
    pub max_domains: u32,
    /// [`XenDomctlGetdomaininfo`](crate::domctl::XenDomctlGetdomaininfo)s.
    pub buffer: u64,
    /// How many there were.
    pub num_domains: u32,
    /// Padding.
    pub _pad1: u32,
}
layout! { XenSysctlGetdomaininfolist: 24 { first_domain: 0, _pad0: 2, max_domains: 4, buffer: 8, num_domains: 16, _pad1: 20 } }

/// `struct xen_sysctl_debug_keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlDebugKeys {
    /// Characters.
    pub keys: u64,
    /// How many.
    pub nr_keys: u32,
    /// Padding.
    pub _pad: u32,
}
layout! { XenSysctlDebugKeys: 16 { keys: 0, nr_keys: 8, _pad: 12 } }

/// `struct xen_sysctl_getcpuinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlGetcpuinfo {
    /// Room.
    pub max_cpus: u32,
    /// Padding.
    pub _pad0: u32,
    /// Nanoseconds each CPU was idle.
    pub info: u64,
    /// How many there were.
    pub nr_cpus: u32,
    /// Padding.
    pub _pad1: u32,
}
layout! { XenSysctlGetcpuinfo: 24 { max_cpus: 0, _pad0: 4, info: 8, nr_cpus: 16, _pad1: 20 } }

/// `struct xen_sysctl_availheap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlAvailheap {
    /// Smallest address width.
    pub min_bitwidth: u32,
    /// Largest address width; 0: any.
    pub max_bitwidth: u32,
    /// Node; negative: all.
    pub node: i32,
    /// Padding.
    pub _pad: u32,
    /// Free memory.
    pub avail_bytes: u64,
}
layout! { XenSysctlAvailheap: 24 { min_bitwidth: 0, max_bitwidth: 4, node: 8, _pad: 12, avail_bytes: 16 } }

/// `struct xen_sysctl_cputopo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlCputopo {
    /// Core.
    pub core: u32,
    /// Package.
    pub socket: u32,
    /// Node.
    pub node: u32,
}
layout! { XenSysctlCputopo: 12 { core: 0, socket: 4, node: 8 } }

/// `struct xen_sysctl_cputopoinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlCputopoinfo {
    /// Room, and how many there are.
    pub num_cpus: u32,
    /// Padding.
    pub _pad: u32,
    /// [`XenSysctlCputopo`]s.
    pub cputopo: u64,
}
layout! { XenSysctlCputopoinfo: 16 { num_cpus: 0, _pad: 4, cputopo: 8 } }

/// `struct xen_sysctl_meminfo`: memory of a node, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlMeminfo {
    /// All.
    pub memsize: u64,
    /// Free.
    pub memfree: u64,
}
layout! { XenSysctlMeminfo: 16 { memsize: 0, memfree: 8 } }

/// `struct xen_sysctl_numainfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlNumainfo {
    /// Room, and how many there are.
    pub num_nodes: u32,
    /// Padding.
    pub _pad: u32,
    /// [`XenSysctlMeminfo`]s.
    pub meminfo: u64,
    /// Distances, row by row.
    pub distance: u64,
}
layout! { XenSysctlNumainfo: 24 { num_nodes: 0, _pad: 4, meminfo: 8, distance: 16 } }

/// `struct xen_sysctl_cpupool_op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlCpupoolOp {
    /// `XEN_SYSCTL_CPUPOOL_OP_*`.
    pub op: u32,
    /// Pool.
    pub cpupool_id: u32,
    /// Its scheduler.
    pub sched_id: u32,
    /// Domain.
    pub domid: u32,
    /// CPU.
    pub cpu: u32,
    /// Domains in it.
    pub n_dom: u32,
    /// Its CPUs.
    pub cpumap: XenctlBitmap,
}
layout! { XenSysctlCpupoolOp: 40 { op: 0, cpupool_id: 4, sched_id: 8, domid: 12, cpu: 16, n_dom: 20, cpumap: 24 } }

/// `struct xen_sysctl_credit_schedule`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlCreditSchedule {
    /// Length of a slice.
    pub tslice_ms: u32,
    /// Shortest run.
    pub ratelimit_us: u32,
    /// How long a vCPU stays where it ran.
    pub vcpu_migr_delay_us: u32,
}
layout! { XenSysctlCreditSchedule: 12 { tslice_ms: 0, ratelimit_us: 4, vcpu_migr_delay_us: 8 } }

/// `struct xen_sysctl_scheduler_op`: with the parameters of the credit scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlSchedulerOp {
    /// Pool.
    pub cpupool_id: u32,
    /// `XEN_SCHEDULER_*`.
    pub sched_id: u32,
    /// `XEN_SYSCTL_SCHEDOP_*`.
    pub cmd: u32,
    /// Padding.
    pub _pad0: u32,
    /// Parameters.
    pub sched_credit: XenSysctlCreditSchedule,
    /// Padding.
    pub _pad1: u32,
}
layout! { XenSysctlSchedulerOp: 32 { cpupool_id: 0, sched_id: 4, cmd: 8, _pad0: 12, sched_credit: 16, _pad1: 28 } }

/// `struct xen_sysctl_pcitopoinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlPcitopoinfo {
    /// Devices.
    pub num_devs: u32,
    /// Padding.
    pub _pad: u32,
    /// Which.
    pub devs: u64,
    /// Their nodes.
    pub nodes: u64,
}
layout! { XenSysctlPcitopoinfo: 24 { num_devs: 0, _pad: 4, devs: 8, nodes: 16 } }

/// `struct xen_sysctl_cpu_featureset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlCpuFeatureset {
    /// `XEN_SYSCTL_CPU_FEATURESET_*`.
    pub index: u32,
    /// Words, in and out.
    pub nr_features: u32,
    /// Words.
    pub features: u64,
}
layout! { XenSysctlCpuFeatureset: 16 { index: 0, nr_features: 4, features: 8 } }

/// `struct xen_sysctl_cpu_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenSysctlCpuPolicy {
    /// `XEN_SYSCTL_CPU_POLICY_*`.
    pub index: u32,
    /// Leaves, in and out.
    pub nr_leaves: u32,
    /// MSRs, in and out.
    pub nr_msrs: u32,
    /// Padding.
    pub _rsvd: u32,
    /// [`XenCpuidLeaf`](crate::domctl::XenCpuidLeaf)s.
    pub leaves: u64,
    /// [`XenMsrEntry`](crate::domctl::XenMsrEntry)s.
    pub msrs: u64,
}
layout! { XenSysctlCpuPolicy: 32 { index: 0, nr_leaves: 4, nr_msrs: 8, _rsvd: 12, leaves: 16, msrs: 24 } }
