//! May this caller do this to that domain? One function a question.
//!
//! Answers depend on roles, which a domain has from its creation, and on what devices tools gave
//! it since. Knows no hypercalls; whoever asks chooses the error. What was done with a right, and what was
//! tried without one, is in [`audit`].

pub mod audit;

use crate::addr::{DomId, Mfn};
pub use crate::domain::Roles;
use crate::domain::{Domain, rights};
use crate::pv_mm::IoAccess;
use core::ops::RangeInclusive;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The domain.
    pub id: DomId,
    /// Its roles.
    pub roles: Roles,
}

impl Domain {
    /// This domain as one who asks.
    #[must_use]
    #[inline]
    pub fn subject(&self) -> Subject {
        let mut roles = self.roles;
        roles.set(
            Roles::DRIVER,
            roles.contains(Roles::DRIVER) || self.devices.has_any(),
        );
        Subject { id: self.id, roles }
    }
}

/// Whether it may manage `target`: map its memory, read and change its state. Nobody
/// needs leave to manage itself.
#[must_use]
#[inline]
pub fn may_control(who: &Subject, target: DomId) -> bool {
    who.id == target || who.roles.contains(Roles::CONTROL)
}

/// Whether it may create domains and ask about and change the host (`sysctl`,
/// scheduling, the hypervisor's log).
#[must_use]
pub fn may_control_host(who: &Subject) -> bool {
    who.roles.contains(Roles::CONTROL)
}

/// Whether it may ask which domains there are and how they are: tools, and who serves
/// xenstore, which has to learn of deaths.
#[must_use]
pub fn may_see_domains(who: &Subject) -> bool {
    who.roles.intersects(Roles::CONTROL | Roles::XENSTORE)
}

/// Whether any of the calls that manage the host and its domains is for it at all: who has no
/// business with them is heard only so often.
#[must_use]
pub fn may_have_business(who: &Subject) -> bool {
    who.roles
        .intersects(Roles::HARDWARE | Roles::CONTROL | Roles::XENSTORE)
}

/// Whether it may look at the host's memory map and the machine-to-physical table, and map
/// what is the hypervisor's own.
#[must_use]
#[inline]
pub fn may_see_host_memory(who: &Subject) -> bool {
    who.roles.contains(Roles::CONTROL)
}

/// Whether it may write back every cache of a CPU: who has devices that look at memory.
#[must_use]
pub fn may_write_back_caches(who: &Subject) -> bool {
    who.roles.intersects(Roles::HARDWARE | Roles::DRIVER)
}

/// Whether devices are its: interrupts, PCI, power, the date.
#[must_use]
pub fn may_hardware(who: &Subject) -> bool {
    who.roles.contains(Roles::HARDWARE)
}

/// Whether it may read and write the serial line.
#[must_use]
pub fn may_use_console(who: &Subject) -> bool {
    who.roles.contains(Roles::HARDWARE)
}

/// Whether it may bind virtual interrupt `virq` that the hypervisor raises once for
/// the whole host.
#[must_use]
pub fn may_bind_global_virq(who: &Subject) -> bool {
    who.roles
        .intersects(Roles::HARDWARE | Roles::CONTROL | Roles::XENSTORE)
}

/// Whether it may open and close event ports of `target`: its own, or as tools.
#[must_use]
pub fn may_open_ports_of(caller: &Domain, target: &Domain) -> bool {
    may_control(&caller.subject(), target.id)
}

/// Whether it may look at event ports of `target`.
#[must_use]
pub fn may_see_ports_of(caller: &Domain, target: &Domain) -> bool {
    may_control(&caller.subject(), target.id)
}

/// Whether it may grow and measure the grant table of `target`. (Using a grant needs
/// the grant only.)
#[must_use]
pub fn may_size_grants_of(caller: &Domain, target: &Domain) -> bool {
    may_control(&caller.subject(), target.id)
}

/// Whether it may look at how much memory `target` has.
#[must_use]
pub fn may_see_memory_of(caller: &Domain, target: &Domain) -> bool {
    may_control(&caller.subject(), target.id)
}

/// Whether it may give `target` memory, or take it.
#[must_use]
pub fn may_adjust_memory_of(caller: &Domain, target: &Domain) -> bool {
    may_control(&caller.subject(), target.id)
}

/// Whether it may bind a line of the host; tools may give those that are theirs.
#[must_use]
pub fn may_use_line(domain: &Domain, line: u32) -> bool {
    may_hardware(&domain.subject()) || domain.devices.has_line(line)
}

/// How it may map device frame `mfn`, if at all.
#[must_use]
pub fn may_map_iomem(domain: &Domain, mfn: Mfn) -> Option<IoAccess> {
    domain.rights().may_map_device(mfn)
}

/// Whether all these device frames are its to map; tools may give those that are theirs.
#[must_use]
pub fn may_use_iomem(domain: &Domain, frames: &RangeInclusive<u64>) -> bool {
    let has = may_hardware(&domain.subject()) || domain.devices.has_frames(frames);
    has && rights::may_be_given(frames)
}

/// Whether all these I/O ports are its; tools may give those that are theirs.
#[must_use]
pub fn may_use_ports(domain: &Domain, ports: RangeInclusive<u16>) -> bool {
    domain.io.ports.contains_all(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Parts;
    use crate::domain::life::Life;
    use crate::event::PortTable;
    use crate::grant::GrantTable;
    use crate::mm::shared_page::SharedPage;
    use crate::mm::testing::FakeMem;
    use std::boxed::Box;

    /// A domain of which nothing but its rights is looked at.
    fn domain(id: u16, roles: Roles) -> Domain {
        let mem = Box::leak(Box::new(FakeMem::new(1)));
        Domain::new(Parts {
            id: DomId(id),
            roles,
            shared_info: Mfn::new(0),
            shared: SharedPage::new(mem, Mfn::new(0)),
            events: PortTable::new(DomId(id), 1, 64, 63).unwrap(),
            grants: GrantTable::new(DomId(id), 1, 1),
            max_vcpus: 1,
            life: Life::new(1),
        })
    }

    const DOM0: Subject = Subject {
        id: DomId(0),
        roles: Roles::DOM0,
    };
    const GUEST: Subject = Subject {
        id: DomId(5),
        roles: Roles::empty(),
    };
    const DRIVER: Subject = Subject {
        id: DomId(2),
        roles: Roles::DRIVER.union(Roles::HARDWARE),
    };

    const STORE: Subject = Subject {
        id: DomId(3),
        roles: Roles::XENSTORE,
    };

    #[test]
    fn control() {
        assert!(may_control(&DOM0, DomId(5)) && may_control(&GUEST, DomId(5)));
        assert!(!may_control(&GUEST, DomId(0)) && !may_control(&DRIVER, DomId(5)));
        assert!(may_control_host(&DOM0) && !may_control_host(&DRIVER));
        assert!(may_see_host_memory(&DOM0) && !may_see_host_memory(&DRIVER));
    }

    #[test]
    fn who_serves_xenstore_sees_domains_and_manages_none() {
        assert!(may_see_domains(&STORE) && may_see_domains(&DOM0));
        assert!(!may_see_domains(&GUEST) && !may_see_domains(&DRIVER));
        assert!(!may_control(&STORE, DomId(5)) && !may_control_host(&STORE));
        assert!(may_bind_global_virq(&STORE) && !may_hardware(&STORE));
    }

    #[test]
    fn hardware() {
        assert!(may_write_back_caches(&DRIVER) && !may_write_back_caches(&GUEST));
        assert!(may_hardware(&DOM0) && may_hardware(&DRIVER) && !may_hardware(&GUEST));
        assert!(may_use_console(&DOM0) && !may_use_console(&GUEST));
        assert!(may_bind_global_virq(&DOM0) && !may_bind_global_virq(&GUEST));
    }

    #[test]
    fn a_driver_domain_may_what_it_was_given_and_no_more() {
        rights::reserve_device_frames(std::vec![0xfee00..0xfef00], 1 << 24);
        let (dom0, driver) = (domain(0, Roles::DOM0), domain(4, Roles::empty()));
        let bar = 0xfe000..=0xfe00f;
        assert!(may_use_iomem(&dom0, &bar) && !may_use_iomem(&driver, &bar));
        assert!(may_use_line(&dom0, 16) && !may_use_line(&driver, 16));
        assert!(may_use_ports(&dom0, 0x300..=0x30f) && !may_use_ports(&driver, 0x300..=0x300));
        assert!(!driver.rights().cache_control() && driver.subject().roles.is_empty());

        driver.devices.give_frames(&bar).unwrap();
        driver.devices.give_line(16).unwrap();
        driver.io.ports.insert(0x300..=0x30f).unwrap();
        let last = Mfn::new(0xfe00f);
        assert_eq!(may_map_iomem(&driver, last), Some(IoAccess::ReadWrite));
        assert_eq!(may_map_iomem(&driver, last.offset(1)), None);
        assert!(may_use_line(&driver, 16) && !may_use_line(&driver, 17));
        assert!(may_use_ports(&driver, 0x300..=0x30f) && !may_use_ports(&driver, 0x2ff..=0x300));
        assert!(driver.rights().cache_control() && may_write_back_caches(&driver.subject()));
        // It serves with that, and controls nobody.
        assert!(!may_have_business(&driver.subject()) && may_have_business(&dom0.subject()));
        assert_eq!(driver.subject().roles, Roles::DRIVER);
        assert!(!may_control(&driver.subject(), DomId(5)) && !may_hardware(&driver.subject()));
    }

    #[test]
    fn interrupt_controllers_are_not_to_be_had() {
        rights::reserve_device_frames(std::vec![0xfee00..0xfef00], 1 << 24);
        let (dom0, driver) = (domain(0, Roles::DOM0), domain(4, Roles::empty()));
        for frames in [
            0xfee00..=0xfee00,
            0xfed00..=0xfef00,
            0..=1 << 24,
            0..=u64::MAX,
        ] {
            assert!(!may_use_iomem(&dom0, &frames), "{frames:x?}");
        }
        // Whatever tools came to give.
        driver.devices.give_frames(&(0..=1 << 30)).unwrap();
        assert_eq!(may_map_iomem(&driver, Mfn::new(0xfee00)), None);
        assert_eq!(may_map_iomem(&driver, Mfn::new(1 << 24)), None);
        assert!(!may_use_ports(&dom0, 0x20..=0x20) && !may_use_ports(&dom0, 0x60..=0x61));
    }
}
