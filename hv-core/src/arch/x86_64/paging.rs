//! The registers that paging hangs on.
#![allow(unsafe_code, reason = "control and model-specific registers")]

use crate::addr::Mfn;
use crate::arch::PAT;
use core::arch::asm;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags, Msr};

/// Page attribute table. Source: Intel SDM volume 4, `IA32_PAT`.
const IA32_PAT: u32 = 0x277;
/// CPUID leaf of extended features; EDX bit 26: 1 GiB pages. Source: Intel SDM
/// volume 2, CPUID.
const EXTENDED_FEATURES: u32 = 0x8000_0001;

/// Sets up what all mappings rely on, on this CPU: NX and write protection on, global
/// pages off, the page attribute table.
pub fn init_paging() {
    // SAFETY: the image and all tables are made for NX and WP; no entry is global;
    // memory is mapped with attribute 0, whose meaning does not change.
    unsafe {
        Efer::update(|efer| efer.insert(EferFlags::NO_EXECUTE_ENABLE));
        Cr0::update(|cr0| cr0.insert(Cr0Flags::WRITE_PROTECT));
        Cr4::update(|cr4| cr4.remove(Cr4Flags::PAGE_GLOBAL));
        Msr::new(IA32_PAT).write(PAT);
    }
}

/// Whether the CPU has pages of 1 GiB.
#[must_use]
pub fn has_1g_pages() -> bool {
    core::arch::x86_64::__cpuid(EXTENDED_FEATURES).edx >> 26 & 1 != 0
}

/// Loads a page-table root and thereby flushes this CPU's translations.
///
/// # Safety
/// The tables map the hypervisor as the current ones do.
pub unsafe fn load_root(root: Mfn) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("mov cr3, {}", in(reg) root.addr().raw(), options(nostack, preserves_flags));
    }
}

/// Flushes this CPU's translation of one address, under the current root.
pub fn flush_local(va: u64) {
    // SAFETY: flushing is always allowed.
    unsafe {
        asm!("invlpg [{}]", in(reg) va, options(nostack, preserves_flags));
    }
}
