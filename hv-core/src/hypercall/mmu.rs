//! What the memory-management hypercalls share: whose frames are meant, running long
//! operations in stretches, and which CPUs to flush.

use super::{Call, Error, Reply};
use crate::access;
use crate::addr::{CpuMask, DomId, GuestVa, Mfn};
use crate::arch::{FrameMem, Tlb, machine};
use crate::domain::notify::SCHEDULER;
use crate::domain::{Domain, registry};
use crate::mm::guest_copy::{Fault, GuestSpace};
use crate::mm::{HostGuestSpace, Mm};
use crate::pv_mm::{Preempt, Rights, Stop, Unfinished};
use alloc::sync::Arc;
use core::cell::Cell;

/// Higher-level entries that are processed between two looks at what else the CPU has
/// to do. Each may stand for a table of 512 entries.
const STRETCH: u32 = 32;

/// List elements between two such looks.
pub(super) const ELEMENTS: u32 = 32;

/// Why an operation or a list of them did not run to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// To let events in: do the same again.
    Preempted,
    /// The guest's mistake.
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(e: E) -> Self {
        Self::Failed(e.into())
    }
}

/// Runs page-table operations for one vCPU.
pub(super) struct Runner<'a, M, T> {
    /// The host's memory.
    pub mm: &'a Mm<M, T>,
    /// What earlier operations left.
    pub unfinished: &'a mut Unfinished,
    /// Lets interrupts in and says whether to stop.
    pub pause: &'a dyn Fn() -> bool,
}

impl<M: FrameMem, T: Tlb> Runner<'_, M, T> {
    /// Runs `op` to its end, in stretches.
    #[inline]
    pub fn run<R>(
        &mut self,
        mut op: impl FnMut(Preempt<'_>) -> Result<R, Stop>,
    ) -> Result<R, Halt> {
        loop {
            let left = Cell::new(STRETCH);
            let spent = || {
                left.set(left.get().saturating_sub(1));
                left.get() == 0
            };
            if self.unfinished.ready(self.mm, &spent).is_ok() {
                match op(&spent) {
                    Ok(result) => {
                        self.unfinished.settle();
                        return Ok(result);
                    }
                    Err(Stop::Failed(e, leftover)) => {
                        self.unfinished.settle();
                        if let Some(leftover) = leftover {
                            self.unfinished.retire(self.mm, leftover);
                            // Later, if not now: the error is what counts.
                            let _ = self.drain();
                        }
                        return Err(Halt::Failed(e.into()));
                    }
                    Err(Stop::Interrupted(leftover)) => {
                        self.unfinished.resume_later(self.mm, leftover);
                    }
                }
            }
            if (self.pause)() {
                return Err(Halt::Preempted);
            }
        }
    }

    /// Finishes what operations left behind, but for one that is about to be retried.
    #[inline]
    pub fn drain(&mut self) -> Result<(), Halt> {
        while !self.unfinished.is_empty() {
            let left = Cell::new(STRETCH);
            let spent = || {
                left.set(left.get().saturating_sub(1));
                left.get() == 0
            };
            if self.unfinished.ready(self.mm, &spent).is_ok() {
                break;
            }
            if (self.pause)() {
                return Err(Halt::Preempted);
            }
        }
        Ok(())
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
    let mut rights = tables.map_or(own, Domain::rights);
    rights.frames = match foreigndom as u16 {
        id if DomId(id) == DomId::SELF => call.domain.id,
        id => frame_owner(call, id)?,
    };
    if rights.frames == DomId::IO {
        rights.io = own.io;
    }
    Ok(rights)
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
pub(super) fn here() -> CpuMask {
    CpuMask::only(machine::cpu_id())
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
        cpus = CpuMask(cpus.0 | cpus_where(call.domain, in_word).0);
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
    Reply::Continue([list, u64::from(rest), args[2], args[3], 0, 0])
}

/// The frame a guest names.
///
/// # Errors
/// `EINVAL`: no machine has it.
pub(super) fn frame(raw: u64) -> Result<Mfn, Error> {
    Mfn::from_guest(raw).ok_or(Error::Invalid)
}
