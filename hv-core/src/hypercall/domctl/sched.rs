//! Where and how much vCPUs run.

use super::{After, Request, vcpu_of};
use crate::addr::{CpuMask, GuestVa};
use crate::arch::machine;
use crate::domain::notify::SCHEDULER;
use crate::domain::{Domain, Vcpu};
use crate::hypercall::{Call, Error};
use crate::time;
use core::sync::atomic::Ordering;
use xen_abi::domctl as abi;

/// Reads the first 64 bits of a bitmap in the caller's memory.
///
/// # Errors
/// `EFAULT`.
fn read_bitmap(call: &Call<'_>, map: &abi::XenctlBitmap) -> Result<u64, Error> {
    let mut bytes = [0_u8; 8];
    let len = (map.nr_bits as usize).div_ceil(8).min(8);
    call.guest()
        .read_slice(GuestVa(map.bitmap), &mut bytes[..len])?;
    let kept = match map.nr_bits {
        n @ 0..64 => (1 << n) - 1,
        _ => u64::MAX,
    };
    Ok(u64::from_le_bytes(bytes) & kept)
}

/// Writes a bitmap into the caller's memory, as far as there is room.
///
/// # Errors
/// `EFAULT`.
pub fn write_bitmap(call: &Call<'_>, map: &abi::XenctlBitmap, bits: u64) -> Result<(), Error> {
    let len = (map.nr_bits as usize).div_ceil(8);
    let bytes = bits.to_le_bytes();
    let known = len.min(8);
    let space = call.guest();
    space.write_bytes(GuestVa(map.bitmap), &bytes[..known])?;
    // All that the caller has room for is defined.
    for n in known..len.min(MOST_BYTES) {
        space.write_bytes(GuestVa(map.bitmap).add(n as u64), &[0])?;
    }
    Ok(())
}

/// Bytes of the largest bitmap of CPUs that is filled to its end.
const MOST_BYTES: usize = 1024;

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
    let online = SCHEDULER.online().0;
    if op.flags & abi::XEN_VCPUAFFINITY_FORCE != 0 {
        let before = vcpu.pinned_from.swap(0, Ordering::SeqCst);
        if before != 0 {
            pin(vcpu, before)?;
        }
    }
    if wanted.hard {
        let mask = read_bitmap(call, &op.cpumap_hard)?;
        if mask & online == 0 {
            return Err(Error::Invalid);
        }
        if vcpu.pinned_from.load(Ordering::SeqCst) != 0 {
            return Err(Error::Busy);
        }
        pin(vcpu, mask)?;
        write_bitmap(call, &op.cpumap_hard, mask & online)?;
    }
    if wanted.soft {
        let mask = read_bitmap(call, &op.cpumap_soft)?;
        SCHEDULER.set_preference(vcpu.unit, CpuMask(mask));
        let hard = SCHEDULER.affinity(vcpu.unit).0;
        write_bitmap(call, &op.cpumap_soft, mask & hard & online)?;
    }
    Ok(After::Done)
}

/// Restricts `vcpu` to the CPUs of `mask`.
///
/// # Errors
/// `EINVAL`: none of them is online.
fn pin(vcpu: &Vcpu, mask: u64) -> Result<(), Error> {
    let kick = SCHEDULER
        .set_affinity(vcpu.unit, CpuMask(mask), time::now())
        .map_err(|_| Error::Invalid)?;
    if let Some(cpu) = kick {
        machine::kick(cpu);
    }
    Ok(())
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
        write_bitmap(call, &op.cpumap_hard, SCHEDULER.affinity(vcpu.unit).0)?;
    }
    if wanted.soft {
        write_bitmap(call, &op.cpumap_soft, SCHEDULER.preference(vcpu.unit).0)?;
    }
    Ok(After::Done)
}

/// `setnodeaffinity`. There is one node.
///
/// `EINVAL`: not that one. `EFAULT`.
pub(super) fn set_nodes(call: &Call<'_>, request: &Request) -> Result<After, Error> {
    let wanted: abi::XenDomctlNodeaffinity = request.body();
    if read_bitmap(call, &wanted.nodemap)? & 1 == 0 {
        return Err(Error::Invalid);
    }
    Ok(After::Done)
}

/// `getnodeaffinity`.
///
/// `EFAULT`.
pub(super) fn get_nodes(call: &Call<'_>, request: &Request) -> Result<After, Error> {
    let asked: abi::XenDomctlNodeaffinity = request.body();
    write_bitmap(call, &asked.nodemap, 1)?;
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
