//! Where and how much vCPUs run.

use super::{After, Request, vcpu_of};
use crate::addr::{CpuMask, GuestVa};
use crate::arch::machine;
use crate::domain::Domain;
use crate::domain::notify::SCHEDULER;
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

/// `setvcpuaffinity`.
///
/// `EINVAL`: no such vCPU, nothing to set, no CPU that is online. `EFAULT`.
pub(super) fn set_affinity(
    call: &Call<'_>,
    domain: &Domain,
    request: &Request,
) -> Result<After, Error> {
    let wanted: abi::XenDomctlVcpuaffinity = request.body();
    let vcpu = vcpu_of(domain, wanted.vcpu)?;
    let both = abi::XEN_VCPUAFFINITY_HARD | abi::XEN_VCPUAFFINITY_SOFT;
    if wanted.flags & both == 0 {
        return Err(Error::Invalid);
    }
    let online = SCHEDULER.online();
    if wanted.flags & abi::XEN_VCPUAFFINITY_HARD != 0 {
        let mask = read_bitmap(call, &wanted.cpumap_hard)?;
        if mask & online.0 == 0 {
            return Err(Error::Invalid);
        }
        let kick = SCHEDULER
            .set_affinity(vcpu.unit, CpuMask(mask), time::now())
            .map_err(|_| Error::Invalid)?;
        if let Some(cpu) = kick {
            machine::kick(cpu);
        }
        write_bitmap(call, &wanted.cpumap_hard, mask & online.0)?;
    }
    if wanted.flags & abi::XEN_VCPUAFFINITY_SOFT != 0 {
        let mask = read_bitmap(call, &wanted.cpumap_soft)?;
        if mask & online.0 == 0 {
            return Err(Error::Invalid);
        }
        vcpu.soft_affinity.store(mask, Ordering::Relaxed);
        let hard = SCHEDULER.affinity(vcpu.unit).0;
        write_bitmap(call, &wanted.cpumap_soft, mask & hard & online.0)?;
    }
    Ok(After::Done)
}

/// `getvcpuaffinity`.
///
/// `EINVAL`: no such vCPU, nothing asked for. `EFAULT`.
pub(super) fn get_affinity(
    call: &Call<'_>,
    domain: &Domain,
    request: &Request,
) -> Result<After, Error> {
    let asked: abi::XenDomctlVcpuaffinity = request.body();
    let vcpu = vcpu_of(domain, asked.vcpu)?;
    let both = abi::XEN_VCPUAFFINITY_HARD | abi::XEN_VCPUAFFINITY_SOFT;
    if asked.flags & both == 0 {
        return Err(Error::Invalid);
    }
    if asked.flags & abi::XEN_VCPUAFFINITY_HARD != 0 {
        write_bitmap(call, &asked.cpumap_hard, SCHEDULER.affinity(vcpu.unit).0)?;
    }
    if asked.flags & abi::XEN_VCPUAFFINITY_SOFT != 0 {
        let soft = vcpu.soft_affinity.load(Ordering::Relaxed);
        write_bitmap(call, &asked.cpumap_soft, soft)?;
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
