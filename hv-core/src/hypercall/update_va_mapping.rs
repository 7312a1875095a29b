//! `update_va_mapping` (14) and its form for another domain's frames (22): a checked
//! store of the L1 entry of one address, with a flush.
//! Source: Xen `include/public/xen.h`.

use super::mmu;
use super::mmuext_op::{flush_all, flush_page};
use super::{Call, Error, HypercallResult, Reply};
use crate::addr::GuestVa;
use crate::mm::host;
use crate::pv_mm::Rights;
use crate::pv_mm::update::{self, Store};
use crate::pv_mm::walk;
use xen_abi::xen as abi;

/// Handles `update_va_mapping(va, entry, flags)`.
///
/// # Errors
/// `EINVAL`: no L1 table there, bad entry. `EBUSY`, `EPERM`: as `mmu_update`. `EFAULT`:
/// the vCPU bitmap (the entry is written).
pub fn update_va_mapping(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let rights = call.domain.rights();
    update(call, &rights, args)
}

/// Handles `update_va_mapping_otherdomain(va, entry, flags, domid)`.
///
/// # Errors
/// As [`update_va_mapping`]; `ESRCH`, `EPERM`: the domain.
pub fn update_va_mapping_otherdomain(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let owner = mmu::frame_owner(call, args[3] as u16)?;
    let rights = call.domain.rights().mapping(owner);
    update(call, &rights, args)
}

#[inline]
fn update(call: &mut Call<'_>, rights: &Rights<'_>, args: [u64; 6]) -> HypercallResult {
    let [va, entry, flags, ..] = args;
    let va = GuestVa(va);
    let mm = host::get();
    let root = call.guest().root();
    let slot = walk::find_l1(&mm.mem, root, va).ok_or(Error::Invalid)?;
    update::write_l1(mm, rights, slot, entry, Store::Set)?;
    mmu::count_foreign(call, rights.frames(), 1);
    let kind = flags & abi::UVMF_FLUSHTYPE_MASK;
    if kind == abi::UVMF_TLB_FLUSH || kind == abi::UVMF_INVLPG {
        let several;
        let cpus = match flags & !abi::UVMF_FLUSHTYPE_MASK {
            abi::UVMF_LOCAL => mmu::here(),
            abi::UVMF_ALL => {
                several = mmu::cpus_of(call.domain);
                &several
            }
            map => {
                several = mmu::cpus_in_bitmap(call, GuestVa(map))?;
                &several
            }
        };
        if kind == abi::UVMF_TLB_FLUSH {
            flush_all(cpus);
        } else {
            flush_page(va, cpus);
        }
    }
    Ok(Reply::Done(0))
}
