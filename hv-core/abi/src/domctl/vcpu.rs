//! A vCPU: its state, where it runs, what is sent to it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::XenctlBitmap;

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
