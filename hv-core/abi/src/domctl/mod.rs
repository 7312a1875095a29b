//! Control of domains, for tools in dom0.
//!
//! Source: Xen `include/public/domctl.h`. Guest pointers are 64-bit words.

mod number;
mod vcpu;

pub use number::*;
pub use vcpu::*;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version of this interface in Xen 4.17; callers state the one they mean.
pub const XEN_DOMCTL_INTERFACE_VERSION: u32 = 0x15;

/// `struct xen_domctl`: the head of every command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctl {
    /// `XEN_DOMCTL_*`.
    pub cmd: u32,
    /// [`XEN_DOMCTL_INTERFACE_VERSION`].
    pub interface_version: u32,
    /// Domain.
    pub domain: u16,
    /// Padding.
    pub _pad: [u16; 3],
    /// The command's own struct.
    pub u: [u64; 16],
}
layout! { XenDomctl: 144 { cmd: 0, interface_version: 4, domain: 8, _pad: 10, u: 16 } }

/// `struct xen_arch_domainconfig`: what only x86 knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenArchDomainconfig {
    /// Emulated devices; none for PV.
    pub emulation_flags: u32,
    /// Bit 0: unknown MSRs do not fault.
    pub misc_flags: u32,
}
layout! { XenArchDomainconfig: 8 { emulation_flags: 0, misc_flags: 4 } }

/// `struct xen_domctl_createdomain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlCreatedomain {
    /// Security label.
    pub ssidref: u32,
    /// UUID.
    pub handle: [u8; 16],
    /// `XEN_DOMCTL_CDF_*`.
    pub flags: u32,
    /// 0.
    pub iommu_opts: u32,
    /// vCPUs it may have.
    pub max_vcpus: u32,
    /// Largest port.
    pub max_evtchn_port: u32,
    /// Frames of its grant table; negative: the default.
    pub max_grant_frames: i32,
    /// Frames of its list of mappings; negative: the default.
    pub max_maptrack_frames: i32,
    /// `XEN_DOMCTL_GRANT_*`.
    pub grant_opts: u32,
    /// 0.
    pub vmtrace_size: u32,
    /// CPU pool.
    pub cpupool_id: u32,
    /// Architecture.
    pub arch: XenArchDomainconfig,
}
layout! { XenDomctlCreatedomain: 64 { ssidref: 0, handle: 4, flags: 20, iommu_opts: 24, max_vcpus: 28, max_evtchn_port: 32, max_grant_frames: 36, max_maptrack_frames: 40, grant_opts: 44, vmtrace_size: 48, cpupool_id: 52, arch: 56 } }

/// `struct xen_domctl_getdomaininfo`. Memory is in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlGetdomaininfo {
    /// Its number.
    pub domain: u16,
    /// Padding.
    pub pad1: u16,
    /// `XEN_DOMINF_*`.
    pub flags: u32,
    /// Memory it has.
    pub tot_pages: u64,
    /// Memory it may have.
    pub max_pages: u64,
    /// Memory claimed for it.
    pub outstanding_pages: u64,
    /// Shared memory.
    pub shr_pages: u64,
    /// Memory paged out.
    pub paged_pages: u64,
    /// Frame of its shared info.
    pub shared_info_frame: u64,
    /// Nanoseconds its vCPUs ran.
    pub cpu_time: u64,
    /// vCPUs that are up.
    pub nr_online_vcpus: u32,
    /// Largest number of a vCPU.
    pub max_vcpu_id: u32,
    /// Security label.
    pub ssidref: u32,
    /// UUID.
    pub handle: [u8; 16],
    /// CPU pool.
    pub cpupool: u32,
    /// 0 for PV.
    pub gpaddr_bits: u8,
    /// Padding.
    pub pad2: [u8; 7],
    /// Architecture.
    pub arch_config: XenArchDomainconfig,
}
layout! { XenDomctlGetdomaininfo: 112 { domain: 0, pad1: 2, flags: 4, tot_pages: 8, max_pages: 16, outstanding_pages: 24, shr_pages: 32, paged_pages: 40, shared_info_frame: 48, cpu_time: 56, nr_online_vcpus: 64, max_vcpu_id: 68, ssidref: 72, handle: 76, cpupool: 92, gpaddr_bits: 96, pad2: 97, arch_config: 104 } }

/// `struct xen_domctl_getpageframeinfo3`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlGetpageframeinfo3 {
    /// Frames.
    pub num: u64,
    /// 64-bit frame numbers, in and out.
    pub array: u64,
}
layout! { XenDomctlGetpageframeinfo3: 16 { num: 0, array: 8 } }

/// `struct xen_domctl_shadow_op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlShadowOp {
    /// `XEN_DOMCTL_SHADOW_OP_*`.
    pub op: u32,
    /// Mode.
    pub mode: u32,
    /// Memory in MiB.
    pub mb: u32,
    /// Padding.
    pub _pad: u32,
    /// Bitmap.
    pub dirty_bitmap: u64,
    /// Size of the bitmap.
    pub pages: u64,
    /// Faults and dirty pages.
    pub stats: [u32; 2],
}
layout! { XenDomctlShadowOp: 40 { op: 0, mode: 4, mb: 8, _pad: 12, dirty_bitmap: 16, pages: 24, stats: 32 } }

/// `struct xen_domctl_max_mem`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlMaxMem {
    /// KiB.
    pub max_memkb: u64,
}
layout! { XenDomctlMaxMem: 8 { max_memkb: 0 } }

/// `struct xenctl_bitmap`: a bitmap in the caller's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenctlBitmap {
    /// Bytes.
    pub bitmap: u64,
    /// How many bits.
    pub nr_bits: u32,
    /// Padding.
    pub _pad: u32,
}
layout! { XenctlBitmap: 16 { bitmap: 0, nr_bits: 8, _pad: 12 } }

/// `struct xen_domctl_nodeaffinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlNodeaffinity {
    /// Nodes.
    pub nodemap: XenctlBitmap,
}
layout! { XenDomctlNodeaffinity: 16 { nodemap: 0 } }

/// `struct xen_domctl_sched_credit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlSchedCredit {
    /// Share of CPU time.
    pub weight: u16,
    /// Most of one CPU, in percent; 0: all.
    pub cap: u16,
}
layout! { XenDomctlSchedCredit: 4 { weight: 0, cap: 2 } }

/// `struct xen_domctl_scheduler_op`: with the parameters of the credit scheduler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlSchedulerOp {
    /// `XEN_SCHEDULER_*`.
    pub sched_id: u32,
    /// `XEN_DOMCTL_SCHEDOP_*`.
    pub cmd: u32,
    /// Parameters.
    pub credit: XenDomctlSchedCredit,
    /// Padding.
    pub _pad: [u32; 3],
}
layout! { XenDomctlSchedulerOp: 24 { sched_id: 0, cmd: 4, credit: 8, _pad: 12 } }

/// `struct xen_domctl_setdomainhandle`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlSetdomainhandle {
    /// UUID.
    pub handle: [u8; 16],
}
layout! { XenDomctlSetdomainhandle: 16 { handle: 0 } }

/// `struct xen_domctl_subscribe`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlSubscribe {
    /// The domain's port.
    pub port: u32,
}
layout! { XenDomctlSubscribe: 4 { port: 0 } }

/// `struct xen_domctl_irq_permission`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlIrqPermission {
    /// Interrupt.
    pub pirq: u32,
    /// Give (or take).
    pub allow_access: u8,
    /// Padding.
    pub pad: [u8; 3],
}
layout! { XenDomctlIrqPermission: 8 { pirq: 0, allow_access: 4, pad: 5 } }

/// `struct xen_domctl_iomem_permission`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlIomemPermission {
    /// First frame.
    pub first_mfn: u64,
    /// Frames.
    pub nr_mfns: u64,
    /// Give (or take).
    pub allow_access: u8,
    /// Padding.
    pub _pad: [u8; 7],
}
layout! { XenDomctlIomemPermission: 24 { first_mfn: 0, nr_mfns: 8, allow_access: 16, _pad: 17 } }

/// `struct xen_domctl_ioport_permission`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlIoportPermission {
    /// First port.
    pub first_port: u32,
    /// Ports.
    pub nr_ports: u32,
    /// Give (or take).
    pub allow_access: u8,
    /// Padding.
    pub _pad: [u8; 3],
}
layout! { XenDomctlIoportPermission: 12 { first_port: 0, nr_ports: 4, allow_access: 8, _pad: 9 } }

/// `struct xen_domctl_hypercall_init`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlHypercallInit {
    /// Frame to fill.
    pub gmfn: u64,
}
layout! { XenDomctlHypercallInit: 8 { gmfn: 0 } }

/// `struct xen_domctl_settimeoffset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlSettimeoffset {
    /// Seconds.
    pub time_offset_seconds: i64,
}
layout! { XenDomctlSettimeoffset: 8 { time_offset_seconds: 0 } }

/// `struct xen_domctl_address_size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlAddressSize {
    /// Bits.
    pub size: u32,
}
layout! { XenDomctlAddressSize: 4 { size: 0 } }

/// `struct xen_domctl_cpu_policy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlCpuPolicy {
    /// Leaves, in and out.
    pub nr_leaves: u32,
    /// MSRs, in and out.
    pub nr_msrs: u32,
    /// [`XenCpuidLeaf`]s.
    pub leaves: u64,
    /// [`XenMsrEntry`]s.
    pub msrs: u64,
    /// The leaf at fault.
    pub err_leaf: u32,
    /// Its subleaf.
    pub err_subleaf: u32,
    /// The MSR at fault.
    pub err_msr: u32,
    /// Padding.
    pub _pad: u32,
}
layout! { XenDomctlCpuPolicy: 40 { nr_leaves: 0, nr_msrs: 4, leaves: 8, msrs: 16, err_leaf: 24, err_subleaf: 28, err_msr: 32, _pad: 36 } }

/// `struct xen_cpuid_leaf`: an answer of `cpuid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenCpuidLeaf {
    /// `eax` before.
    pub leaf: u32,
    /// `ecx` before; all ones: does not matter.
    pub subleaf: u32,
    /// `eax`.
    pub a: u32,
    /// `ebx`.
    pub b: u32,
    /// `ecx`.
    pub c: u32,
    /// `edx`.
    pub d: u32,
}
layout! { XenCpuidLeaf: 24 { leaf: 0, subleaf: 4, a: 8, b: 12, c: 16, d: 20 } }

/// `struct xen_msr_entry`: a model-specific register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenMsrEntry {
    /// Number.
    pub idx: u32,
    /// 0.
    pub flags: u32,
    /// Value.
    pub val: u64,
}
layout! { XenMsrEntry: 16 { idx: 0, flags: 4, val: 8 } }

/// `struct xen_domctl_tsc_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlTscInfo {
    /// 0: default, 1: emulated, 2: native.
    pub tsc_mode: u32,
    /// Rate in kHz.
    pub gtsc_khz: u32,
    /// How often it was moved.
    pub incarnation: u32,
    /// Padding.
    pub pad: u32,
    /// The guest's time.
    pub elapsed_nsec: u64,
}
layout! { XenDomctlTscInfo: 24 { tsc_mode: 0, gtsc_khz: 4, incarnation: 8, pad: 12, elapsed_nsec: 16 } }

/// `struct xen_domctl_set_virq_handler`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlSetVirqHandler {
    /// `VIRQ_*`.
    pub virq: u32,
}
layout! { XenDomctlSetVirqHandler: 4 { virq: 0 } }
