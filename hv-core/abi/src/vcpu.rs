//! Virtual CPUs.
//!
//! Source: Xen `include/public/vcpu.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Sets a new vCPU's context.
pub const VCPUOP_INITIALISE: u32 = 0;
/// Starts a vCPU.
pub const VCPUOP_UP: u32 = 1;
/// Stops a vCPU.
pub const VCPUOP_DOWN: u32 = 2;
/// Whether it is up.
pub const VCPUOP_IS_UP: u32 = 3;
/// Times in each state.
pub const VCPUOP_GET_RUNSTATE_INFO: u32 = 4;
/// Area the hypervisor keeps those in.
pub const VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA: u32 = 5;
/// Starts the periodic timer.
pub const VCPUOP_SET_PERIODIC_TIMER: u32 = 6;
/// Stops it.
pub const VCPUOP_STOP_PERIODIC_TIMER: u32 = 7;
/// Starts the one-shot timer.
pub const VCPUOP_SET_SINGLESHOT_TIMER: u32 = 8;
/// Stops it.
pub const VCPUOP_STOP_SINGLESHOT_TIMER: u32 = 9;
/// Moves `vcpu_info`.
pub const VCPUOP_REGISTER_VCPU_INFO: u32 = 10;
/// Sends an NMI.
pub const VCPUOP_SEND_NMI: u32 = 11;
/// Physical CPU it is pinned to.
pub const VCPUOP_GET_PHYSID: u32 = 12;
/// Second copy of the time.
pub const VCPUOP_REGISTER_VCPU_TIME_MEMORY_AREA: u32 = 13;
/// One-shot: refuse a time that is past.
pub const VCPU_SSHOTTMR_FUTURE: u32 = 1;
/// On a CPU.
pub const RUNSTATE_RUNNING: i32 = 0;
/// Waits for a CPU.
pub const RUNSTATE_RUNNABLE: i32 = 1;
/// Waits for an event.
pub const RUNSTATE_BLOCKED: i32 = 2;
/// Down or paused.
pub const RUNSTATE_OFFLINE: i32 = 3;
/// Bit of `state_entry_time`: update in progress.
pub const XEN_RUNSTATE_UPDATE: u64 = 0x8000_0000_0000_0000;

/// `struct vcpu_runstate_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuRunstateInfo {
    /// `RUNSTATE_*`.
    pub state: i32,
    /// Padding.
    pub _pad: u32,
    /// System time of entry.
    pub state_entry_time: u64,
    /// Nanoseconds in each state.
    pub time: [u64; 4],
}
layout! { VcpuRunstateInfo: 48 { state: 0, _pad: 4, state_entry_time: 8, time: 16 } }

/// `struct vcpu_register_runstate_memory_area`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuRegisterRunstateMemoryArea {
    /// Guest address.
    pub addr: u64,
}
layout! { VcpuRegisterRunstateMemoryArea: 8 { addr: 0 } }

/// `struct vcpu_set_periodic_timer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuSetPeriodicTimer {
    /// Period in nanoseconds.
    pub period_ns: u64,
}
layout! { VcpuSetPeriodicTimer: 8 { period_ns: 0 } }

/// `struct vcpu_set_singleshot_timer`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuSetSingleshotTimer {
    /// System time.
    pub timeout_abs_ns: u64,
    /// `VCPU_SSHOTTMR_*`.
    pub flags: u32,
    /// Padding.
    pub _pad: u32,
}
layout! { VcpuSetSingleshotTimer: 16 { timeout_abs_ns: 0, flags: 8, _pad: 12 } }

/// `struct vcpu_register_vcpu_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuRegisterVcpuInfo {
    /// Frame.
    pub mfn: u64,
    /// Offset in it.
    pub offset: u32,
    /// Unused.
    pub rsvd: u32,
}
layout! { VcpuRegisterVcpuInfo: 16 { mfn: 0, offset: 8, rsvd: 12 } }

/// `struct vcpu_get_physid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuGetPhysid {
    /// APIC id, ACPI id in the high half.
    pub phys_id: u64,
}
layout! { VcpuGetPhysid: 8 { phys_id: 0 } }

/// `struct vcpu_register_time_memory_area`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct VcpuRegisterTimeMemoryArea {
    /// Guest address.
    pub addr: u64,
}
layout! { VcpuRegisterTimeMemoryArea: 8 { addr: 0 } }
