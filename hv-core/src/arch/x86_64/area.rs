//! Building the per-CPU entry areas and moving onto them.
#![allow(unsafe_code, reason = "writes pages the CPU uses directly")]

use super::cpu_area::{self, EntryData, page_va};
use super::local::CpuLocal;
use super::{descriptors, entry};
use crate::addr::{CpuId, GuestVa, Mfn};
use crate::arch::FrameMem;
use crate::mm::host_map::{self, DirectMap, Prot};
use alloc::boxed::Box;
use core::sync::atomic::Ordering;
use x86_64::registers::model_specific::{Efer, EferFlags};

/// Frames every CPU's area shows.
struct Common {
    idt: Mfn,
    /// What the GDT window shows where the guest has no frame.
    zero: Mfn,
}

static COMMON: crate::sync::Once<Common> = crate::sync::Once::new();

/// The frame the GDT window shows where the guest has none: zeroes, so that every
/// selector there is bad.
///
/// # Panics
/// Before the first [`build`].
#[must_use]
pub(super) fn zero_frame() -> Mfn {
    COMMON.get().expect("an area was built").zero
}

/// Maps and fills the area of `cpu`. `frame` supplies zeroed frames.
///
/// # Panics
/// If there is no memory for page tables.
#[allow(clippy::disallowed_methods, reason = "at boot only")]
pub fn build(cpu: CpuId, mut frame: impl FnMut() -> Mfn) {
    let common = COMMON.call_once(|| {
        let idt = frame();
        // SAFETY: a fresh frame, seen through the direct map.
        unsafe { descriptors::fill_idt(DirectMap.bytes(idt)) };
        Common { idt, zero: frame() }
    });
    let stub = image_frame(super::guard::stub_page());
    let map = |page, mfn, prot| {
        // SAFETY: the area belongs to this CPU; the frames are fresh or shared
        // read-only.
        unsafe { host_map::map_pages(page_va(cpu, page), mfn, 1, prot) }
            .expect("memory for a CPU's page tables");
    };
    map(cpu_area::STUB_PAGE, stub, Prot::RX);
    map(cpu_area::DATA_PAGE, frame(), Prot::RW);
    map(cpu_area::IDT_PAGE, common.idt, Prot::RO);
    map(cpu_area::TSS_PAGE, frame(), Prot::RW);
    for n in 0..cpu_area::IST_COUNT {
        for page in 1..cpu_area::IST_STRIDE {
            map(
                cpu_area::IST_PAGE + n * cpu_area::IST_STRIDE + page,
                frame(),
                Prot::RW,
            );
        }
    }
    for page in 0..cpu_area::GDT_GUEST_PAGES {
        map(cpu_area::GDT_PAGE + page, common.zero, Prot::RO);
    }
    // The CPU marks its TSS as busy here.
    map(
        cpu_area::GDT_PAGE + cpu_area::GDT_GUEST_PAGES,
        frame(),
        Prot::RW,
    );
    host_map::reserve_window(page_va(cpu, cpu_area::LDT_PAGE), cpu_area::LDT_PAGES)
        .expect("memory for a CPU's page tables");
    for page in 0..cpu_area::STACK_PAGES {
        map(cpu_area::STACK_PAGE + page, frame(), Prot::RW);
    }
    // SAFETY: the area is mapped now and not in use.
    unsafe {
        descriptors::fill_area(cpu);
        let data = page_va(cpu, cpu_area::DATA_PAGE) as *mut EntryData;
        (*data).stack_top = stack_top(cpu);
        (*data).syscall_entry = &raw const entry::oxen_syscall_entry as u64;
        (*data).syscall32_entry = &raw const entry::oxen_syscall32_entry as u64;
        (*data).local = Box::into_raw(Box::new(CpuLocal::new(cpu))) as u64;
    }
}

/// Makes the ways into the hypervisor those that suit the plan against speculation, which has been
/// made since the boot CPU's area was built. Other CPUs have no area yet.
///
/// # Safety
/// As [`enter`], which the boot CPU has done.
pub unsafe fn choose_doors() {
    let common = COMMON.get().expect("an area was built");
    // SAFETY: the IDT's frame; this CPU is the only one to use it, and entries are alike but for
    // the address. The caller's promise is what the registers need.
    unsafe {
        descriptors::fill_idt(DirectMap.bytes(common.idt));
        descriptors::load_system_calls(super::local::cpu_id());
    }
}

/// The machine frame of a page of the image.
fn image_frame(va: u64) -> Mfn {
    let table = host_map::l1_table(va).expect("the image is mapped by 4 KiB pages");
    let entry = DirectMap.words(table)[GuestVa(va).index(1)].load(Ordering::Relaxed);
    crate::mm::pte::frame(entry)
}

/// Top of the hypervisor stack of `cpu`.
#[must_use]
pub fn stack_top(cpu: CpuId) -> u64 {
    page_va(cpu, cpu_area::STACK_PAGE + cpu_area::STACK_PAGES)
}

/// Makes this CPU use its area: descriptor tables, system-call entry, control
/// registers.
///
/// # Safety
/// Runs on `cpu`, on its stack in the area (or is about to move there), on the
/// hypervisor's root, with interrupts off.
pub unsafe fn enter(cpu: CpuId) {
    // SAFETY: the caller's promise is what these need.
    unsafe {
        descriptors::load(cpu);
        Efer::write(
            Efer::read() | EferFlags::SYSTEM_CALL_EXTENSIONS | EferFlags::NO_EXECUTE_ENABLE,
        );
    }
}

/// Continues on the hypervisor stack of `cpu` in `go`, for good.
///
/// # Safety
/// As [`enter`]; nothing on the current stack is needed again.
pub unsafe fn switch_stack(cpu: CpuId, go: extern "C" fn() -> !) -> ! {
    // SAFETY: the stack is mapped and empty; `go` does not return.
    unsafe {
        core::arch::asm!(
            "mov rsp, {stack}",
            "xor ebp, ebp",
            "call {go}",
            "ud2",
            stack = in(reg) stack_top(cpu),
            go = in(reg) go,
            options(noreturn)
        )
    }
}
