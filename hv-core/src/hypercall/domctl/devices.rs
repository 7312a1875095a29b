//! Devices for other domains: which device memory, I/O ports and interrupts a domain may use. Tools
//! give and take what is theirs.
//!
//! A domain that is given a device with nothing between it and memory reaches all memory: whom tools
//! give one, they trust with the host.

use super::{After, Request};
use crate::access;
use crate::domain::Domain;
use crate::hypercall::{Call, Error};
use core::ops::RangeInclusive;
use xen_abi::domctl as abi;

/// Gives if `allow` is not 0, else takes.
fn change<E>(
    allow: u8,
    give: impl FnOnce() -> Result<(), E>,
    take: impl FnOnce() -> Result<(), E>,
) -> Result<After, Error>
where
    Error: From<E>,
{
    if allow == 0 {
        take()?;
    } else {
        give()?;
    }
    Ok(After::Done)
}

/// `irq_permission`.
///
/// `EINVAL`: no such interrupt. `EPERM`: not the caller's. `ENOMEM`: too many.
pub(super) fn irq(call: &Call<'_>, domain: &Domain, request: &Request) -> Result<After, Error> {
    let wanted: abi::XenDomctlIrqPermission = request.body();
    let line = wanted.pirq;
    if line >= call.domain.events.pirq_limit() {
        return Err(Error::Invalid);
    }
    // Number 0 is the timer's, which is nobody's.
    if line == 0 || !access::may_use_line(call.domain, line) {
        return Err(Error::NotPermitted);
    }
    let devices = &domain.devices;
    change(
        wanted.allow_access,
        || devices.give_line(line),
        || devices.take_line(line),
    )
}

/// `iomem_permission`.
///
/// `EINVAL`: no range of frames. `EPERM`: not the caller's. `ENOMEM`: too many ranges.
pub(super) fn iomem(call: &Call<'_>, domain: &Domain, request: &Request) -> Result<After, Error> {
    let wanted: abi::XenDomctlIomemPermission = request.body();
    let frames = frames(wanted.first_mfn, wanted.nr_mfns)?;
    if !access::may_use_iomem(call.domain, &frames) {
        return Err(Error::NotPermitted);
    }
    let devices = &domain.devices;
    change(
        wanted.allow_access,
        || devices.give_frames(&frames),
        || devices.take_frames(&frames),
    )
}

/// `ioport_permission`.
///
/// `EINVAL`: no range of ports. `EPERM`: not the caller's. `ENOMEM`.
pub(super) fn ioport(call: &Call<'_>, domain: &Domain, request: &Request) -> Result<After, Error> {
    let wanted: abi::XenDomctlIoportPermission = request.body();
    let ports = ports(wanted.first_port, wanted.nr_ports)?;
    if !access::may_use_ports(call.domain, ports.clone()) {
        return Err(Error::NotPermitted);
    }
    if wanted.allow_access == 0 {
        domain.io.ports.remove(ports);
    } else {
        let given = domain.io.ports.insert(ports);
        given.map_err(|_| Error::NoMemory)?;
        domain.devices.note_ports();
    }
    Ok(After::Done)
}

/// `assign_device` and its kin.
///
/// `EOPNOTSUPP`: there is no IOMMU.
pub(super) const fn assign() -> Result<After, Error> {
    Err(Error::NotSupported)
}

/// Frames from `first` on, as Xen counts them: none from frame 0 on are all.
fn frames(first: u64, count: u64) -> Result<RangeInclusive<u64>, Error> {
    let last = first.wrapping_add(count).wrapping_sub(1);
    if last < first {
        return Err(Error::Invalid);
    }
    Ok(first..=last)
}

/// Ports from `first` on: at least one.
fn ports(first: u32, count: u32) -> Result<RangeInclusive<u16>, Error> {
    let last = count.checked_sub(1).and_then(|n| first.checked_add(n));
    let last = last.and_then(|last| u16::try_from(last).ok());
    match (u16::try_from(first), last) {
        (Ok(first), Some(last)) => Ok(first..=last),
        _ => Err(Error::Invalid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::ranges::Full;

    #[test]
    fn ranges_of_frames_are_checked_as_xen_checks_them() {
        assert_eq!(frames(0xfe000, 16), Ok(0xfe000..=0xfe00f));
        assert_eq!(frames(5, 0), Err(Error::Invalid));
        assert_eq!(frames(5, u64::MAX - 3), Err(Error::Invalid));
        // Nobody has so many.
        assert_eq!(frames(0, 0), Ok(0..=u64::MAX));
        assert_eq!(frames(1, u64::MAX), Ok(1..=u64::MAX));
    }

    #[test]
    fn ranges_of_ports_are_checked_as_xen_checks_them() {
        assert_eq!(ports(0x3f8, 8), Ok(0x3f8..=0x3ff));
        assert_eq!(ports(0xffff, 1), Ok(0xffff..=0xffff));
        for (first, count) in [
            (0, 0),
            (0x10000, 1),
            (0xffff, 2),
            (0, 0x10001),
            (9, u32::MAX),
        ] {
            assert_eq!(
                ports(first, count),
                Err(Error::Invalid),
                "{first:x} {count:x}"
            );
        }
        assert_eq!(ports(0, 0x10000), Ok(0..=0xffff));
    }

    #[test]
    fn a_set_that_is_full_is_out_of_memory() {
        let full = || Err::<(), _>(Full);
        assert_eq!(change(1, full, || Ok(())), Err(Error::NoMemory));
        assert_eq!(change(0, full, || Ok(())), Ok(After::Done));
    }
}
