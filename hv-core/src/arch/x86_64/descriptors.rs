//! GDT, TSS, IDT and the system-call MSRs of a CPU.
//!
//! Selectors of the reserved part of the GDT (index 7168 and up) are part of Xen's
//! PV interface. Source: Xen `include/public/arch-x86/xen-x86_64.h`.
#![allow(unsafe_code, reason = "loads descriptor tables and MSRs")]

use super::cpu_area::{self, EntryData, page_va};
use crate::addr::CpuId;
use crate::arch::descriptor::{self, Descriptor};
use crate::arch::vectors;
use x86_64::PrivilegeLevel;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{CS, DS, ES, FS, GS, SS, Segment};
use x86_64::instructions::tables::{lgdt, lidt, load_tss};
use x86_64::registers::model_specific::Msr;
use x86_64::structures::DescriptorTablePointer;
use x86_64::structures::gdt::SegmentSelector;

/// Hypervisor code, 64-bit, ring 0.
pub const HYPERVISOR_CS: u16 = 0xe008;
/// Hypervisor data.
pub const HYPERVISOR_SS: u16 = 0xe010;
/// 32-bit user code ("FLAT_RING3_CS32").
pub const FLAT_CS32: u16 = 0xe023;
/// Flat data of ring 3.
pub const FLAT_SS: u16 = 0xe02b;
/// 64-bit code of ring 3.
pub const FLAT_CS64: u16 = 0xe033;
/// The CPU's TSS (two slots).
const TSS_SELECTOR: u16 = 0xe040;
/// The descriptor of the guest's LDT (two slots).
pub const LDT_SELECTOR: u16 = 0xe050;
/// First selector of the reserved part.
const RESERVED: u16 = 0xe000;

/// Task state segment. Source: Intel SDM vol. 3, 8.7.
#[repr(C, packed(4))]
struct Tss {
    reserved0: u32,
    rsp: [u64; 3],
    reserved1: u64,
    ist: [u64; 7],
    reserved2: u64,
    reserved3: u16,
    iomap_base: u16,
}

/// A gate of the IDT. Source: Intel SDM vol. 3, 6.14.1.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Gate([u64; 2]);

impl Gate {
    fn interrupt(handler: u64, dpl: u64, ist: u64) -> Self {
        const PRESENT_INTERRUPT: u64 = 0x8e00;
        let low = handler & 0xffff
            | u64::from(HYPERVISOR_CS) << 16
            | (PRESENT_INTERRUPT | dpl << 13 | ist) << 32
            | (handler >> 16 & 0xffff) << 48;
        Self([low, handler >> 32])
    }
}

/// Fills the IDT page. The gates that [`vectors::guests_may_raise`] names are open to guests;
/// any other `int n` of theirs becomes a #GP that names the vector.
///
/// # Safety
/// `page` is a writable page of 4096 bytes that becomes every CPU's IDT.
pub unsafe fn fill_idt(page: *mut u8) {
    let handlers = super::guard::doors().vectors;
    for vector in 0..=255_u8 {
        let dpl = if vectors::guests_may_raise(vector) {
            3
        } else {
            0
        };
        let ist = match vector {
            2 => 1,
            18 => 2,
            8 => 3,
            1 => 4,
            _ => 0,
        };
        let gate = Gate::interrupt(handlers + u64::from(vector) * 16, dpl, ist);
        // SAFETY: 256 gates of 16 bytes are 4096 bytes.
        unsafe { page.cast::<Gate>().add(usize::from(vector)).write(gate) };
    }
}

/// Fills the reserved GDT page and the TSS of `cpu`.
///
/// # Safety
/// The CPU's area is mapped (the caller built it) and the CPU does not use it yet.
pub unsafe fn fill_area(cpu: CpuId) {
    let tss_va = page_va(cpu, cpu_area::TSS_PAGE);
    let data_end = page_va(cpu, cpu_area::DATA_PAGE) + size_of::<EntryData>() as u64;
    let mut ist = [0; 7];
    for (n, slot) in ist
        .iter_mut()
        .enumerate()
        .take(cpu_area::IST_COUNT as usize)
    {
        *slot = page_va(
            cpu,
            cpu_area::IST_PAGE + (n as u64 + 1) * cpu_area::IST_STRIDE,
        );
    }
    let tss = Tss {
        reserved0: 0,
        rsp: [data_end, 0, 0],
        reserved1: 0,
        ist,
        reserved2: 0,
        reserved3: 0,
        // Beyond the limit: no I/O bitmap, every guest port access traps.
        iomap_base: size_of::<Tss>() as u16,
    };
    let gdt = page_va(cpu, cpu_area::GDT_PAGE + cpu_area::GDT_GUEST_PAGES) as *mut Descriptor;
    // SAFETY: both pages belong to the area and nobody else uses them.
    unsafe {
        (tss_va as *mut Tss).write_unaligned(tss);
        gdt.cast::<[Descriptor; 7]>().write(descriptor::RESERVED);
        let slot = usize::from(TSS_SELECTOR - RESERVED) / 8;
        let tss = Descriptor::tss(tss_va, size_of::<Tss>() as u64);
        gdt.add(slot).cast::<[Descriptor; 2]>().write(tss);
    }
}

/// Points this CPU's LDT descriptor at its window, `entries` long, and loads it.
///
/// # Safety
/// Runs on `cpu`, in its area.
pub unsafe fn load_ldt(cpu: CpuId, entries: u16) {
    if entries == 0 {
        // SAFETY: the null selector means "no LDT".
        unsafe { core::arch::asm!("lldt {0:x}", in(reg) 0_u16, options(nostack)) };
        return;
    }
    let base = page_va(cpu, cpu_area::LDT_PAGE);
    let gdt = page_va(cpu, cpu_area::GDT_PAGE + cpu_area::GDT_GUEST_PAGES) as *mut Descriptor;
    let slot = usize::from(LDT_SELECTOR - RESERVED) / 8;
    // SAFETY: the slot is this CPU's own; the descriptor is well formed.
    unsafe {
        let ldt = Descriptor::ldt(base, u64::from(entries) * 8);
        gdt.add(slot).cast::<[Descriptor; 2]>().write(ldt);
        core::arch::asm!("lldt {0:x}", in(reg) LDT_SELECTOR, options(nostack));
    }
}

const STAR: u32 = 0xc000_0081;
const LSTAR: u32 = 0xc000_0082;
const CSTAR: u32 = 0xc000_0083;
const SFMASK: u32 = 0xc000_0084;
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;

/// Loads GDT, IDT, TSS and the system-call MSRs.
///
/// # Safety
/// Runs on `cpu`, whose area is mapped and filled; the IDT page is filled.
pub unsafe fn load(cpu: CpuId) {
    let null = SegmentSelector::new(0, PrivilegeLevel::Ring0);
    // SAFETY: the tables are complete (caller) and stay for ever.
    unsafe {
        lgdt(&DescriptorTablePointer {
            base: VirtAddr::new(page_va(cpu, cpu_area::GDT_PAGE)),
            limit: (15 * 4096 - 1) as u16,
        });
        lidt(&DescriptorTablePointer {
            base: VirtAddr::new(page_va(cpu, cpu_area::IDT_PAGE)),
            limit: 4095,
        });
        CS::set_reg(SegmentSelector(HYPERVISOR_CS));
        SS::set_reg(SegmentSelector(HYPERVISOR_SS));
        DS::set_reg(null);
        ES::set_reg(null);
        FS::set_reg(null);
        GS::set_reg(null);
        load_tss(SegmentSelector(TSS_SELECTOR));
        core::arch::asm!("lldt {0:x}", in(reg) 0_u16, options(nostack));
        load_system_calls(cpu);
    }
}

/// Loads the system-call MSRs.
///
/// # Safety
/// As [`load`].
pub(super) unsafe fn load_system_calls(cpu: CpuId) {
    let stubs = page_va(cpu, cpu_area::STUB_PAGE);
    let doors = super::guard::doors();
    // SAFETY: long mode has these registers; what they name is complete (caller).
    unsafe {
        // SYSRET takes CS from bits 63:48 (+16 in 64-bit mode) and SS from +8.
        Msr::new(STAR).write(u64::from(FLAT_CS32) << 48 | u64::from(HYPERVISOR_CS) << 32);
        Msr::new(LSTAR).write(stubs + doors.syscall);
        Msr::new(CSTAR).write(stubs + doors.syscall32);
        // Clear TF IF DF IOPL NT RF VM AC on entry.
        Msr::new(SFMASK).write(0x0007_7700);
        Msr::new(SYSENTER_CS).write(u64::from(HYPERVISOR_CS));
        Msr::new(SYSENTER_ESP).write(page_va(cpu, cpu_area::DATA_PAGE) + 4096);
        Msr::new(SYSENTER_EIP).write(&raw const super::entry::oxen_sysenter_entry as u64);
    }
}
