//! Direct writes to page tables, which the hypervisor emulates.

use crate::test::Test;
use core::arch::asm;
use test_guests::hypercall::mmuext_op;
use test_guests::memory::*;
use xen_abi::xen::*;

/// Runs `f` with a pinned table, then takes the pin away.
fn with_table(t: &mut Test, level: u32, f: impl FnOnce(&mut Test, Page)) {
    let table = Page::take();
    t.rc(table.protect(), 0);
    t.rc(
        mmuext_op(MMUEXT_PIN_L1_TABLE + level - 1, table.mfn(), 0),
        0,
    );
    f(t, table);
    t.rc(mmuext_op(MMUEXT_UNPIN_TABLE, table.mfn(), 0), 0);
    t.rc(table.unprotect(), 0);
}

fn pointer(table: Page, index: u64) -> *mut u64 {
    (table.va() + index * 8) as *mut u64
}

/// The marks the hypervisor adds to entries.
const SOFT: u64 = USER | GLOBAL | 1 << 52;

pub fn stores(t: &mut Test) {
    let target = Page::take();
    let entry = target.machine() | DATA;
    with_table(t, 1, |t, table| {
        let at = pointer(table, 5);
        // SAFETY: stores to the spare table, all emulated.
        t.no_trap(|| unsafe { asm!("mov [{}], {}", in(reg) at, in(reg) entry) });
        t.eq(table.read(5) & !SOFT, entry & !SOFT);
        // SAFETY: as above.
        t.no_trap(|| unsafe { asm!("mov qword ptr [{}], 0", in(reg) at) });
        t.eq(table.read(5), 0);
        // SAFETY: as above.
        t.no_trap(|| unsafe {
            asm!("rep stosq", inout("rdi") at => _, inout("rcx") 3u64 => _, in("rax") entry);
        });
        t.eq(table.read(7) & !SOFT, entry & !SOFT);
        // SAFETY: as above.
        t.no_trap(|| unsafe { asm!("mov dword ptr [{}], 0", in(reg) at) });
        t.eq(table.read(5) & 0xffff_ffff, 0);
        // SAFETY: as above.
        t.no_trap(|| unsafe { asm!("mov byte ptr [{}], 0", in(reg) pointer(table, 6)) });
        t.eq(table.read(6) & 0xff, 0);
    });
}

pub fn read_modify_write(t: &mut Test) {
    let target = Page::take();
    let entry = target.machine() | DATA;
    with_table(t, 1, |t, table| {
        let at = pointer(table, 9);
        let mut value = entry;
        // SAFETY: operations on the spare table, all emulated.
        t.no_trap(|| unsafe { asm!("xchg [{}], {}", in(reg) at, inout(reg) value) });
        t.eq(value, 0);
        t.eq(table.read(9) & !SOFT, entry & !SOFT);
        // SAFETY: as above.
        t.no_trap(|| unsafe { asm!("lock and qword ptr [{}], -3", in(reg) at) });
        t.eq(table.read(9) & WRITABLE, 0);
        // SAFETY: as above.
        t.no_trap(|| unsafe { asm!("lock or qword ptr [{}], 2", in(reg) at) });
        t.eq(table.read(9) & WRITABLE, WRITABLE);
        // SAFETY: as above.
        t.no_trap(|| unsafe { asm!("lock btr qword ptr [{}], 6", in(reg) at) });
        t.eq(table.read(9) & DIRTY, 0);
        let old = table.read(9);
        let mut found = old;
        // SAFETY: as above.
        t.no_trap(|| unsafe {
            asm!("lock cmpxchg [{}], {}", in(reg) at, in(reg) 0u64, inout("rax") found);
        });
        t.eq(found, old);
        t.eq(table.read(9), 0);
        found = 1;
        // SAFETY: as above.
        t.no_trap(|| unsafe {
            asm!("lock cmpxchg [{}], {}", in(reg) at, in(reg) 2u64, inout("rax") found);
        });
        t.eq(found, 0);
        t.eq(table.read(9), 0);
    });
}

/// A value that `mmu_update` would refuse.
pub fn bad_values(t: &mut Test) {
    let (l4_machine, l4_level) = (l4().machine(), 4);
    t.eq(l4_level, 4);
    with_table(t, 1, |t, table| {
        for value in [l4_machine | DATA, 1 << 45 | DATA, table.machine() | DATA] {
            let frame = t.traps(14, || table.write(3, value));
            t.eq(frame.error, 3);
            t.eq(test_guests::shared::cr2(), table.va() + 24);
            t.eq(table.read(3), 0);
        }
    });
}

/// Across two entries: refused.
pub fn unaligned(t: &mut Test) {
    with_table(t, 1, |t, table| {
        let at = table.va() + 12;
        // SAFETY: a store to the spare table.
        let frame = t.traps(14, || unsafe { asm!("mov qword ptr [{}], 0", in(reg) at) });
        t.eq(frame.error, 3);
    });
}

pub fn upper_levels(t: &mut Test) {
    for level in [2, 3, 4] {
        with_table(t, level, |t, table| {
            let frame = t.traps(14, || table.write(3, 0));
            t.eq(frame.error, 3);
        });
    }
}

/// A read-only page that is no table.
pub fn ordinary(t: &mut Test) {
    let page = Page::take();
    t.rc(page.protect(), 0);
    let frame = t.traps(14, || page.write(3, 0));
    t.eq(frame.error, 3);
    t.eq(test_guests::shared::cr2(), page.va() + 24);
    t.rc(page.unprotect(), 0);
}
