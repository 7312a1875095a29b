//! Making, holding, resuming and destroying domains.

use super::{After, Request, not_oneself};
use crate::access::Roles;
use crate::addr::{DomId, Mfn};
use crate::domain::create::{self, CreateError, MAX_VCPUS, Wanted};
use crate::domain::teardown::Progress;
use crate::domain::{Domain, registry, virqs};
use crate::event::Virq;
use crate::grant::{DEFAULT_MAX_FRAMES, DEFAULT_MAX_MAPTRACK_FRAMES};
use crate::hypercall::{Call, Error, mmu};
use crate::irq;
use crate::mm::{frame_io, host};
use core::sync::atomic::Ordering;
use xen_abi::domctl as abi;
use xen_abi::event_channel::EVTCHN_FIFO_NR_CHANNELS;

/// Flags a PV domain may be made with.
const FLAGS: u32 = abi::XEN_DOMCTL_CDF_XS_DOMAIN;

impl From<CreateError> for Error {
    /// Source: what Xen 4.17 answers in each case.
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Exists => Self::Exists,
            CreateError::NoId | CreateError::NoMemory => Self::NoMemory,
            CreateError::Invalid => Self::Invalid,
        }
    }
}

/// `createdomain`.
///
/// `EINVAL`: not a PV domain, or more than there can be. `EEXIST`: the number is in use.
/// `ENOMEM`.
pub(super) fn create(_: &Call<'_>, request: &mut Request) -> Result<After, Error> {
    let mm = host::get();
    registry::reap(mm);
    let c: abi::XenDomctlCreatedomain = request.body();
    let vcpus = Some(c.max_vcpus).filter(|n| (1..=MAX_VCPUS).contains(n));
    let version = c.grant_opts & abi::XEN_DOMCTL_GRANT_VERSION_MASK;
    let refused = c.flags & !FLAGS != 0
        || c.iommu_opts != 0
        || c.vmtrace_size != 0
        || c.cpupool_id != 0
        || c.arch.emulation_flags != 0
        || c.arch.misc_flags & !1 != 0
        || version > 1
        || c.grant_opts & !abi::XEN_DOMCTL_GRANT_VERSION_MASK != 0;
    let (Some(vcpus), false) = (vcpus, refused) else {
        return Err(Error::Invalid);
    };
    // As on Xen the default is the most.
    let frames = |asked: i32, most: u32| match u32::try_from(asked) {
        Ok(n) if n <= most => Ok(n),
        Ok(_) => Err(Error::Invalid),
        Err(_) => Ok(most),
    };
    let mut roles = Roles::empty();
    if c.flags & abi::XEN_DOMCTL_CDF_XS_DOMAIN != 0 {
        roles |= Roles::XENSTORE;
    }
    let number = request.op.domain;
    let domain = create::create(
        mm,
        &Wanted {
            // 0 and the reserved numbers: any.
            id: (1..DomId::FIRST_RESERVED)
                .contains(&number)
                .then_some(DomId(number)),
            roles,
            handle: c.handle,
            vcpus,
            pirqs: irq::irq_count() as usize,
            max_port: c.max_evtchn_port.clamp(1, EVTCHN_FIFO_NR_CHANNELS - 1),
            grant_frames: frames(c.max_grant_frames, DEFAULT_MAX_FRAMES)?.max(1),
            maptrack_frames: frames(c.max_maptrack_frames, DEFAULT_MAX_MAPTRACK_FRAMES)?,
        },
    )?;
    request.op.domain = domain.id.0;
    Ok(After::CopyBack)
}

/// `max_vcpus`: makes the vCPUs.
///
/// `EINVAL`: not as many as the domain was made for, or made already. `ENOMEM`.
pub(super) fn max_vcpus(
    call: &Call<'_>,
    domain: &Domain,
    request: &Request,
) -> Result<After, Error> {
    let wanted: abi::XenDomctlMaxVcpus = request.body();
    not_oneself(call, domain)?;
    if domain.life.is_dying() {
        return Err(Error::Invalid);
    }
    create::make_vcpus(domain, wanted.max)?;
    Ok(After::Done)
}

/// `destroydomain`.
///
/// `EINVAL`: oneself.
pub(super) fn destroy(call: &Call<'_>, domain: &Domain) -> Result<After, Error> {
    not_oneself(call, domain)?;
    let mm = host::get();
    if !domain.life.is_dying() {
        domain.begin_death(mm);
    }
    if domain.life.stage() != crate::domain::life::Stage::Dead {
        while domain.take_apart(mm) == Progress::More {
            if mmu::pause() {
                return Ok(After::Again);
            }
        }
    }
    Ok(After::Done)
}

/// `pausedomain`.
///
/// `EINVAL`: oneself.
pub(super) fn pause(call: &Call<'_>, domain: &Domain) -> Result<After, Error> {
    not_oneself(call, domain)?;
    domain.pause();
    Ok(After::Done)
}

/// `unpausedomain`.
///
/// `EINVAL`: not paused.
pub(super) fn unpause(domain: &Domain) -> Result<After, Error> {
    domain.unpause().map_err(|_| Error::Invalid)?;
    Ok(After::Done)
}

/// `resumedomain`. Also for a domain that has not shut down, which just goes on.
///
/// `EINVAL`: oneself.
pub(super) fn resume(call: &Call<'_>, domain: &Domain) -> Result<After, Error> {
    not_oneself(call, domain)?;
    if domain.life.is_dying() {
        return Err(Error::Invalid);
    }
    domain.resume();
    Ok(After::Done)
}

/// `max_mem`.
///
/// `ENOMEM`: there is no such domain's account.
pub(super) fn max_mem(domain: &Domain, request: &Request) -> Result<After, Error> {
    let wanted: abi::XenDomctlMaxMem = request.body();
    let account = host::get().accounts.get(domain.id).ok_or(Error::NoDomain)?;
    account.set_max((wanted.max_memkb >> 2).min(u64::from(u32::MAX)));
    Ok(After::Done)
}

/// `setdomainhandle`.
pub(super) fn set_handle(domain: &Domain, request: &Request) -> Result<After, Error> {
    let wanted: abi::XenDomctlSetdomainhandle = request.body();
    domain.set_handle(wanted.handle);
    Ok(After::Done)
}

/// `setdebugging`.
///
/// `EINVAL`: oneself.
pub(super) fn set_debugging(
    call: &Call<'_>,
    domain: &Domain,
    request: &Request,
) -> Result<After, Error> {
    not_oneself(call, domain)?;
    let on = request.op.u[0] as u8 != 0;
    domain.life.debugged.store(on, Ordering::Relaxed);
    Ok(After::Done)
}

/// `settimeoffset`.
pub(super) fn set_time_offset(domain: &Domain, request: &Request) -> Result<After, Error> {
    let wanted: abi::XenDomctlSettimeoffset = request.body();
    let offset = wanted.time_offset_seconds;
    domain.life.time_offset.store(offset, Ordering::Relaxed);
    crate::domain::wallclock::publish(domain);
    Ok(After::Done)
}

/// `subscribe`: the port of the domain's that is told when it has suspended itself; 0: none. Then
/// nobody else is told.
pub(super) fn subscribe(domain: &Domain, request: &Request) -> Result<After, Error> {
    let wanted: abi::XenDomctlSubscribe = request.body();
    domain.suspend_port.store(wanted.port, Ordering::Relaxed);
    Ok(After::Done)
}

/// `set_virq_handler`: gives a global virtual interrupt to the domain.
///
/// `EINVAL`: no such interrupt, or one that each vCPU has; the domain dies.
pub(super) fn set_virq_handler(domain: &Domain, request: &Request) -> Result<After, Error> {
    let wanted: abi::XenDomctlSetVirqHandler = request.body();
    let virq = Virq::from_guest(wanted.virq).filter(|virq| virq.is_global());
    let virq = virq.ok_or(Error::Invalid)?;
    virqs::give(domain, virq).map_err(|_| Error::Invalid)?;
    Ok(After::Done)
}

/// `hypercall_init`.
///
/// `EACCES`: not a frame of the domain's that may be written.
pub(super) fn hypercall_page(domain: &Domain, request: &Request) -> Result<After, Error> {
    let wanted: abi::XenDomctlHypercallInit = request.body();
    let mm = host::get();
    let mfn = Mfn::from_guest(wanted.gmfn).ok_or(Error::Access)?;
    mm.get_writable(mfn, domain.id).map_err(|_| Error::Access)?;
    frame_io::write(&mm.mem, mfn, 0, &crate::domain::hypercall_page());
    mm.put_writable(mfn);
    Ok(After::Done)
}
