//! Control of domains, for tools in dom0.
//!
//! Source: Xen `include/public/domctl.h`. Guest pointers are 64-bit words.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The version of this interface in Xen 4.17; callers state the one they mean.
pub const XEN_DOMCTL_INTERFACE_VERSION: u32 = 0x15;

// Commands.

/// Makes a domain.
pub const XEN_DOMCTL_CREATEDOMAIN: u32 = 1;
/// Ends a domain.
pub const XEN_DOMCTL_DESTROYDOMAIN: u32 = 2;
/// Stops a domain's vCPUs; counted.
pub const XEN_DOMCTL_PAUSEDOMAIN: u32 = 3;
/// Takes one pause back.
pub const XEN_DOMCTL_UNPAUSEDOMAIN: u32 = 4;
/// What a domain is and has; of the first from the named number on.
pub const XEN_DOMCTL_GETDOMAININFO: u32 = 5;
/// On which CPUs a vCPU may run.
pub const XEN_DOMCTL_SETVCPUAFFINITY: u32 = 9;
/// Shadow page tables, log-dirty mode.
pub const XEN_DOMCTL_SHADOW_OP: u32 = 10;
/// How much memory a domain may have.
pub const XEN_DOMCTL_MAX_MEM: u32 = 11;
/// Gives a vCPU its state.
pub const XEN_DOMCTL_SETVCPUCONTEXT: u32 = 12;
/// Reads a vCPU's state.
pub const XEN_DOMCTL_GETVCPUCONTEXT: u32 = 13;
/// What a vCPU does and did.
pub const XEN_DOMCTL_GETVCPUINFO: u32 = 14;
/// Makes the vCPUs.
pub const XEN_DOMCTL_MAX_VCPUS: u32 = 15;
/// Scheduling parameters of a domain.
pub const XEN_DOMCTL_SCHEDULER_OP: u32 = 16;
/// Sets the UUID.
pub const XEN_DOMCTL_SETDOMAINHANDLE: u32 = 17;
/// Whether a debugger controls the domain.
pub const XEN_DOMCTL_SETDEBUGGING: u32 = 18;
/// Gives or takes a physical interrupt.
pub const XEN_DOMCTL_IRQ_PERMISSION: u32 = 19;
/// Gives or takes device memory.
pub const XEN_DOMCTL_IOMEM_PERMISSION: u32 = 20;
/// Gives or takes I/O ports.
pub const XEN_DOMCTL_IOPORT_PERMISSION: u32 = 21;
/// Fills a page with hypercall stubs.
pub const XEN_DOMCTL_HYPERCALL_INIT: u32 = 22;
/// Shifts the domain's wall clock.
pub const XEN_DOMCTL_SETTIMEOFFSET: u32 = 24;
/// On which CPUs a vCPU may run.
pub const XEN_DOMCTL_GETVCPUAFFINITY: u32 = 25;
/// Lets a suspended domain go on.
pub const XEN_DOMCTL_RESUMEDOMAIN: u32 = 27;
/// Sends an NMI or presses a button.
pub const XEN_DOMCTL_SENDTRIGGER: u32 = 28;
/// Tells a port when the domain dies.
pub const XEN_DOMCTL_SUBSCRIBE: u32 = 29;
/// Word size of the guest, in bits.
pub const XEN_DOMCTL_SET_ADDRESS_SIZE: u32 = 35;
/// Word size of the guest, in bits.
pub const XEN_DOMCTL_GET_ADDRESS_SIZE: u32 = 36;
/// More of a vCPU's state.
pub const XEN_DOMCTL_SET_EXT_VCPUCONTEXT: u32 = 42;
/// More of a vCPU's state.
pub const XEN_DOMCTL_GET_EXT_VCPUCONTEXT: u32 = 43;
/// How the time stamp counter behaves.
pub const XEN_DOMCTL_SETTSCINFO: u32 = 60;
/// How the time stamp counter behaves.
pub const XEN_DOMCTL_GETTSCINFO: u32 = 59;
/// What frames are.
pub const XEN_DOMCTL_GETPAGEFRAMEINFO3: u32 = 61;
/// Extended processor state.
pub const XEN_DOMCTL_SETVCPUEXTSTATE: u32 = 62;
/// Extended processor state.
pub const XEN_DOMCTL_GETVCPUEXTSTATE: u32 = 63;
/// Gives a global virtual interrupt to the domain.
pub const XEN_DOMCTL_SET_VIRQ_HANDLER: u32 = 66;
/// From which NUMA nodes memory comes.
pub const XEN_DOMCTL_SETNODEAFFINITY: u32 = 68;
/// From which NUMA nodes memory comes.
pub const XEN_DOMCTL_GETNODEAFFINITY: u32 = 69;
/// Model-specific registers of a vCPU.
pub const XEN_DOMCTL_GET_VCPU_MSRS: u32 = 72;
/// Model-specific registers of a vCPU.
pub const XEN_DOMCTL_SET_VCPU_MSRS: u32 = 73;
/// Virtual NUMA nodes.
pub const XEN_DOMCTL_SETVNUMAINFO: u32 = 74;
/// Prepares a domain for another kernel.
pub const XEN_DOMCTL_SOFT_RESET: u32 = 79;
/// CPUID leaves and MSRs a domain sees.
pub const XEN_DOMCTL_GET_CPU_POLICY: u32 = 82;
/// CPUID leaves and MSRs a domain sees.
pub const XEN_DOMCTL_SET_CPU_POLICY: u32 = 83;

// Flags of `createdomain`.

/// A hardware-assisted guest.
pub const XEN_DOMCTL_CDF_HVM: u32 = 1 << 0;
/// Serves xenstore.
pub const XEN_DOMCTL_CDF_XS_DOMAIN: u32 = 1 << 4;
/// Highest version of the grant table, in `grant_opts`.
pub const XEN_DOMCTL_GRANT_VERSION_MASK: u32 = 0xf;

// Flags of `getdomaininfo`.

/// Being destroyed.
pub const XEN_DOMINF_DYING: u32 = 1 << 0;
/// Its kernel has stopped; the reason is in bits 16 to 23.
pub const XEN_DOMINF_SHUTDOWN: u32 = 1 << 2;
/// Paused by tools.
pub const XEN_DOMINF_PAUSED: u32 = 1 << 3;
/// No vCPU has anything to do.
pub const XEN_DOMINF_BLOCKED: u32 = 1 << 4;
/// A vCPU is on a CPU.
pub const XEN_DOMINF_RUNNING: u32 = 1 << 5;
/// A debugger controls it.
pub const XEN_DOMINF_DEBUGGED: u32 = 1 << 6;
/// Serves xenstore.
pub const XEN_DOMINF_XS_DOMAIN: u32 = 1 << 7;
/// Lowest bit of the reason.
pub const XEN_DOMINF_SHUTDOWNSHIFT: u32 = 16;
/// It has no vCPUs.
pub const XEN_INVALID_MAX_VCPU_ID: u32 = 0xffff_ffff;

// Types of frames, in the upper bits of a frame number.

/// Plain memory.
pub const XEN_DOMCTL_PFINFO_NOTAB: u32 = 0;
/// A page table; level 4 is four times as much.
pub const XEN_DOMCTL_PFINFO_L1TAB: u32 = 1 << 28;
/// Pinned.
pub const XEN_DOMCTL_PFINFO_LPINTAB: u32 = 1 << 31;
/// None of the domain's.
pub const XEN_DOMCTL_PFINFO_XTAB: u32 = 0xf << 28;
/// To be allocated only.
pub const XEN_DOMCTL_PFINFO_XALLOC: u32 = 0xe << 28;
/// Broken.
pub const XEN_DOMCTL_PFINFO_BROKEN: u32 = 0xd << 28;
/// All of these bits.
pub const XEN_DOMCTL_PFINFO_LTAB_MASK: u32 = 0xf << 28;

// Other numbers.

/// CPUs a vCPU may run on.
pub const XEN_VCPUAFFINITY_HARD: u32 = 1 << 0;
/// CPUs it should run on.
pub const XEN_VCPUAFFINITY_SOFT: u32 = 1 << 1;
/// Ends an override of its own.
pub const XEN_VCPUAFFINITY_FORCE: u32 = 1 << 2;
/// The credit scheduler.
pub const XEN_SCHEDULER_CREDIT: u32 = 5;
/// Sets a domain's parameters.
pub const XEN_DOMCTL_SCHEDOP_PUTINFO: u32 = 0;
/// Reads them.
pub const XEN_DOMCTL_SCHEDOP_GETINFO: u32 = 1;
/// Sets those of vCPUs.
pub const XEN_DOMCTL_SCHEDOP_PUTVCPUINFO: u32 = 2;
/// Reads those.
pub const XEN_DOMCTL_SCHEDOP_GETVCPUINFO: u32 = 3;
/// An NMI.
pub const XEN_DOMCTL_SENDTRIGGER_NMI: u32 = 0;
/// Ends shadow mode.
pub const XEN_DOMCTL_SHADOW_OP_OFF: u32 = 0;

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

/// `struct xen_domctl_vcpucontext`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlVcpucontext {
    /// vCPU.
    pub vcpu: u32,
    /// Padding.
    pub _pad: u32,
    /// A [`VcpuGuestContext`](crate::arch_x86::VcpuGuestContext).
    pub ctxt: u64,
}
layout! { XenDomctlVcpucontext: 16 { vcpu: 0, _pad: 4, ctxt: 8 } }

/// `struct xen_domctl_getvcpuinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlGetvcpuinfo {
    /// vCPU.
    pub vcpu: u32,
    /// It is up.
    pub online: u8,
    /// It waits.
    pub blocked: u8,
    /// It is on a CPU.
    pub running: u8,
    /// Padding.
    pub _pad0: u8,
    /// Nanoseconds it ran.
    pub cpu_time: u64,
    /// CPU.
    pub cpu: u32,
    /// Padding.
    pub _pad1: u32,
}
layout! { XenDomctlGetvcpuinfo: 24 { vcpu: 0, online: 4, blocked: 5, running: 6, _pad0: 7, cpu_time: 8, cpu: 16, _pad1: 20 } }

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

/// `struct xen_domctl_vcpuaffinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlVcpuaffinity {
    /// vCPU.
    pub vcpu: u32,
    /// `XEN_VCPUAFFINITY_*`.
    pub flags: u32,
    /// CPUs it may run on.
    pub cpumap_hard: XenctlBitmap,
    /// CPUs it should run on.
    pub cpumap_soft: XenctlBitmap,
}
layout! { XenDomctlVcpuaffinity: 40 { vcpu: 0, flags: 4, cpumap_hard: 8, cpumap_soft: 24 } }

/// `struct xen_domctl_max_vcpus`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlMaxVcpus {
    /// vCPUs.
    pub max: u32,
}
layout! { XenDomctlMaxVcpus: 4 { max: 0 } }

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

/// `struct xen_domctl_sendtrigger`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlSendtrigger {
    /// `XEN_DOMCTL_SENDTRIGGER_*`.
    pub trigger: u32,
    /// vCPU.
    pub vcpu: u32,
}
layout! { XenDomctlSendtrigger: 8 { trigger: 0, vcpu: 4 } }

/// `struct xen_domctl_ext_vcpucontext`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlExtVcpucontext {
    /// vCPU.
    pub vcpu: u32,
    /// Bytes of this struct.
    pub size: u32,
    /// Entry of 32-bit `syscall`.
    pub syscall32_callback_eip: u64,
    /// Entry of `sysenter`.
    pub sysenter_callback_eip: u64,
    /// Its selector.
    pub syscall32_callback_cs: u16,
    /// Its selector.
    pub sysenter_callback_cs: u16,
    /// Whether it masks events.
    pub syscall32_disables_events: u8,
    /// Whether it masks events.
    pub sysenter_disables_events: u8,
    /// Padding.
    pub _pad: [u8; 2],
    /// Machine-check capabilities.
    pub mcg_cap: u64,
    /// More of the machine check.
    pub _pad_mce: [u64; 3],
}
layout! { XenDomctlExtVcpucontext: 64 { vcpu: 0, size: 4, syscall32_callback_eip: 8, sysenter_callback_eip: 16, syscall32_callback_cs: 24, sysenter_callback_cs: 26, syscall32_disables_events: 28, sysenter_disables_events: 29, _pad: 30, mcg_cap: 32, _pad_mce: 40 } }

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

/// `struct xen_domctl_vcpuextstate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlVcpuextstate {
    /// vCPU.
    pub vcpu: u32,
    /// Padding.
    pub _pad: u32,
    /// Components.
    pub xfeature_mask: u64,
    /// Bytes.
    pub size: u64,
    /// XCR0, all it ever was, then the save area.
    pub buffer: u64,
}
layout! { XenDomctlVcpuextstate: 32 { vcpu: 0, _pad: 4, xfeature_mask: 8, size: 16, buffer: 24 } }

/// `struct xen_domctl_vcpu_msr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlVcpuMsr {
    /// Number.
    pub index: u32,
    /// 0.
    pub reserved: u32,
    /// Value.
    pub value: u64,
}
layout! { XenDomctlVcpuMsr: 16 { index: 0, reserved: 4, value: 8 } }

/// `struct xen_domctl_vcpu_msrs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenDomctlVcpuMsrs {
    /// vCPU.
    pub vcpu: u32,
    /// How many.
    pub msr_count: u32,
    /// [`XenDomctlVcpuMsr`]s.
    pub msrs: u64,
}
layout! { XenDomctlVcpuMsrs: 16 { vcpu: 0, msr_count: 4, msrs: 8 } }
