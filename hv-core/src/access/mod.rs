//! May this caller do this to that domain? One function a question.
//!
//! Answers depend on roles alone, which a domain has from its creation. Knows no
//! hypercalls; whoever asks chooses the error. What was done with a right, and what was
//! tried without one, is in [`audit`].

pub mod audit;

use crate::addr::{DomId, Mfn};
use crate::domain::Domain;
pub use crate::domain::Roles;
use crate::pv_mm::IoAccess;

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
        Subject {
            id: self.id,
            roles: self.roles,
        }
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
    who.roles.contains(Roles::HARDWARE)
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

/// Whether it may bind a line of the host.
#[must_use]
pub fn may_use_line(caller: &Domain, _line: u32) -> bool {
    may_hardware(&caller.subject())
}

/// How it may map device frame `mfn`, if at all.
#[must_use]
pub fn may_map_iomem(domain: &Domain, mfn: Mfn) -> Option<IoAccess> {
    domain.rights().io.may_map(mfn)
}

/// Whether it was given all of `count` I/O ports from `first` on.
#[must_use]
pub fn may_port(domain: &Domain, first: u16, count: u16) -> bool {
    domain.io.ports.contains(first, count)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
