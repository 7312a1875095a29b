//! What the memory-management hypercalls share: whose frames are meant, running long
//! operations in stretches, and which CPUs to flush.

use super::{Call, Error, Reply};
use crate::access;
use crate::addr::{CpuMask, DomId, GuestVa, Mfn};
use crate::arch::{FrameMem, machine};
use crate::domain::notify::SCHEDULER;
use crate::domain::{Domain, registry};
use crate::fallible::Arc;
use crate::mm::HostGuestSpace;
use crate::mm::guest_copy::{Fault, GuestSpace};
use crate::pv_mm::Rights;
use crate::pv_mm::run::{self, Preempted};

/// List elements between two looks at what else the CPU has to do.
pub(super) const ELEMENTS: u32 = 32;

/// Ticks of the TSC, about as many as instructions, after which a list lets interrupts in
/// whatever it has done.
const STRETCH: u64 = 50_000;

/// Since when a hypercall has let no interrupts in.
pub(super) struct Stretch(u64);

impl Stretch {
    /// From now on.
    #[inline]
    pub fn begin() -> Self {
        Self(machine::tsc())
    }

    /// Whether it has lasted long enough, by elements of a list or by time.
    #[inline]
    pub fn is_over(&self, done: u64, batch: u64) -> bool {
        done.is_multiple_of(batch) || machine::tsc().wrapping_sub(self.0) > STRETCH
    }
}

/// Why an operation or a list of them did not run to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// To let events in: do the same again.
    Preempted,
    /// The guest's mistake.
    Failed(Error),
}

impl From<Error> for Halt {
    fn from(e: Error) -> Self {
        Self::Failed(e)
    }
}

impl From<Fault> for Halt {
    fn from(e: Fault) -> Self {
        Self::Failed(e.into())
    }
}

impl From<run::Halt> for Halt {
    fn from(halt: run::Halt) -> Self {
        match halt {
            run::Halt::Preempted => Self::Preempted,
            run::Halt::Failed(why) => Self::Failed(why.into()),
        }
    }
}

impl From<Preempted> for Halt {
    fn from(_: Preempted) -> Self {
        Self::Preempted
    }
}

/// Lets interrupts in; whether the vCPU has something else to do.
pub(super) fn pause() -> bool {
    machine::preempt_point()
}

/// The domain whose frames or tables `id` means; the caller may name others only if it
/// controls them.
fn domain_of(call: &Call<'_>, id: u16) -> Result<Arc<Domain>, Error> {
    registry::get(DomId(id))
        .ok_or(Error::NoDomain)
        .and_then(|d| {
            if access::may_control(&call.domain.subject(), d.id) {
                Ok(d)
            } else {
                Err(Error::NotPermitted)
            }
        })
}

/// The owner of mapped frames that `foreigndom`'s low half names.
///
/// # Errors
/// `ESRCH`: no such domain, or the caller by its own number. `EPERM`: not its to use.
pub(super) fn frame_owner(call: &Call<'_>, id: u16) -> Result<DomId, Error> {
    match DomId(id) {
        DomId::SELF => Ok(call.domain.id),
        own if own == call.domain.id => Err(Error::NoDomain),
        DomId::IO => Ok(DomId::IO),
        DomId::XEN if access::may_see_host_memory(&call.domain.subject()) => Ok(DomId::XEN),
        DomId::XEN => Err(Error::NotPermitted),
        _ => domain_of(call, id).map(|d| d.id),
    }
}

/// The owner of the tables that a `foreigndom` argument names: its number plus one in the high
/// half. `None`: the caller.
///
/// # Errors
/// As [`domain_of`].
pub(super) fn table_owner(call: &Call<'_>, foreigndom: u32) -> Result<Option<Arc<Domain>>, Error> {
    match ((foreigndom >> 16) as u16).checked_sub(1) {
        Some(id) => domain_of(call, id).map(Some),
        None => Ok(None),
    }
}

/// The rights that a `foreigndom` argument stands for: frames in the low half, in tables of
/// `tables` or the caller.
///
/// # Errors
/// As [`frame_owner`].
pub(super) fn rights<'r>(
    call: &Call<'r>,
    tables: Option<&'r Domain>,
    foreigndom: u32,
) -> Result<Rights<'r>, Error> {
    let own = call.domain.rights();
    if foreigndom == u32::from(DomId::SELF.0) {
        return Ok(own);
    }
    let rights = tables.map_or(own, Domain::rights);
    let owner = match foreigndom as u16 {
        id if DomId(id) == DomId::SELF => call.domain.id,
        id => frame_owner(call, id)?,
    };
    let rights = rights.mapping(owner);
    Ok(if owner == DomId::IO {
        rights.with_devices_of(&own)
    } else {
        rights
    })
}

/// Counts `count` frames of `owner` that went into page tables on behalf of the caller.
#[inline]
pub(super) fn count_foreign(call: &Call<'_>, owner: DomId, count: u64) {
    if owner != call.domain.id && owner < DomId::IO {
        call.vcpu.usage.foreign_maps.add(count);
    }
}

/// This CPU alone.
#[inline]
pub(super) fn here() -> &'static CpuMask {
    machine::this_cpu()
}

/// The CPUs that run vCPUs of `domain` now. A vCPU that is not on a CPU loads its root
/// before it runs, which flushes.
pub(super) fn cpus_of(domain: &Domain) -> CpuMask {
    cpus_where(domain, |_| true)
}

fn cpus_where(domain: &Domain, wanted: impl Fn(usize) -> bool) -> CpuMask {
    let mut cpus = CpuMask::NONE;
    for (n, vcpu) in domain.vcpus().iter().enumerate() {
        if wanted(n) && SCHEDULER.is_on_cpu(vcpu.unit) {
            cpus = cpus.with(SCHEDULER.home(vcpu.unit));
        }
    }
    cpus
}

/// The CPUs that run the vCPUs in the guest's bitmap at `map` (64-bit words, up to the
/// domain's last vCPU).
///
/// # Errors
/// [`Fault`].
pub(super) fn cpus_in_bitmap(call: &Call<'_>, map: GuestVa) -> Result<CpuMask, Fault> {
    /// Words of a bitmap of the most vCPUs a domain may have.
    const MOST: usize = 8192 / 64;
    let space: HostGuestSpace = call.guest();
    let words = call.domain.vcpus().len().div_ceil(64).min(MOST);
    let mut cpus = CpuMask::NONE;
    for w in 0..words {
        let bits: u64 = space.read(map.add(w as u64 * 8))?;
        let in_word = |n: usize| n / 64 == w && bits >> (n % 64) & 1 != 0;
        cpus = cpus.or(&cpus_where(call.domain, in_word));
    }
    Ok(cpus)
}

/// Reads the number of elements an interrupted list had done before.
pub(super) fn read_done<M: FrameMem>(
    space: &GuestSpace<'_, M>,
    at: GuestVa,
    resumed: bool,
) -> Result<u32, Fault> {
    if resumed && at.0 != 0 {
        space.read(at)
    } else {
        Ok(0)
    }
}

/// Writes the number of elements done, if the guest wants it.
pub(super) fn write_done<M: FrameMem>(
    space: &GuestSpace<'_, M>,
    at: GuestVa,
    done: u32,
) -> Result<(), Fault> {
    if at.0 == 0 {
        return Ok(());
    }
    space.write(at, &done)
}

/// Arguments of a list that goes on after `done` of `count` elements of `size` bytes.
pub(super) fn rest_of_list(args: [u64; 6], size: u64, done: u32, count: u32) -> Reply {
    let rest = (count - done) | xen_abi::xen::MMU_UPDATE_PREEMPTED;
    let list = args[0].wrapping_add(size * u64::from(done));
    Reply::go_on(args, [list, u64::from(rest)])
}

/// The frame a guest names.
///
/// # Errors
/// `EINVAL`: no machine has it.
pub(super) fn frame(raw: u64) -> Result<Mfn, Error> {
    Mfn::from_guest(raw).ok_or(Error::Invalid)
}
