//! Descriptor tables and selectors.

use crate::test::Test;
use core::arch::asm;
use test_guests::hypercall::{call, mmuext_op};
use test_guests::memory::Page;
use xen_abi::errno::*;
use xen_abi::xen::*;

/// 64-bit code, data with base 0x1000 and limit 0xfff, both for ring 3.
const CODE: u64 = 0x00af_fb00_0000_ffff;
const DATA: u64 = 0x0040_f300_1000_0fff;

fn set_gdt(pages: &[u64], entries: u64) -> i64 {
    call(
        HYPERVISOR_SET_GDT,
        [pages.as_ptr() as u64, entries, 0, 0, 0],
    )
}

fn update(machine: u64, descriptor: u64) -> i64 {
    call(HYPERVISOR_UPDATE_DESCRIPTOR, [machine, descriptor, 0, 0, 0])
}

/// Loads a data selector and reads it back.
fn load_ds(selector: u16) -> u16 {
    let got: u16;
    // SAFETY: ds plays no part in 64-bit code; it is null again afterwards.
    unsafe {
        asm!(
            "mov ds, {0:x}", "mov {1:x}, ds", "mov ds, {2:x}",
            in(reg) selector, out(reg) got, in(reg) 0u16,
        );
    }
    got
}

/// A descriptor is kept as it was given; its accessed bit is the CPU's, when it is loaded.
pub fn accessed(t: &mut Test) {
    const ACCESSED: u64 = 1 << 40;
    let page = Page::take();
    page.write(3, DATA & !ACCESSED);
    t.rc(page.protect(), 0);
    t.rc(set_gdt(&[page.mfn()], 16), 0);
    t.eq(page.read(3), DATA & !ACCESSED);
    t.rc(update(page.machine() + 4 * 8, DATA & !ACCESSED), 0);
    t.eq(page.read(4), DATA & !ACCESSED);
    for slot in [3, 4] {
        t.no_trap(|| {
            load_ds(slot * 8 + 3);
        });
        t.eq(page.read(usize::from(slot)), DATA);
    }
    t.rc(set_gdt(&[], 0), 0);
    t.rc(page.unprotect(), 0);
}

pub fn gdt(t: &mut Test) {
    let page = Page::take();
    page.write(2, CODE);
    page.write(3, DATA);
    // Writable: no.
    t.rc(set_gdt(&[page.mfn()], 16), -EINVAL);
    t.rc(page.protect(), 0);
    t.rc(set_gdt(&[page.mfn()], 16), 0);
    t.rc(page.unprotect(), -EBUSY);
    t.no_trap(|| {
        load_ds(0x1b);
    });
    t.eq(load_ds(0x1b), 0x1b);
    let limit: u64;
    // SAFETY: reads a segment's limit.
    unsafe { asm!("lsl {}, {:x}", out(reg) limit, in(reg) 0x1bu64) };
    t.eq(limit & 0xffff_ffff, 0xfff);
    // Beyond the entries, and null ones.
    t.traps(13, || {
        load_ds(0x23);
    });
    t.traps(13, || {
        load_ds(0xdff3);
    });
    t.rc(set_gdt(&[page.mfn()], 7169), -EINVAL);
    t.rc(set_gdt(&[page.mfn()], u64::from(u32::MAX)), -EINVAL);
    t.rc(call(HYPERVISOR_SET_GDT, [0x1000, 16, 0, 0, 0]), -EFAULT);
    t.rc(set_gdt(&[0xf_ffff_ffff], 16), -EINVAL);
    t.rc(set_gdt(&[0xfee00], 16), -EINVAL);
    // The second frame is bad: the first is not kept.
    t.rc(set_gdt(&[page.mfn(), 0xf_ffff_ffff], 1024), -EINVAL);
    t.eq(load_ds(0x1b), 0x1b);
    t.rc(set_gdt(&[], 0), 0);
    t.traps(13, || {
        load_ds(0x1b);
    });
    t.rc(page.unprotect(), 0);
}

/// Which descriptors a GDT page may hold.
pub fn gdt_contents(t: &mut Test) {
    let with_type = |kind: u64, dpl: u64| 0x0040_8000_1000_0fff | kind << 40 | dpl << 45;
    // System types but call gates: LDT, TSS, interrupt and trap gates.
    for (descriptor, good) in [
        (CODE, true),
        (DATA, true),
        (0, true),
        (with_type(2, 3) & !(1 << 47), true),
        (with_type(2, 3), false),
        (with_type(9, 3), false),
        (with_type(0xe, 3), false),
        (with_type(0xf, 3), false),
        (with_type(0x10, 0), true),
        (with_type(0x1a, 0), true),
        (u64::MAX, true),
    ] {
        let page = Page::take();
        page.write(5, descriptor);
        t.rc(page.protect(), 0);
        t.rc(set_gdt(&[page.mfn()], 512), if good { 0 } else { -EINVAL });
        t.rc(set_gdt(&[], 0), 0);
        t.rc(page.unprotect(), 0);
        // Ring 3 for all segments.
        if good && descriptor >> 47 & 1 == 1 {
            t.eq(page.read(5) >> 45 & 3, 3);
        }
    }
}

pub fn descriptor(t: &mut Test) {
    let page = Page::take();
    // An ordinary page stays one.
    t.rc(update(page.machine() + 24, DATA), 0);
    t.eq(page.read(3), DATA);
    t.rc(update(page.machine() + 28, DATA), -EINVAL);
    t.rc(page.protect(), 0);
    t.rc(set_gdt(&[page.mfn()], 512), 0);
    t.rc(update(page.machine() + 32, DATA & !(3 << 45)), 0);
    t.eq(page.read(4) >> 45 & 3, 3);
    t.eq(load_ds(0x23), 0x23);
    // A TSS.
    t.rc(update(page.machine() + 32, 0x0000_8900_1000_0067), -EINVAL);
    t.rc(update(page.machine() + 32, 0), 0);
    t.traps(13, || {
        load_ds(0x23);
    });
    t.rc(update(test_guests::memory::l4().machine(), 0), -EINVAL);
    t.rc(update(0xf_ffff_ffff << 12, 0), -EINVAL);
    t.rc(update(0xfee0_0000, 0), -EINVAL);
    t.rc(set_gdt(&[], 0), 0);
    t.rc(page.unprotect(), 0);
}

/// A frame that is a GDT cannot be a page table, and the other way round.
pub fn conflicts(t: &mut Test) {
    let page = Page::take();
    t.rc(page.protect(), 0);
    t.rc(set_gdt(&[page.mfn()], 512), 0);
    t.rc(mmuext_op(MMUEXT_PIN_L1_TABLE, page.mfn(), 0), -EINVAL);
    t.rc(set_gdt(&[], 0), 0);
    t.rc(mmuext_op(MMUEXT_PIN_L1_TABLE, page.mfn(), 0), 0);
    t.rc(set_gdt(&[page.mfn()], 512), -EINVAL);
    t.rc(mmuext_op(MMUEXT_UNPIN_TABLE, page.mfn(), 0), 0);
    t.rc(page.unprotect(), 0);
}

/// LDT pages are looked at when a selector is loaded.
pub fn ldt(t: &mut Test) {
    let set = |va: u64, entries: u64| mmuext_op(MMUEXT_SET_LDT, va, entries);
    let page = Page::take();
    page.write(1, DATA);
    page.write(2, 0x0000_8900_1000_0067);
    t.rc(page.protect(), 0);
    t.rc(set(page.va(), 512), 0);
    // A TSS descriptor makes the whole page unfit.
    let frame = t.traps(14, || {
        load_ds(0xf);
    });
    t.eq(frame.error, 0);
    t.eq(test_guests::shared::cr2(), page.va() + 8);
    t.rc(set(0, 0), 0);
    t.rc(page.unprotect(), 0);
    page.write(2, 0);
    t.rc(set(page.va(), 512), 0);
    // Writable pages as well.
    let frame = t.traps(14, || {
        load_ds(0xf);
    });
    t.eq(frame.error, 0);
    t.eq(test_guests::shared::cr2(), page.va() + 8);
    t.rc(page.protect(), 0);
    t.eq(load_ds(0xf), 0xf);
    t.rc(page.unprotect(), -EBUSY);
    t.rc(set(0, 0), 0);
    t.rc(page.unprotect(), 0);
    let frame = t.traps(13, || {
        load_ds(0xf);
    });
    t.eq(frame.error, 0xc);
}

pub fn stack_switch(t: &mut Test) {
    let set = |ss: u64, sp: u64| call(HYPERVISOR_STACK_SWITCH, [ss, sp, 0, 0, 0]);
    t.rc(set(0xe02b, 0xffff_ffff_8000_1000), 0);
    t.rc(set(0, 0), 0);
    // Looked at when it is used.
    t.rc(set(0xe02b, 1 << 60), 0);
    t.rc(set(0xe02b, 0), 0);
}
