//! Physical interrupts of the hardware domain, and those it passes on to others.

use crate::access;
use crate::addr::{CpuId, DomId, GuestVa, Mfn};
use crate::arch::msi::PciAddress;
use crate::domain::{Domain, devices, registry};
use crate::fallible::Arc;
use crate::hypercall::{Call, Error};
use crate::irq;
use crate::mm::host;
use crate::mm::shared_page::SharedPage;
use xen_abi::physdev as abi;

/// What a new PIRQ is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// A pin, which has its number already.
    Gsi(u32),
    /// `count` messages of a function's MSI capability.
    Msi { device: PciAddress, count: u32 },
    /// An entry of a function's MSI-X table.
    Msix { device: PciAddress, entry: u16 },
}

/// `map_pirq`: numbers a pin or messages, and programs messages.
pub(super) fn map(call: &Call<'_>, at: GuestVa) -> Result<(), Error> {
    let mut arg: abi::PhysdevMapPirq = call.guest().read(at)?;
    let other = other(call, arg.domid)?;
    // Interrupts start on the boot CPU; binding an event channel moves them.
    let cpu = CpuId(0);
    let wanted = wanted(&arg, irq::gsi_count())?;
    if !matches!(wanted, Wanted::Gsi(_)) && !irq::messages_allowed() {
        return Err(Error::NotPermitted);
    }
    let (number, count) = match wanted {
        Wanted::Gsi(gsi) => (gsi, 1),
        Wanted::Msi { device, count } => (irq::alloc_msi(device, count, cpu)?, count),
        Wanted::Msix { device, entry } => (irq::alloc_msix(device, entry, cpu)?, 1),
    };
    if let Some(other) = &other {
        give(call, other, wanted, number, count)?;
    }
    arg.pirq = number.cast_signed();
    other.as_ref().unwrap_or(call.domain).mark_eoi(number);
    call.guest().write(at, &arg)?;
    Ok(())
}

/// Lets another domain bind what was numbered for it.
fn give(
    call: &Call<'_>,
    other: &Domain,
    wanted: Wanted,
    number: u32,
    count: u32,
) -> Result<(), Error> {
    if let Wanted::Gsi(gsi) = wanted {
        if gsi == 0 || !access::may_use_line(call.domain, gsi) {
            return Err(Error::NotPermitted);
        }
        return Ok(other.devices.give_line(gsi)?);
    }
    let given = other.devices.give_messages(number, count);
    if given.is_ok() && !other.life.is_dying() {
        return Ok(());
    }
    for number in number..number + count {
        // Who takes the domain apart may have freed them.
        if given.is_err() || other.devices.forget(number) {
            devices::free_message(number)?;
        }
    }
    given.map_err(Error::from).and(Err(Error::Invalid))
}

/// `unmap_pirq`: silences it, and gives messages back.
pub(super) fn unmap(call: &Call<'_>, at: GuestVa) -> Result<(), Error> {
    let arg: abi::PhysdevUnmapPirq = call.guest().read(at)?;
    let other = other(call, arg.domid)?;
    let number = u32::try_from(arg.pirq).map_err(|_| Error::Invalid)?;
    let info = irq::info(number).ok_or(Error::Invalid)?;
    if other.as_ref().is_some_and(|d| !d.devices.has_line(number)) {
        return Err(Error::Invalid);
    }
    let subject = other.as_ref().unwrap_or(call.domain);
    match info.bound {
        Some(to) if to.domain != subject.id => return Err(Error::NotPermitted),
        Some(_) => irq::unbind(number, subject.id),
        None => {}
    }
    if number >= irq::gsi_count() {
        devices::free_message(number)?;
    } else if let Some(other) = &other {
        other.devices.take_line(number)?;
    }
    Ok(())
}

/// `setup_gsi`: how a pin signals.
pub(super) fn setup_gsi(call: &Call<'_>, at: GuestVa) -> Result<(), Error> {
    let arg: abi::PhysdevSetupGsi = call.guest().read(at)?;
    let gsi = u32::try_from(arg.gsi).map_err(|_| Error::Invalid)?;
    irq::setup_gsi(gsi, arg.triggering != 0, arg.polarity != 0)?;
    call.domain.mark_eoi(gsi);
    Ok(())
}

/// `irq_status_query`. A guest that does not look at the map of
/// [`register_eoi_map`] must always end its interrupts.
pub(super) fn status_query(call: &Call<'_>, at: GuestVa) -> Result<(), Error> {
    let mut arg: abi::PhysdevIrqStatusQuery = call.guest().read(at)?;
    if arg.irq >= irq::irq_count() {
        return Err(Error::Invalid);
    }
    arg.flags = abi::XENIRQSTAT_NEEDS_EOI;
    call.guest().write(at, &arg)?;
    Ok(())
}

/// `eoi`: the guest served the device.
#[inline]
pub(super) fn end_of_interrupt(call: &Call<'_>, at: GuestVa) -> Result<(), Error> {
    let arg: abi::PhysdevEoi = call.guest().read(at)?;
    Ok(irq::guest_eoi(arg.irq, call.domain.id)?)
}

/// `pirq_eoi_gmfn_v2`: a page of the guest's in which the bit of each PIRQ says
/// whether it has to be ended. Level-triggered pins have to.
pub(super) fn register_eoi_map(call: &Call<'_>, at: GuestVa) -> Result<(), Error> {
    let arg: abi::PhysdevPirqEoiGmfn = call.guest().read(at)?;
    let mfn = Mfn::from_guest(arg.gmfn).ok_or(Error::Invalid)?;
    let mm = host::get();
    mm.get_writable(mfn, call.domain.id)
        .map_err(|_| Error::Invalid)?;
    let page = SharedPage::new(&mm.mem, mfn);
    if !call.domain.pirq_eoi.set(mfn, page) {
        mm.put_writable(mfn);
        return Err(Error::Busy);
    }
    for number in 0..irq::irq_count() {
        call.domain.mark_eoi(number);
    }
    Ok(())
}

impl Domain {
    /// Notes in the domain's map, if it has one, whether it must end `pirq`.
    fn mark_eoi(&self, pirq: u32) {
        let level = irq::info(pirq).is_some_and(|line| line.source.is_level());
        self.pirq_eoi.mark(pirq, level);
    }
}

/// Another domain that an interrupt is to be for; none: the caller.
///
/// # Errors
/// `ESRCH`: no such domain. `EPERM`: the caller does not control it.
fn other(call: &Call<'_>, id: u16) -> Result<Option<Arc<Domain>>, Error> {
    let id = DomId(id);
    if id == DomId::SELF || id == call.domain.id {
        return Ok(None);
    }
    let other = registry::get(id).ok_or(Error::NoDomain)?;
    if access::may_control(&call.domain.subject(), id) {
        Ok(Some(other))
    } else {
        Err(Error::NotPermitted)
    }
}

/// Checks the arguments of `map_pirq`.
fn wanted(arg: &abi::PhysdevMapPirq, gsis: u32) -> Result<Wanted, Error> {
    let segment = match arg.r#type {
        abi::MAP_PIRQ_TYPE_GSI => {
            let gsi = u32::try_from(arg.index).map_err(|_| Error::Invalid)?;
            let agrees = arg.pirq < 0 || arg.pirq == arg.index;
            return if gsi < gsis && agrees {
                Ok(Wanted::Gsi(gsi))
            } else {
                Err(Error::Invalid)
            };
        }
        abi::MAP_PIRQ_TYPE_MSI => 0,
        abi::MAP_PIRQ_TYPE_MSI_SEG | abi::MAP_PIRQ_TYPE_MULTI_MSI => (arg.bus >> 16) as u16,
        _ => return Err(Error::Invalid),
    };
    let device = PciAddress {
        segment,
        bus: arg.bus as u8,
        devfn: u8::try_from(arg.devfn).map_err(|_| Error::Invalid)?,
    };
    if arg.r#type == abi::MAP_PIRQ_TYPE_MULTI_MSI {
        let count = u32::try_from(arg.entry_nr).map_err(|_| Error::Invalid)?;
        return match count {
            0 | 33.. => Err(Error::Invalid),
            n if !n.is_power_of_two() => Err(Error::NotSupported),
            count => Ok(Wanted::Msi { device, count }),
        };
    }
    if arg.table_base != 0 {
        let entry = u16::try_from(arg.entry_nr).map_err(|_| Error::Invalid)?;
        return Ok(Wanted::Msix { device, entry });
    }
    Ok(Wanted::Msi { device, count: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn arg(kind: i32) -> abi::PhysdevMapPirq {
        abi::PhysdevMapPirq {
            r#type: kind,
            index: -1,
            pirq: -1,
            bus: 0x0001_0003,
            devfn: 0x21,
            ..abi::PhysdevMapPirq::new_zeroed()
        }
    }

    fn device(segment: u16) -> PciAddress {
        PciAddress {
            segment,
            bus: 3,
            devfn: 0x21,
        }
    }

    #[test]
    fn pins_keep_their_numbers() {
        let mut a = arg(abi::MAP_PIRQ_TYPE_GSI);
        for (index, pirq, result) in [
            (9, 9, Ok(Wanted::Gsi(9))),
            (23, -1, Ok(Wanted::Gsi(23))),
            (9, 10, Err(Error::Invalid)),
            (24, 24, Err(Error::Invalid)),
            (-1, -1, Err(Error::Invalid)),
        ] {
            (a.index, a.pirq) = (index, pirq);
            assert_eq!(wanted(&a, 24), result, "{index} {pirq}");
        }
    }

    #[test]
    fn messages() {
        let mut a = arg(abi::MAP_PIRQ_TYPE_MSI);
        let msi = |segment, count| {
            Ok(Wanted::Msi {
                device: device(segment),
                count,
            })
        };
        assert_eq!(wanted(&a, 24), msi(0, 1));
        a.r#type = abi::MAP_PIRQ_TYPE_MSI_SEG;
        assert_eq!(wanted(&a, 24), msi(1, 1));
        a.r#type = abi::MAP_PIRQ_TYPE_MULTI_MSI;
        for (count, result) in [
            (4, msi(1, 4)),
            (3, Err(Error::NotSupported)),
            (0, Err(Error::Invalid)),
            (64, Err(Error::Invalid)),
            (-1, Err(Error::Invalid)),
        ] {
            a.entry_nr = count;
            assert_eq!(wanted(&a, 24), result, "{count}");
        }
        a.r#type = abi::MAP_PIRQ_TYPE_MSI_SEG;
        (a.table_base, a.entry_nr) = (0xfebc_0000, 2);
        let entry = Wanted::Msix {
            device: device(1),
            entry: 2,
        };
        assert_eq!(wanted(&a, 24), Ok(entry));
        a.devfn = 256;
        assert_eq!(wanted(&a, 24), Err(Error::Invalid));
        a.r#type = abi::MAP_PIRQ_TYPE_UNKNOWN;
        assert_eq!(wanted(&a, 24), Err(Error::Invalid));
    }
}
