//! `physdev_op` (33): interrupts and devices, for the domain that owns them; I/O
//! privilege, for everyone.
//!
//! A PIRQ is the hypervisor's own irq number ([`crate::irq`]): a GSI for pins, numbers
//! above for messages. The hypervisor programs messages; Linux leaves them alone.

mod pirq;

use super::{Call, Error, HypercallResult, Reply};
use crate::access;
use crate::addr::GuestVa;
use crate::arch::machine;
use crate::arch::msi::PciAddress;
use crate::irq;
use xen_abi::physdev as abi;
use zerocopy::{FromBytes, IntoBytes};

/// Highest number of ports an I/O bitmap can cover.
const ALL_PORTS: u32 = 65536;

/// Does command `args[0]` with the structure at `args[1]`.
///
/// # Errors
/// `EFAULT`: structure not accessible. `EINVAL`: numbers out of range. `EPERM`: not
/// the caller's to do. `EEXIST`, `EBUSY`, `ENODEV`, `ENOSPC`: see [`irq::Error`].
/// `EOPNOTSUPP`: a number of messages that is not a power of two. `ESRCH`: no such domain.
/// `ENOMEM`: it has too many interrupts. `ENOSYS`: no such command.
///
/// Source: Xen `include/public/physdev.h`.
pub fn physdev_op(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let (command, at) = (args[0] as u32, GuestVa(args[1]));
    match command {
        abi::PHYSDEVOP_SET_IOPL => set_iopl(call, at)?,
        abi::PHYSDEVOP_SET_IOBITMAP => set_io_bitmap(call, at)?,
        abi::PHYSDEVOP_IRQ_STATUS_QUERY => pirq::status_query(call, at)?,
        abi::PHYSDEVOP_EOI => pirq::end_of_interrupt(call, at)?,
        abi::PHYSDEVOP_PIRQ_EOI_GMFN_V2 => pirq::register_eoi_map(call, at)?,
        _ => {
            if !access::may_hardware(&call.domain.subject()) {
                return Err(Error::NotPermitted);
            }
            device_command(call, command, at)?;
        }
    }
    Ok(Reply::Done(0))
}

/// Commands of the domain that owns the hardware.
fn device_command(call: &mut Call<'_>, command: u32, at: GuestVa) -> Result<(), Error> {
    match command {
        abi::PHYSDEVOP_MAP_PIRQ => pirq::map(call, at),
        abi::PHYSDEVOP_UNMAP_PIRQ => pirq::unmap(call, at),
        abi::PHYSDEVOP_SETUP_GSI => pirq::setup_gsi(call, at),
        abi::PHYSDEVOP_ALLOC_IRQ_VECTOR => alloc_irq_vector(call, at),
        abi::PHYSDEVOP_APIC_READ => apic_read(call, at),
        // Pins are the hypervisor's to program; kernels write them out of habit.
        abi::PHYSDEVOP_APIC_WRITE => noted::<abi::PhysdevApic>(call, at),
        abi::PHYSDEVOP_RESTORE_MSI_EXT => {
            let d: abi::PhysdevPciDevice = call.guest().read(at)?;
            restore_messages(d.seg, d.bus, d.devfn);
            Ok(())
        }
        abi::PHYSDEVOP_RESTORE_MSI => {
            let d: abi::PhysdevManagePci = call.guest().read(at)?;
            restore_messages(0, d.bus, d.devfn);
            Ok(())
        }
        // Every device is the caller's already, and there is no IOMMU to tell.
        abi::PHYSDEVOP_PCI_DEVICE_ADD => noted::<abi::PhysdevPciDeviceAdd>(call, at),
        abi::PHYSDEVOP_MANAGE_PCI_ADD | abi::PHYSDEVOP_MANAGE_PCI_REMOVE => {
            noted::<abi::PhysdevManagePci>(call, at)
        }
        abi::PHYSDEVOP_MANAGE_PCI_ADD_EXT => noted::<abi::PhysdevManagePciExt>(call, at),
        abi::PHYSDEVOP_PCI_MMCFG_RESERVED => noted::<abi::PhysdevPciMmcfgReserved>(call, at),
        abi::PHYSDEVOP_PCI_DEVICE_REMOVE => noted::<abi::PhysdevPciDevice>(call, at),
        abi::PHYSDEVOP_PREPARE_MSIX => keep_msix(call, at, irq::prepare_msix),
        abi::PHYSDEVOP_RELEASE_MSIX => keep_msix(call, at, irq::release_msix),
        _ => Err(Error::NotImplemented),
    }
}

/// A command that needs nothing done: its argument must be there all the same.
fn noted<T: FromBytes + IntoBytes>(call: &Call<'_>, at: GuestVa) -> Result<(), Error> {
    call.guest().read(at).map(|_: T| ()).map_err(Into::into)
}

fn set_iopl(call: &mut Call<'_>, at: GuestVa) -> Result<(), Error> {
    let arg: abi::PhysdevSetIopl = call.guest().read(at)?;
    if arg.iopl > 3 {
        return Err(Error::Invalid);
    }
    call.state.iopl = arg.iopl as u8;
    Ok(())
}

/// The bitmap is read when it is needed, so here it may be anywhere that is the guest's.
fn set_io_bitmap(call: &mut Call<'_>, at: GuestVa) -> Result<(), Error> {
    let arg: abi::PhysdevSetIobitmap = call.guest().read(at)?;
    if arg.nr_ports > ALL_PORTS || !GuestVa(arg.bitmap).is_guest() {
        return Err(Error::Invalid);
    }
    call.state.io_bitmap = GuestVa(arg.bitmap);
    call.state.io_bitmap_ports = arg.nr_ports;
    Ok(())
}

/// Vectors are no concern of a guest's: it gets the number it gave.
fn alloc_irq_vector(call: &Call<'_>, at: GuestVa) -> Result<(), Error> {
    let mut arg: abi::PhysdevIrq = call.guest().read(at)?;
    if arg.irq >= irq::gsi_count() {
        return Err(Error::Invalid);
    }
    arg.vector = arg.irq;
    call.guest().write(at, &arg)?;
    Ok(())
}

fn apic_read(call: &Call<'_>, at: GuestVa) -> Result<(), Error> {
    let mut arg: abi::PhysdevApic = call.guest().read(at)?;
    arg.value = machine::io_apic_read(arg.apic_physbase, arg.reg).ok_or(Error::Invalid)?;
    call.guest().write(at, &arg)?;
    Ok(())
}

/// `prepare_msix` and `release_msix`: a function is about to be another domain's, or was.
fn keep_msix(
    call: &Call<'_>,
    at: GuestVa,
    keep: fn(PciAddress) -> Result<(), irq::Error>,
) -> Result<(), Error> {
    let d: abi::PhysdevPciDevice = call.guest().read(at)?;
    if !irq::messages_allowed() {
        return Ok(());
    }
    Ok(keep(PciAddress {
        segment: d.seg,
        bus: d.bus,
        devfn: d.devfn,
    })?)
}

fn restore_messages(segment: u16, bus: u8, devfn: u8) {
    irq::reprogram_device(PciAddress {
        segment,
        bus,
        devfn,
    });
}
