//! Frame numbers, page tables, and the hypercalls that change them.

use xen_abi::arch_x86::MACH2PHYS_VIRT_START;
use xen_abi::xen::{
    DOMID_SELF, HYPERVISOR_MMU_UPDATE, HYPERVISOR_MMUEXT_OP, HYPERVISOR_UPDATE_VA_MAPPING,
    MmuUpdate, MmuextOp,
};

use super::boot::{VIRT_BASE, start_info};
use crate::hypercall::{Errno, raw};

/// Present bit of a page-table entry.
pub const PRESENT: u64 = 1;
/// Writable bit.
pub const WRITABLE: u64 = 1 << 1;
/// User bit.
pub const USER: u64 = 1 << 2;
/// Write-through bit.
pub const WRITE_THROUGH: u64 = 1 << 3;
/// Cache-disable bit.
pub const CACHE_DISABLE: u64 = 1 << 4;
/// Accessed bit.
pub const ACCESSED: u64 = 1 << 5;
/// Dirty bit.
pub const DIRTY: u64 = 1 << 6;
/// Large page bit (levels 2 and 3), PAT bit (level 1).
pub const LARGE: u64 = 1 << 7;
/// Global bit.
pub const GLOBAL: u64 = 1 << 8;
/// First bit left to software.
pub const AVAILABLE: u64 = 1 << 9;
/// No-execute bit.
pub const NO_EXECUTE: u64 = 1 << 63;
/// What this kernel's tables have in their entries.
pub const TABLE: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;
/// What this kernel's writable pages have in their entries.
pub const DATA: u64 = TABLE;
/// What read-only pages have in their entries.
pub const READ_ONLY: u64 = PRESENT | USER | ACCESSED;
/// The frame number's bits in an entry.
pub const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

/// Entries of a table.
pub const ENTRIES: usize = 512;

/// Address of a pseudo-physical frame.
pub const fn address(pfn: u64) -> u64 {
    VIRT_BASE + (pfn << 12)
}

/// Pseudo-physical frame at an address of the kernel's memory.
pub const fn pfn(address: u64) -> u64 {
    (address - VIRT_BASE) >> 12
}

/// Machine frame of a pseudo-physical frame; all ones where there is no memory.
///
/// # Panics
/// If the domain has no such frame.
pub fn p2m(pfn: u64) -> u64 {
    assert!(pfn < start_info().nr_pages);
    // SAFETY: the loader put a list of `nr_pages` frames there.
    unsafe {
        (start_info().mfn_list as *const u64)
            .add(pfn as usize)
            .read_volatile()
    }
}

/// Records a new machine frame of a pseudo-physical frame.
///
/// # Panics
/// If the domain has no such frame.
pub fn set_p2m(pfn: u64, mfn: u64) {
    assert!(pfn < start_info().nr_pages);
    // SAFETY: as for `p2m`; the list is writable.
    unsafe {
        (start_info().mfn_list as *mut u64)
            .add(pfn as usize)
            .write_volatile(mfn);
    }
}

/// Pseudo-physical frame of a machine frame of RAM.
pub fn m2p(mfn: u64) -> u64 {
    // SAFETY: the hypervisor maps its table there, readable.
    unsafe {
        (MACH2PHYS_VIRT_START as *const u64)
            .add(mfn as usize)
            .read_volatile()
    }
}

/// Machine frame at an address of the kernel's memory.
pub fn mfn(address: u64) -> u64 {
    p2m(pfn(address))
}

/// Reads an entry of a table at an address.
pub(super) fn entry(table: u64, index: usize) -> u64 {
    // SAFETY: callers pass a mapped table and an index below 512.
    unsafe { (table as *const u64).add(index).read_volatile() }
}

/// Address of the table of `level` (1 to 4) that translates an address, and the index in it; none
/// if there is no such table.
pub fn table_of(address_: u64, level: u32) -> Option<(u64, usize)> {
    let index = |level: u32| (address_ >> (12 + 9 * (level - 1)) & 511) as usize;
    let mut table = start_info().pt_base;
    for above in (level + 1..=4).rev() {
        let entry = entry(table, index(above));
        if entry & PRESENT == 0 {
            return None;
        }
        table = address(m2p((entry & FRAME_MASK) >> 12));
    }
    Some((table, index(level)))
}

/// Sets the L1 entry of an address; `flags` are `UVMF_*`.
///
/// # Safety
/// What Rust uses of the old mapping must stay as it was.
///
/// # Errors
/// The hypervisor's.
pub unsafe fn update_va_mapping(address: u64, entry: u64, flags: u64) -> Result<(), Errno> {
    let arguments = [address, entry, flags, 0, 0];
    // SAFETY: the caller's duty.
    Errno::check(unsafe { raw(HYPERVISOR_UPDATE_VA_MAPPING, arguments) }).map(drop)
}

/// Sets the table entry at a machine address.
///
/// # Safety
/// As for [`update_va_mapping`].
///
/// # Errors
/// The hypervisor's.
pub unsafe fn mmu_update(ptr: u64, val: u64) -> Result<(), Errno> {
    let update = MmuUpdate { ptr, val };
    let pointer = &raw const update as u64;
    let arguments = [pointer, 1, 0, u64::from(DOMID_SELF), 0];
    // SAFETY: reads the struct; the rest is the caller's duty.
    Errno::check(unsafe { raw(HYPERVISOR_MMU_UPDATE, arguments) }).map(drop)
}

/// One `MMUEXT_*` command.
///
/// # Safety
/// As for [`update_va_mapping`].
///
/// # Errors
/// The hypervisor's.
pub unsafe fn mmuext(cmd: u32, arg1: u64, arg2: u64) -> Result<(), Errno> {
    let op = MmuextOp {
        cmd,
        _pad: 0,
        arg1,
        arg2,
    };
    let pointer = &raw const op as u64;
    let arguments = [pointer, 1, 0, u64::from(DOMID_SELF), 0];
    // SAFETY: reads the struct; the rest is the caller's duty.
    Errno::check(unsafe { raw(HYPERVISOR_MMUEXT_OP, arguments) }).map(drop)
}

/// Makes the kernel's page at an address a table for whatever entry will name it: its own mapping
/// becomes read-only.
///
/// # Safety
/// Nobody writes the page any more.
pub(super) unsafe fn protect(address: u64) -> Result<(), Errno> {
    let entry = mfn(address) << 12 | READ_ONLY;
    // SAFETY: the same frame as before; the rest is the caller's duty.
    unsafe { update_va_mapping(address, entry, xen_abi::xen::UVMF_INVLPG) }
}
