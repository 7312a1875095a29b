//! Making a domain, empty and held, and then its vCPUs.

use super::life::Life;
use super::notify::SCHEDULER;
use super::{Domain, Parts, Roles, Vcpu, registry, wallclock};
use crate::addr::{DomId, VcpuId};
use crate::event::PortTable;
use crate::fallible::{self, Arc, Grow, NoMemory};
use crate::grant::GrantTable;
use crate::mm::HostMm;
use crate::mm::shared_page::SharedPage;
use crate::sched::GroupId;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// Most vCPUs of a domain: what the shared-info page has room for.
pub const MAX_VCPUS: u32 = 32;

/// What tools want a domain to be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Its number; `None`: any that is free.
    pub id: Option<DomId>,
    /// What it is there for.
    pub roles: Roles,
    /// UUID.
    pub handle: [u8; 16],
    /// vCPUs it will have.
    pub vcpus: u32,
    /// Physical interrupts of the host.
    pub pirqs: usize,
    /// Largest port it may use.
    pub max_port: u32,
    /// Frames of its grant table.
    pub grant_frames: u32,
    /// Frames of its list of mappings.
    pub maptrack_frames: u32,
}

/// Why there is no domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// The number is in use.
    Exists,
    /// No number is free.
    NoId,
    /// Out of memory.
    NoMemory,
    /// It has its vCPUs already, or wants others than it said.
    Invalid,
}

impl From<NoMemory> for CreateError {
    fn from(_: NoMemory) -> Self {
        Self::NoMemory
    }
}

/// Makes a domain without memory and vCPUs, held by one pause.
///
/// # Errors
/// See [`CreateError`]; nothing is left then.
pub fn create(mm: &HostMm, wanted: &Wanted) -> Result<Arc<Domain>, CreateError> {
    let slot = registry::Slot::take(wanted.id)?;
    let id = slot.id();
    let shared_info = mm.alloc_shared(id).ok_or(CreateError::NoMemory)?;
    let made = make(mm, wanted, id, shared_info);
    if made.is_err() {
        mm.free_shared(shared_info);
    }
    let domain = made?;
    mm.accounts.open(id)?.reset();
    wallclock::publish(&domain);
    slot.fill(Arc::clone(&domain));
    Ok(domain)
}

fn make(
    mm: &HostMm,
    wanted: &Wanted,
    id: DomId,
    shared_info: crate::addr::Mfn,
) -> Result<Arc<Domain>, CreateError> {
    let events = PortTable::new(id, wanted.vcpus as usize, wanted.pirqs, wanted.max_port)
        .map_err(|_| CreateError::NoMemory)?;
    let domain = Domain::new(Parts {
        id,
        roles: wanted.roles,
        shared_info,
        shared: SharedPage::new(&mm.mem, shared_info),
        events,
        grants: GrantTable::new(id, wanted.grant_frames, wanted.maptrack_frames),
        max_vcpus: wanted.vcpus,
        life: Life::new(1),
    });
    domain.set_handle(wanted.handle);
    domain.mask_events();
    // The last step that may fail takes a frame.
    let domain = Arc::new(domain)?;
    domain.grow_grants(1).map_err(|_| CreateError::NoMemory)?;
    Ok(domain)
}

/// Makes the vCPUs of a domain, down and held as the domain is, in a scheduling group of
/// their own.
///
/// # Errors
/// [`CreateError::Invalid`], [`CreateError::NoMemory`].
pub fn make_vcpus(domain: &Domain, count: u32) -> Result<(), CreateError> {
    if count != domain.max_vcpus || count == 0 || !domain.vcpus().is_empty() {
        return Err(CreateError::Invalid);
    }
    let group = SCHEDULER
        .policy()
        .add_group()
        .map_err(|_| CreateError::NoMemory)?;
    let vcpus = match vcpus_in(domain.id, group, count) {
        Ok(vcpus) => vcpus,
        Err(why) => {
            SCHEDULER.policy().remove_group(group);
            return Err(why);
        }
    };
    let account = domain.life.account.lock();
    // Two who make them at once: the second finds them made.
    if domain.life.is_dying() || !domain.vcpus().is_empty() {
        drop(account);
        forget(&vcpus, group);
        return Err(CreateError::Invalid);
    }
    for vcpu in &vcpus {
        domain.place_info(vcpu);
    }
    domain.set_vcpus(group, vcpus);
    if account.pauses() != 0 {
        domain.stop_vcpus();
    }
    Ok(())
}

/// Takes vCPUs that never ran from the scheduler, and their group.
fn forget(vcpus: &[Arc<Vcpu>], group: GroupId) {
    for vcpu in vcpus {
        SCHEDULER.remove_unit(vcpu.unit);
    }
    SCHEDULER.policy().remove_group(group);
}

fn vcpus_in(id: DomId, group: GroupId, count: u32) -> Result<Box<[Arc<Vcpu>]>, CreateError> {
    let now = crate::time::now();
    let mut vcpus = Vec::new();
    let mut fill = || {
        vcpus
            .try_reserve_exact(count as usize)
            .map_err(NoMemory::from)?;
        for n in 0..count as u16 {
            let unit = SCHEDULER
                .add_unit(id, VcpuId(n), group, now)
                .map_err(|_| CreateError::NoMemory)?;
            match Vcpu::new(id, VcpuId(n), unit).and_then(Arc::new) {
                Ok(vcpu) => vcpus.push_reserved(vcpu),
                Err(why) => {
                    SCHEDULER.remove_unit(unit);
                    return Err(why.into());
                }
            }
        }
        Ok(())
    };
    match fill() {
        Ok(()) => Ok(fallible::full(vcpus)),
        Err(why) => {
            for vcpu in &vcpus {
                SCHEDULER.remove_unit(vcpu.unit);
            }
            Err(why)
        }
    }
}
