//! What processor a domain sees: word size, time stamp counter, CPUID.

use super::{After, Request, not_oneself};
use crate::addr::GuestVa;
use crate::domain::Domain;
use crate::domain::cpuid::CannotRestrict;
use crate::fallible;
use crate::hypercall::{Call, Error, cpu_policy};
use crate::pv_emul::seam::CpuidRegs;
use crate::time;
use xen_abi::domctl as abi;
use zerocopy::FromZeros;

/// Bits of an address; there are no other guests.
const BITS: u32 = 64;
/// TSC modes: default, always emulated, never emulated. Source: Xen `docs/man/xl.cfg.5`.
const TSC_MODES: core::ops::RangeInclusive<u32> = 0..=2;

/// `set_address_size`.
///
/// `EINVAL`: not 64.
pub(super) fn set_address_size(request: &Request) -> Result<After, Error> {
    let wanted: abi::XenDomctlAddressSize = request.body();
    if wanted.size == BITS {
        Ok(After::Done)
    } else {
        Err(Error::Invalid)
    }
}

/// `get_address_size`.
pub(super) fn get_address_size(request: &mut Request) -> Result<After, Error> {
    request.set_body(&abi::XenDomctlAddressSize { size: BITS });
    Ok(After::CopyBack)
}

/// `settscinfo`. The counter is never emulated, whatever is asked for.
///
/// `EINVAL`: no such mode, oneself.
pub(super) fn set_tsc(call: &Call<'_>, domain: &Domain, request: &Request) -> Result<After, Error> {
    not_oneself(call, domain)?;
    let wanted: abi::XenDomctlTscInfo = request.body();
    if TSC_MODES.contains(&wanted.tsc_mode) {
        Ok(After::Done)
    } else {
        Err(Error::Invalid)
    }
}

/// `gettscinfo`.
///
/// `EINVAL`: oneself.
pub(super) fn get_tsc(
    call: &Call<'_>,
    domain: &Domain,
    request: &mut Request,
) -> Result<After, Error> {
    not_oneself(call, domain)?;
    request.set_body(&abi::XenDomctlTscInfo {
        tsc_mode: 0,
        gtsc_khz: time::tsc_khz(),
        incarnation: 0,
        pad: 0,
        elapsed_nsec: time::now().0,
    });
    Ok(After::CopyBack)
}

/// `set_cpu_policy`: features that the list lacks are taken from the domain; what it has
/// beyond those there are is not given. Registers of the list change nothing.
///
/// `EFAULT`; `EINVAL`: more leaves than there can be; oneself; the domain is dying. `EEXIST`:
/// the domain has run. `ENOMEM`.
pub(super) fn set_cpu_policy(
    call: &Call<'_>,
    domain: &Domain,
    request: &Request,
) -> Result<After, Error> {
    let wanted: abi::XenDomctlCpuPolicy = request.body();
    not_oneself(call, domain)?;
    if domain.life.is_dying() || wanted.nr_leaves > cpu_policy::MOST_LEAVES {
        return Err(Error::Invalid);
    }
    // All of the list before anything changes.
    let count = wanted.nr_leaves as usize;
    let mut leaves = fallible::boxed_slice(count, |_| abi::XenCpuidLeaf::new_zeroed())?;
    call.guest()
        .read_slice(GuestVa(wanted.leaves), &mut leaves)?;
    let restricted = domain.restrict_cpu(|policy| {
        for l in &*leaves {
            let regs = CpuidRegs {
                eax: l.a,
                ebx: l.b,
                ecx: l.c,
                edx: l.d,
            };
            policy.restrict(l.leaf, l.subleaf, regs);
        }
    });
    restricted.map_err(|why| match why {
        CannotRestrict::HasRun => Error::Exists,
        CannotRestrict::NoMemory => Error::NoMemory,
    })?;
    Ok(After::Done)
}

/// `get_cpu_policy`.
///
/// `ENOBUFS`: too little room. `EFAULT`.
pub(super) fn get_cpu_policy(
    call: &Call<'_>,
    domain: &Domain,
    request: &mut Request,
) -> Result<After, Error> {
    let mut op: abi::XenDomctlCpuPolicy = request.body();
    let room = cpu_policy::Room {
        leaves: (op.leaves, op.nr_leaves),
        msrs: (op.msrs, op.nr_msrs),
    };
    (op.nr_leaves, op.nr_msrs) = cpu_policy::write(call, &domain.planned_cpu_policy(), &room)?;
    request.set_body(&op);
    Ok(After::CopyBack)
}
