//! Platform operations of the hardware domain.
//!
//! Source: Xen `include/public/platform.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version callers must state.
pub const XENPF_INTERFACE_VERSION: u32 = 0x0300_0001;
/// Sets the wall clock.
pub const XENPF_SETTIME32: u32 = 17;
/// Memory types.
pub const XENPF_ADD_MEMTYPE: u32 = 31;
/// Memory types.
pub const XENPF_DEL_MEMTYPE: u32 = 32;
/// Memory types.
pub const XENPF_READ_MEMTYPE: u32 = 33;
/// Microcode.
pub const XENPF_MICROCODE_UPDATE: u32 = 35;
/// Quirks.
pub const XENPF_PLATFORM_QUIRK: u32 = 39;
/// EFI runtime services.
pub const XENPF_EFI_RUNTIME_CALL: u32 = 49;
/// What firmware said.
pub const XENPF_FIRMWARE_INFO: u32 = 50;
/// Sleeps or powers off.
pub const XENPF_ENTER_ACPI_SLEEP: u32 = 51;
/// CPU frequency.
pub const XENPF_CHANGE_FREQ: u32 = 52;
/// Idle times.
pub const XENPF_GETIDLETIME: u32 = 53;
/// Power management data.
pub const XENPF_SET_PROCESSOR_PMINFO: u32 = 54;
/// Physical CPUs.
pub const XENPF_GET_CPUINFO: u32 = 55;
/// Brings a CPU up.
pub const XENPF_CPU_ONLINE: u32 = 56;
/// Takes a CPU down.
pub const XENPF_CPU_OFFLINE: u32 = 57;
/// Adds a CPU.
pub const XENPF_CPU_HOTADD: u32 = 58;
/// Adds memory.
pub const XENPF_MEM_HOTADD: u32 = 59;
/// Core parking.
pub const XENPF_CORE_PARKING: u32 = 60;
/// CPU identification.
pub const XENPF_GET_CPU_VERSION: u32 = 48;
/// MSR access.
pub const XENPF_RESOURCE_OP: u32 = 61;
/// Sets the wall clock, 64-bit seconds.
pub const XENPF_SETTIME64: u32 = 62;
/// Hypervisor symbols.
pub const XENPF_GET_SYMBOL: u32 = 63;
/// Firmware: disks.
pub const XEN_FW_DISK_INFO: u32 = 1;
/// Firmware: boot sector signatures.
pub const XEN_FW_DISK_MBR_SIGNATURE: u32 = 2;
/// Firmware: monitor.
pub const XEN_FW_VBEDDC_INFO: u32 = 3;
/// Firmware: EFI.
pub const XEN_FW_EFI_INFO: u32 = 4;
/// Firmware: keyboard.
pub const XEN_FW_KBD_SHIFT_FLAGS: u32 = 5;
/// EFI: version.
pub const XEN_FW_EFI_VERSION: u32 = 0;
/// EFI: configuration tables.
pub const XEN_FW_EFI_CONFIG_TABLE: u32 = 1;
/// EFI: vendor.
pub const XEN_FW_EFI_VENDOR: u32 = 2;
/// EFI: memory descriptor.
pub const XEN_FW_EFI_MEM_INFO: u32 = 3;
/// EFI: runtime version.
pub const XEN_FW_EFI_RT_VERSION: u32 = 4;
/// EFI: option ROM.
pub const XEN_FW_EFI_PCI_ROM: u32 = 5;
/// Sleep: hardware-reduced registers.
pub const XENPF_ACPI_SLEEP_EXTENDED: u32 = 1;
/// CPU is up.
pub const XEN_PCPU_FLAGS_ONLINE: u32 = 1;
/// No such CPU.
pub const XEN_PCPU_FLAGS_INVALID: u32 = 2;

/// `struct xen_platform_op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenPlatformOp {
    /// `XENPF_*`.
    pub cmd: u32,
    /// `XENPF_INTERFACE_VERSION`.
    pub interface_version: u32,
    /// Union of the commands' structs.
    pub u: [u64; 16],
}
layout! { XenPlatformOp: 136 { cmd: 0, interface_version: 4, u: 8 } }

/// `struct xenpf_settime32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenpfSettime32 {
    /// Seconds.
    pub secs: u32,
    /// Nanoseconds.
    pub nsecs: u32,
    /// At this system time.
    pub system_time: u64,
}
layout! { XenpfSettime32: 16 { secs: 0, nsecs: 4, system_time: 8 } }

/// `struct xenpf_settime64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenpfSettime64 {
    /// Seconds.
    pub secs: u64,
    /// Nanoseconds.
    pub nsecs: u32,
    /// Must be zero.
    pub mbz: u32,
    /// At this system time.
    pub system_time: u64,
}
layout! { XenpfSettime64: 24 { secs: 0, nsecs: 8, mbz: 12, system_time: 16 } }

/// `struct xenpf_firmware_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenpfFirmwareInfo {
    /// `XEN_FW_*`.
    pub r#type: u32,
    /// Which.
    pub index: u32,
    /// Union of the answers.
    pub u: [u64; 4],
}
layout! { XenpfFirmwareInfo: 40 { r#type: 0, index: 4, u: 8 } }

/// `struct xenpf_enter_acpi_sleep`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenpfEnterAcpiSleep {
    /// PM1a control value.
    pub val_a: u16,
    /// PM1b control value.
    pub val_b: u16,
    /// State (S*n*).
    pub sleep_state: u32,
    /// `XENPF_ACPI_SLEEP_*`.
    pub flags: u32,
}
layout! { XenpfEnterAcpiSleep: 12 { val_a: 0, val_b: 2, sleep_state: 4, flags: 8 } }

/// `struct xenpf_pcpuinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenpfPcpuinfo {
    /// CPU.
    pub xen_cpuid: u32,
    /// Out: highest CPU.
    pub max_present: u32,
    /// Out: `XEN_PCPU_FLAGS_*`.
    pub flags: u32,
    /// Out: APIC id.
    pub apic_id: u32,
    /// Out: ACPI id.
    pub acpi_id: u32,
}
layout! { XenpfPcpuinfo: 20 { xen_cpuid: 0, max_present: 4, flags: 8, apic_id: 12, acpi_id: 16 } }

/// `struct xenpf_pcpu_version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenpfPcpuVersion {
    /// CPU.
    pub xen_cpuid: u32,
    /// Out: highest CPU.
    pub max_present: u32,
    /// Out: vendor.
    pub vendor_id: [u8; 12],
    /// Out: family.
    pub family: u32,
    /// Out: model.
    pub model: u32,
    /// Out: stepping.
    pub stepping: u32,
}
layout! { XenpfPcpuVersion: 32 { xen_cpuid: 0, max_present: 4, vendor_id: 8, family: 20, model: 24, stepping: 28 } }

/// EFI: properties that Apple's firmware keeps.
pub const XEN_FW_EFI_APPLE_PROPERTIES: u32 = 6;

// `xenpf_efi_runtime_call.function`.
/// `GetTime`.
pub const XEN_EFI_GET_TIME: u32 = 1;
/// `SetTime`.
pub const XEN_EFI_SET_TIME: u32 = 2;
/// `GetWakeupTime`.
pub const XEN_EFI_GET_WAKEUP_TIME: u32 = 3;
/// `SetWakeupTime`.
pub const XEN_EFI_SET_WAKEUP_TIME: u32 = 4;
/// `GetNextHighMonotonicCount`.
pub const XEN_EFI_GET_NEXT_HIGH_MONOTONIC_COUNT: u32 = 5;
/// `GetVariable`.
pub const XEN_EFI_GET_VARIABLE: u32 = 6;
/// `SetVariable`.
pub const XEN_EFI_SET_VARIABLE: u32 = 7;
/// `GetNextVariableName`.
pub const XEN_EFI_GET_NEXT_VARIABLE_NAME: u32 = 8;
/// `QueryVariableInfo`.
pub const XEN_EFI_QUERY_VARIABLE_INFO: u32 = 9;
/// `QueryCapsuleCapabilities`.
pub const XEN_EFI_QUERY_CAPSULE_CAPABILITIES: u32 = 10;
/// `UpdateCapsule`.
pub const XEN_EFI_UPDATE_CAPSULE: u32 = 11;
/// `misc` of `GetTime`, out: setting the time clears what is below a second.
pub const XEN_EFI_GET_TIME_SET_CLEARS_NS: u32 = 1;
/// `misc` of `GetWakeupTime`, out: the alarm is on.
pub const XEN_EFI_GET_WAKEUP_TIME_ENABLED: u32 = 1;
/// `misc` of `GetWakeupTime`, out: the alarm has gone off.
pub const XEN_EFI_GET_WAKEUP_TIME_PENDING: u32 = 2;
/// `misc` of `SetWakeupTime`: turn the alarm on.
pub const XEN_EFI_SET_WAKEUP_TIME_ENABLE: u32 = 1;
/// `misc` of `SetWakeupTime`: leave its time.
pub const XEN_EFI_SET_WAKEUP_TIME_ENABLE_ONLY: u32 = 2;
/// `misc` of `QueryVariableInfo`: as it was when the hypervisor started.
pub const XEN_EFI_VARINFO_BOOT_SNAPSHOT: u32 = 1;

/// `struct xenpf_efi_time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenpfEfiTime {
    /// Year.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub min: u8,
    /// 0 to 59.
    pub sec: u8,
    /// Padding.
    pub _pad1: u8,
    /// Nanoseconds.
    pub ns: u32,
    /// Minutes from UTC.
    pub tz: i16,
    /// Daylight saving.
    pub daylight: u8,
    /// Padding.
    pub _pad2: u8,
}
layout! { XenpfEfiTime: 16 { year: 0, month: 2, day: 3, hour: 4, min: 5, sec: 6, ns: 8, tz: 12, daylight: 14 } }

/// `struct xenpf_efi_guid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenpfEfiGuid {
    /// First part.
    pub data1: u32,
    /// Second part.
    pub data2: u16,
    /// Third part.
    pub data3: u16,
    /// The rest.
    pub data4: [u8; 8],
}
layout! { XenpfEfiGuid: 16 { data1: 0, data2: 4, data3: 6, data4: 8 } }

/// `struct xenpf_efi_runtime_call`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct XenpfEfiRuntimeCall {
    /// `XEN_EFI_*`.
    pub function: u32,
    /// Flags of the function, in and out; for `GetNextHighMonotonicCount` its answer.
    pub misc: u32,
    /// Out: the service's status.
    pub status: u64,
    /// Union of the functions' structs.
    pub u: [u64; 5],
}
layout! { XenpfEfiRuntimeCall: 56 { function: 0, misc: 4, status: 8, u: 16 } }

/// `GetTime` in `struct xenpf_efi_runtime_call`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EfiGetTime {
    /// Out: the time.
    pub time: XenpfEfiTime,
    /// Out: ticks a second.
    pub resolution: u32,
    /// Out: error in parts of a million.
    pub accuracy: u32,
}
layout! { EfiGetTime: 24 { time: 0, resolution: 16, accuracy: 20 } }

/// `GetVariable` and `SetVariable` in `struct xenpf_efi_runtime_call`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EfiVariable {
    /// Address of the name: UTF-16 with a NUL.
    pub name: u64,
    /// Bytes of data, or of room for it; out: of data.
    pub size: u64,
    /// Address of the data.
    pub data: u64,
    /// Whose variable it is.
    pub vendor_guid: XenpfEfiGuid,
}
layout! { EfiVariable: 40 { name: 0, size: 8, data: 16, vendor_guid: 24 } }

/// `GetNextVariableName` in `struct xenpf_efi_runtime_call`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EfiNextVariableName {
    /// Bytes of room for the name; out: of the name.
    pub size: u64,
    /// Address of the name, in and out.
    pub name: u64,
    /// Whose variable it is, in and out.
    pub vendor_guid: XenpfEfiGuid,
}
layout! { EfiNextVariableName: 32 { size: 0, name: 8, vendor_guid: 16 } }

/// `QueryVariableInfo` in `struct xenpf_efi_runtime_call`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EfiVariableInfo {
    /// Attributes of the variables in question.
    pub attr: u32,
    /// Padding.
    pub _pad: u32,
    /// Out: bytes of room for all.
    pub max_store_size: u64,
    /// Out: bytes left.
    pub remain_store_size: u64,
    /// Out: bytes of the largest one.
    pub max_size: u64,
}
layout! { EfiVariableInfo: 32 { attr: 0, max_store_size: 8, remain_store_size: 16, max_size: 24 } }

/// Configuration tables in `union xenpf_efi_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EfiInfoTables {
    /// Machine address.
    pub addr: u64,
    /// How many.
    pub nent: u32,
    /// Padding.
    pub _pad: u32,
}
layout! { EfiInfoTables: 16 { addr: 0, nent: 8 } }

/// Vendor in `union xenpf_efi_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EfiInfoVendor {
    /// The vendor's version.
    pub revision: u32,
    /// Bytes of room for the name.
    pub bufsz: u32,
    /// Address for the name: UTF-16 with a NUL.
    pub name: u64,
}
layout! { EfiInfoVendor: 16 { revision: 0, bufsz: 4, name: 8 } }

/// A region of memory in `union xenpf_efi_info`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct EfiInfoMemory {
    /// An address in it; out: its first.
    pub addr: u64,
    /// Out: bytes from there on.
    pub size: u64,
    /// Out: attributes.
    pub attr: u64,
    /// Out: type.
    pub r#type: u32,
    /// Padding.
    pub _pad: u32,
}
layout! { EfiInfoMemory: 32 { addr: 0, size: 8, attr: 16, r#type: 24 } }
