//! Physical devices and interrupts (`physdev_op`).
//!
//! Source: Xen `include/public/physdev.h`.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Obsolete, does nothing.
pub const PHYSDEVOP_IRQ_UNMASK_NOTIFY: u32 = 4;
/// Whether an interrupt needs an EOI.
pub const PHYSDEVOP_IRQ_STATUS_QUERY: u32 = 5;
/// Sets the virtual I/O privilege level.
pub const PHYSDEVOP_SET_IOPL: u32 = 6;
/// Sets the virtual I/O bitmap.
pub const PHYSDEVOP_SET_IOBITMAP: u32 = 7;
/// Reads an I/O APIC register.
pub const PHYSDEVOP_APIC_READ: u32 = 8;
/// Writes an I/O APIC register.
pub const PHYSDEVOP_APIC_WRITE: u32 = 9;
/// Allocates a vector.
pub const PHYSDEVOP_ALLOC_IRQ_VECTOR: u32 = 10;
/// Frees a vector.
pub const PHYSDEVOP_FREE_IRQ_VECTOR: u32 = 11;
/// End of interrupt.
pub const PHYSDEVOP_EOI: u32 = 12;
/// Maps a GSI or MSI to a physical interrupt number.
pub const PHYSDEVOP_MAP_PIRQ: u32 = 13;
/// Unmaps it.
pub const PHYSDEVOP_UNMAP_PIRQ: u32 = 14;
/// Old form of `pci_device_add`.
pub const PHYSDEVOP_MANAGE_PCI_ADD: u32 = 15;
/// Old form of `pci_device_remove`.
pub const PHYSDEVOP_MANAGE_PCI_REMOVE: u32 = 16;
/// Page of EOI bits; masks automatically.
pub const PHYSDEVOP_PIRQ_EOI_GMFN_V1: u32 = 17;
/// Old form of `restore_msi_ext`.
pub const PHYSDEVOP_RESTORE_MSI: u32 = 19;
/// Old form of `pci_device_add`.
pub const PHYSDEVOP_MANAGE_PCI_ADD_EXT: u32 = 20;
/// Trigger and polarity of a GSI.
pub const PHYSDEVOP_SETUP_GSI: u32 = 21;
/// Reserves a number.
pub const PHYSDEVOP_GET_FREE_PIRQ: u32 = 23;
/// Memory-mapped configuration space is usable.
pub const PHYSDEVOP_PCI_MMCFG_RESERVED: u32 = 24;
/// A PCI function appeared.
pub const PHYSDEVOP_PCI_DEVICE_ADD: u32 = 25;
/// A PCI function went away.
pub const PHYSDEVOP_PCI_DEVICE_REMOVE: u32 = 26;
/// Reprograms MSIs after a resume.
pub const PHYSDEVOP_RESTORE_MSI_EXT: u32 = 27;
/// Page of EOI bits.
pub const PHYSDEVOP_PIRQ_EOI_GMFN_V2: u32 = 28;
/// USB debug port.
pub const PHYSDEVOP_DBGP_OP: u32 = 29;
/// Before a device is assigned.
pub const PHYSDEVOP_PREPARE_MSIX: u32 = 30;
/// After a device was assigned.
pub const PHYSDEVOP_RELEASE_MSIX: u32 = 31;
/// The interrupt needs an EOI.
pub const XENIRQSTAT_NEEDS_EOI: u32 = 1;
/// The line is shared.
pub const XENIRQSTAT_SHARED: u32 = 2;
/// The range is reserved by firmware.
pub const XEN_PCI_MMCFG_RESERVED: u32 = 1;
/// Extended function.
pub const XEN_PCI_DEV_EXTFN: u32 = 1;
/// Virtual function.
pub const XEN_PCI_DEV_VIRTFN: u32 = 2;
/// Proximity domain follows.
pub const XEN_PCI_DEV_PXM: u32 = 4;
/// MSI.
pub const MAP_PIRQ_TYPE_MSI: i32 = 0;
/// GSI.
pub const MAP_PIRQ_TYPE_GSI: i32 = 1;
/// Neither.
pub const MAP_PIRQ_TYPE_UNKNOWN: i32 = 2;
/// MSI with a segment number.
pub const MAP_PIRQ_TYPE_MSI_SEG: i32 = 3;
/// Several MSIs.
pub const MAP_PIRQ_TYPE_MULTI_MSI: i32 = 4;

/// `struct physdev_eoi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevEoi {
    /// Physical interrupt.
    pub irq: u32,
}
layout! { PhysdevEoi: 4 { irq: 0 } }

/// `struct physdev_pirq_eoi_gmfn`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevPirqEoiGmfn {
    /// Frame.
    pub gmfn: u64,
}
layout! { PhysdevPirqEoiGmfn: 8 { gmfn: 0 } }

/// `struct physdev_irq_status_query`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevIrqStatusQuery {
    /// Physical interrupt.
    pub irq: u32,
    /// Out: `XENIRQSTAT_*`.
    pub flags: u32,
}
layout! { PhysdevIrqStatusQuery: 8 { irq: 0, flags: 4 } }

/// `struct physdev_set_iopl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevSetIopl {
    /// 0 to 3.
    pub iopl: u32,
}
layout! { PhysdevSetIopl: 4 { iopl: 0 } }

/// `struct physdev_set_iobitmap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevSetIobitmap {
    /// Pointer.
    pub bitmap: u64,
    /// Bits.
    pub nr_ports: u32,
    /// Padding.
    pub _pad: u32,
}
layout! { PhysdevSetIobitmap: 16 { bitmap: 0, nr_ports: 8, _pad: 12 } }

/// `struct physdev_apic`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevApic {
    /// Which I/O APIC.
    pub apic_physbase: u64,
    /// Register.
    pub reg: u32,
    /// In or out: value.
    pub value: u32,
}
layout! { PhysdevApic: 16 { apic_physbase: 0, reg: 8, value: 12 } }

/// `struct physdev_irq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevIrq {
    /// Interrupt.
    pub irq: u32,
    /// In or out: vector.
    pub vector: u32,
}
layout! { PhysdevIrq: 8 { irq: 0, vector: 4 } }

/// `struct physdev_map_pirq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevMapPirq {
    /// Domain.
    pub domid: u16,
    /// Padding.
    pub _pad0: u16,
    /// `MAP_PIRQ_TYPE_*`.
    pub r#type: i32,
    /// GSI.
    pub index: i32,
    /// In or out: physical interrupt.
    pub pirq: i32,
    /// PCI bus, segment in the high half.
    pub bus: i32,
    /// PCI device and function.
    pub devfn: i32,
    /// MSI-X entry, or number of MSIs.
    pub entry_nr: i32,
    /// Padding.
    pub _pad1: u32,
    /// MSI-X table's address or 0.
    pub table_base: u64,
}
layout! { PhysdevMapPirq: 40 { domid: 0, _pad0: 2, r#type: 4, index: 8, pirq: 12, bus: 16, devfn: 20, entry_nr: 24, _pad1: 28, table_base: 32 } }

/// `struct physdev_unmap_pirq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevUnmapPirq {
    /// Domain.
    pub domid: u16,
    /// Padding.
    pub _pad: u16,
    /// Physical interrupt.
    pub pirq: i32,
}
layout! { PhysdevUnmapPirq: 8 { domid: 0, _pad: 2, pirq: 4 } }

/// `struct physdev_manage_pci` and `physdev_restore_msi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevManagePci {
    /// PCI bus.
    pub bus: u8,
    /// PCI device and function.
    pub devfn: u8,
}
layout! { PhysdevManagePci: 2 { bus: 0, devfn: 1 } }

/// `struct physdev_manage_pci_ext`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevManagePciExt {
    /// PCI bus.
    pub bus: u8,
    /// PCI device and function.
    pub devfn: u8,
    /// Padding.
    pub _pad0: u16,
    /// Extended function.
    pub is_extfn: u32,
    /// Virtual function.
    pub is_virtfn: u32,
    /// Its physical function's bus.
    pub physfn_bus: u8,
    /// Its physical function.
    pub physfn_devfn: u8,
    /// Padding.
    pub _pad1: u16,
}
layout! { PhysdevManagePciExt: 16 { bus: 0, devfn: 1, _pad0: 2, is_extfn: 4, is_virtfn: 8, physfn_bus: 12, physfn_devfn: 13, _pad1: 14 } }

/// `struct physdev_setup_gsi`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevSetupGsi {
    /// GSI.
    pub gsi: i32,
    /// 0 edge, 1 level.
    pub triggering: u8,
    /// 0 high, 1 low.
    pub polarity: u8,
    /// Padding.
    pub _pad: u16,
}
layout! { PhysdevSetupGsi: 8 { gsi: 0, triggering: 4, polarity: 5, _pad: 6 } }

/// `struct physdev_get_free_pirq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevGetFreePirq {
    /// `MAP_PIRQ_TYPE_*`.
    pub r#type: i32,
    /// Out: number.
    pub pirq: u32,
}
layout! { PhysdevGetFreePirq: 8 { r#type: 0, pirq: 4 } }

/// `struct physdev_pci_mmcfg_reserved`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevPciMmcfgReserved {
    /// Machine address.
    pub address: u64,
    /// PCI segment.
    pub segment: u16,
    /// First bus.
    pub start_bus: u8,
    /// Last bus.
    pub end_bus: u8,
    /// `XEN_PCI_MMCFG_RESERVED`.
    pub flags: u32,
}
layout! { PhysdevPciMmcfgReserved: 16 { address: 0, segment: 8, start_bus: 10, end_bus: 11, flags: 12 } }

/// `struct physdev_pci_device_add`, without its optional array.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevPciDeviceAdd {
    /// PCI segment.
    pub seg: u16,
    /// PCI bus.
    pub bus: u8,
    /// PCI device and function.
    pub devfn: u8,
    /// `XEN_PCI_DEV_*`.
    pub flags: u32,
    /// Its physical function's bus.
    pub physfn_bus: u8,
    /// Its physical function.
    pub physfn_devfn: u8,
    /// Padding.
    pub _pad: u16,
}
layout! { PhysdevPciDeviceAdd: 12 { seg: 0, bus: 2, devfn: 3, flags: 4, physfn_bus: 8, physfn_devfn: 9, _pad: 10 } }

/// `struct physdev_pci_device`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevPciDevice {
    /// PCI segment.
    pub seg: u16,
    /// PCI bus.
    pub bus: u8,
    /// PCI device and function.
    pub devfn: u8,
}
layout! { PhysdevPciDevice: 4 { seg: 0, bus: 2, devfn: 3 } }

/// `struct physdev_dbgp_op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevDbgpOp {
    /// What.
    pub op: u8,
    /// 0 unknown, 1 PCI.
    pub bus: u8,
    /// Which.
    pub pci: PhysdevPciDevice,
}
layout! { PhysdevDbgpOp: 6 { op: 0, bus: 1, pci: 2 } }

/// `struct physdev_op`: argument of the old form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct PhysdevOp {
    /// `PHYSDEVOP_*`.
    pub cmd: u32,
    /// Padding.
    pub _pad: u32,
    /// Union of the old commands' structs.
    pub u: [u64; 2],
}
layout! { PhysdevOp: 24 { cmd: 0, _pad: 4, u: 8 } }
