//! Corrects what firmware left in a CPU's registers.
#![allow(
    unsafe_code,
    reason = "reads and writes model-specific and control registers"
)]

use super::faults::read_msr_checked;
use super::features::Features;
use crate::arch::leftovers::{
    AMD_INTERRUPT_PENDING, MTRR_CAPABILITIES, MTRR_DEFAULT, MTRR_ENABLE, can_be_hung_by_guests,
    may_stop_timers_when_halted, mtrr_numbers, without_c1e,
};
use crate::arch::speculation::Vendor;
use crate::sync::Once;
use alloc::vec::Vec;
use core::arch::asm;
use x86_64::registers::control::{Cr0, Cr0Flags};
use x86_64::registers::model_specific::Msr;

/// The boot CPU's memory types: number and value of each register. Empty: it has none.
static MEMORY_TYPES: Once<Vec<(u32, u64)>> = Once::new();

/// On each CPU, before it runs guests: no sleep from which its timer does not wake it.
pub fn keep_timer_running(features: &Features) {
    let may = features.vendor == Vendor::Amd && may_stop_timers_when_halted(features.family);
    if !may || features.hypervisor.is_some() {
        return;
    }
    if let Some(value) = read_msr_checked(AMD_INTERRUPT_PENDING).and_then(without_c1e) {
        // SAFETY: the register was just read; its halt bits only choose how deep a halt is.
        unsafe { Msr::new(AMD_INTERRUPT_PENDING).write(value) };
    }
}

/// Says what the CPU itself does wrong and nothing here can mend.
pub fn warn_of_errata(features: &Features) {
    if features.vendor == Vendor::Amd && can_be_hung_by_guests(features.family, features.model) {
        log::warn!("this CPU has AMD's erratum 121: every guest can hang the machine (XSA-9)");
    }
}

/// On the boot CPU, before others start: notes what types its memory has.
pub fn note_memory_types() {
    MEMORY_TYPES.call_once(memory_types);
}

/// On each other CPU: memory must have the same types everywhere, or caches disagree, and
/// firmware has been known to set the boot CPU's only. Returns whether they differed.
/// Source: Intel SDM vol. 3, 12.11.8; AMD APM vol. 2, 7.7.5.
pub fn match_memory_types() -> bool {
    let Some(wanted) = MEMORY_TYPES.get() else {
        return false;
    };
    let own = memory_types();
    let same_registers = own.iter().map(|r| r.0).eq(wanted.iter().map(|r| r.0));
    if !same_registers || own == *wanted {
        return own != *wanted;
    }
    // SAFETY: the values are the boot CPU's for these registers, and memory is to have the
    // types it has there.
    unsafe { write_memory_types(wanted) };
    true
}

/// The registers of memory types, as they are.
#[allow(clippy::disallowed_methods, reason = "at boot only")]
fn memory_types() -> Vec<(u32, u64)> {
    const MTRR: u32 = 1 << 12;
    if core::arch::x86_64::__cpuid(1).edx & MTRR == 0 {
        return Vec::new();
    }
    // SAFETY: CPUID.1:EDX[12] says that these registers exist.
    let read = |number| unsafe { Msr::new(number).read() };
    mtrr_numbers(read(MTRR_CAPABILITIES))
        .map(|number| (number, read(number)))
        .collect()
}

/// Loads the registers as Intel SDM vol. 3, 12.11.7.2 has it: with caches off and flushed.
///
/// # Safety
/// Interrupts are off; the registers exist, and the types are right for what is there.
unsafe fn write_memory_types(types: &[(u32, u64)]) {
    let flush = || {
        // SAFETY: writes caches back and drops them, and the TLB by loading the same root.
        unsafe {
            asm!("wbinvd", "mov {t}, cr3", "mov cr3, {t}", t = out(reg) _, options(nostack));
        }
    };
    let cr0 = Cr0::read();
    // SAFETY: slower for a while; global pages are off, so a load of CR3 flushes all.
    unsafe {
        Cr0::write((cr0 | Cr0Flags::CACHE_DISABLE) - Cr0Flags::NOT_WRITE_THROUGH);
        flush();
        let default = Msr::new(MTRR_DEFAULT).read();
        Msr::new(MTRR_DEFAULT).write(default & !MTRR_ENABLE);
        // The last one turns them on again.
        for (number, value) in types {
            Msr::new(*number).write(*value);
        }
        flush();
        Cr0::write(cr0);
    }
}
