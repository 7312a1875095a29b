//! Where and how much vCPUs run.

use super::{After, Request, vcpu_of};
use crate::addr::{CpuId, CpuMask, GuestVa, MASK_WORDS};
use crate::arch::machine;
use crate::domain::Domain;
use crate::domain::notify::SCHEDULER;
use crate::hypercall::{Call, Error};
use crate::sched::SchedError;
use crate::time;
use xen_abi::domctl as abi;

/// Reads a bitmap of CPUs in the caller's memory. Bits of CPUs that cannot be count for
/// nothing.
///
/// # Errors
/// `EFAULT`.
fn read_bitmap(call: &Call<'_>, map: &abi::XenctlBitmap) -> Result<CpuMask, Error> {
    let mut bytes = [0_u8; MASK_WORDS * 8];
    let len = (map.nr_bits as usize).div_ceil(8).min(bytes.len());
    call.guest()
        .read_slice(GuestVa(map.bitmap), &mut bytes[..len])?;
    let (words, _) = bytes.as_chunks::<8>();
    let words = core::array::from_fn(|n| u64::from_le_bytes(words[n]));
    Ok(CpuMask::from_words(words).and(&CpuMask::first(map.nr_bits as usize)))
}

/// Writes a bitmap into the caller's memory, as far as there is room. All that the caller has
/// room for is defined, up to [`MOST_BYTES`].
///
/// # Errors
/// `EFAULT`.
pub fn write_bitmap(call: &Call<'_>, map: &abi::XenctlBitmap, bits: &CpuMask) -> Result<(), Error> {
    let mut bytes = [0_u8; MOST_BYTES];
    for (eight, word) in bytes.chunks_exact_mut(8).zip(bits.words()) {
        eight.copy_from_slice(&word.to_le_bytes());
    }
    let len = (map.nr_bits as usize).div_ceil(8).min(MOST_BYTES);
    Ok(call
        .guest()
        .write_bytes(GuestVa(map.bitmap), &bytes[..len])?)
}

/// Bytes of the largest bitmap of CPUs that is filled to its end.
const MOST_BYTES: usize = 1024;

/// CPUs this host has: the bits of a vCPU's affinity that mean something.
fn present() -> CpuMask {
    CpuMask::first(machine::cpu_count())
}

/// Which of a vCPU's affinities a command is about.
struct Wanted {
    hard: bool,
    soft: bool,
}

impl Wanted {
    /// # Errors
    /// `EINVAL`: none, or one without a bitmap.
    fn of(op: &abi::XenDomctlVcpuaffinity) -> Result<Self, Error> {
        let wanted = Self {
            hard: op.flags & abi::XEN_VCPUAFFINITY_HARD != 0,
            soft: op.flags & abi::XEN_VCPUAFFINITY_SOFT != 0,
        };
        let missing =
            wanted.hard && op.cpumap_hard.bitmap == 0 || wanted.soft && op.cpumap_soft.bitmap == 0;
        if op.flags == 0 || missing {
            return Err(Error::Invalid);
        }
        Ok(wanted)
    }
}

/// `setvcpuaffinity`. What comes back is what counts of it now: CPUs that are online.
///
/// `EINVAL`: no such vCPU, nothing to set, no CPU that is online. `ESRCH`: a vCPU that is not
/// made yet. `EBUSY`: the vCPU has pinned itself. `EFAULT`.
pub(super) fn set_affinity(
    call: &Call<'_>,
    domain: &Domain,
    request: &Request,
) -> Result<After, Error> {
    let op: abi::XenDomctlVcpuaffinity = request.body();
    let vcpu = vcpu_of(domain, op.vcpu)?;
    let wanted = Wanted::of(&op)?;
    let online = SCHEDULER.online();
    if op.flags & abi::XEN_VCPUAFFINITY_FORCE != 0 {
        // Not pinned: there is nothing to force.
        let unpinned = SCHEDULER.unpin(vcpu.unit, time::now());
        unpinned.ok().flatten().into_iter().for_each(machine::kick);
    }
    if wanted.hard {
        let mask = read_bitmap(call, &op.cpumap_hard)?;
        let kick = SCHEDULER
            .set_affinity(vcpu.unit, &mask, time::now())
            .map_err(|why| match why {
                SchedError::Pinned => Error::Busy,
                _ => Error::Invalid,
            })?;
        kick.into_iter().for_each(machine::kick);
        write_bitmap(call, &op.cpumap_hard, &mask.and(&online))?;
    }
    if wanted.soft {
        let mask = read_bitmap(call, &op.cpumap_soft)?;
        SCHEDULER.set_preference(vcpu.unit, &mask);
        let hard = SCHEDULER.affinity(vcpu.unit);
        write_bitmap(call, &op.cpumap_soft, &mask.and(&hard).and(&online))?;
    }
    Ok(After::Done)
}

/// `getvcpuaffinity`.
///
/// `EINVAL`: no such vCPU, nothing asked for. `ESRCH`: a vCPU that is not made yet. `EFAULT`.
pub(super) fn get_affinity(
    call: &Call<'_>,
    domain: &Domain,
    request: &Request,
) -> Result<After, Error> {
    let op: abi::XenDomctlVcpuaffinity = request.body();
    let vcpu = vcpu_of(domain, op.vcpu)?;
    let wanted = Wanted::of(&op)?;
    if wanted.hard {
        let mask = SCHEDULER.affinity(vcpu.unit).and(&present());
        write_bitmap(call, &op.cpumap_hard, &mask)?;
    }
    if wanted.soft {
        let mask = SCHEDULER.preference(vcpu.unit).and(&present());
        write_bitmap(call, &op.cpumap_soft, &mask)?;
    }
    Ok(After::Done)
}

/// The one node, as a bit of a bitmap of nodes; the bitmaps of CPUs do for those too.
const THE_NODE: CpuId = CpuId(0);

/// `setnodeaffinity`. There is one node.
///
/// `EINVAL`: not that one. `EFAULT`.
pub(super) fn set_nodes(call: &Call<'_>, request: &Request) -> Result<After, Error> {
    let wanted: abi::XenDomctlNodeaffinity = request.body();
    if !read_bitmap(call, &wanted.nodemap)?.contains(THE_NODE) {
        return Err(Error::Invalid);
    }
    Ok(After::Done)
}

/// `getnodeaffinity`.
///
/// `EFAULT`.
pub(super) fn get_nodes(call: &Call<'_>, request: &Request) -> Result<After, Error> {
    let asked: abi::XenDomctlNodeaffinity = request.body();
    write_bitmap(call, &asked.nodemap, &CpuMask::only(THE_NODE))?;
    Ok(After::Done)
}

/// `scheduler_op`.
///
/// `EINVAL`: another scheduler, parameters of single vCPUs (the credit scheduler has none),
/// weight 0, a domain without vCPUs.
pub(super) fn parameters(domain: &Domain, request: &mut Request) -> Result<After, Error> {
    let mut op: abi::XenDomctlSchedulerOp = request.body();
    let group = domain.group().ok_or(Error::Invalid)?;
    if op.sched_id != abi::XEN_SCHEDULER_CREDIT {
        return Err(Error::Invalid);
    }
    let policy = SCHEDULER.policy();
    let (weight, cap) = policy.params(group);
    match op.cmd {
        abi::XEN_DOMCTL_SCHEDOP_PUTINFO => {
            // Weight 0 and an impossible cap leave what there is, as in Xen.
            let keep = |new: u16, none: u16, old: u16| if new == none { old } else { new };
            let weight = keep(op.credit.weight, 0, weight);
            let cap = keep(op.credit.cap, u16::MAX, cap);
            policy
                .set_params(group, weight, cap)
                .map_err(|_| Error::Invalid)?;
            Ok(After::Done)
        }
        abi::XEN_DOMCTL_SCHEDOP_GETINFO => {
            op.credit = abi::XenDomctlSchedCredit { weight, cap };
            request.set_body(&op);
            Ok(After::CopyBack)
        }
        _ => Err(Error::Invalid),
    }
}
