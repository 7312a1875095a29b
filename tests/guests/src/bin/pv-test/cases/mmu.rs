//! Page-table updates.

use crate::test::Test;
use test_guests::boot::{VIRT_BASE, start_info};
use test_guests::hypercall::{address_of, call, mmu_update, mmu_update_for, update_va_mapping};
use test_guests::memory::*;
use xen_abi::errno::*;
use xen_abi::xen::*;

/// A slot of the L1 table that maps a spare page, and that page.
fn spare() -> (u64, Page) {
    let page = Page::take();
    (entry_of(page.va(), 1).0, page)
}

pub fn kinds(t: &mut Test) {
    let (slot, page) = spare();
    let entry = page.machine() | DATA;
    t.rc(mmu_update(slot | MMU_NORMAL_PT_UPDATE, entry), 0);
    t.rc(mmu_update(slot | MMU_PT_UPDATE_PRESERVE_AD, entry), 0);
    t.rc(mmu_update(slot | MMU_PT_UPDATE_NO_TRANSLATE, entry), 0);
    for kind in 4..8 {
        t.rc(mmu_update(slot | kind, entry), -ENOSYS);
    }
}

pub fn preserve_ad(t: &mut Test) {
    let (slot, page) = spare();
    t.rc(
        mmu_update(
            slot,
            page.machine() | PRESENT | WRITABLE | USER | ACCESSED | DIRTY,
        ),
        0,
    );
    t.rc(
        mmu_update(
            slot | MMU_PT_UPDATE_PRESERVE_AD,
            page.machine() | PRESENT | USER,
        ),
        0,
    );
    let value = entry_of(page.va(), 1).1;
    t.eq(value & (ACCESSED | DIRTY | WRITABLE), ACCESSED | DIRTY);
    t.rc(mmu_update(slot, page.machine() | PRESENT | USER), 0);
    t.eq(entry_of(page.va(), 1).1 & (ACCESSED | DIRTY), 0);
    t.rc(page.unprotect(), 0);
}

/// What the hypervisor changes in entries on the way.
pub fn adjusted_bits(t: &mut Test) {
    let (slot, page) = spare();
    t.rc(mmu_update(slot, page.machine() | PRESENT | WRITABLE), 0);
    let value = entry_of(page.va(), 1).1;
    t.eq(value & (USER | 1 << 52), USER | 1 << 52);
    t.rc(
        mmu_update(slot, page.machine() | PRESENT | WRITABLE | USER),
        0,
    );
    let value = entry_of(page.va(), 1).1;
    t.eq(value & (USER | 1 << 52), USER);
    // Entries that are not present are stored as they are.
    let swap = 0x7ff0_1234_5678_9abe;
    t.rc(mmu_update(slot, swap), 0);
    t.eq(
        table_of(page.va(), 1).0.read(table_of(page.va(), 1).1),
        swap,
    );
    t.rc(page.unprotect(), 0);
}

pub fn l1_flags(t: &mut Test) {
    let (slot, page) = spare();
    let map = |flags: u64| mmu_update(slot, page.machine() | flags);
    for flags in [
        DATA,
        PRESENT,
        DATA | GLOBAL,
        DATA | NO_EXECUTE,
        DATA | 7 << 9,
        DATA | 0x7ff << 52,
        DATA | CACHE_DISABLE,
        DATA | WRITE_THROUGH,
        DATA | LARGE,
    ] {
        t.rc(map(flags), 0);
    }
    // No such RAM, so device memory, and not permitted.
    for bit in 40..52 {
        t.rc(map(DATA | 1 << bit), -EPERM);
    }
    t.rc(page.unprotect(), 0);
}

/// Entries of page tables: no large pages, no global bit, no cache attributes.
pub fn upper_flags(t: &mut Test) {
    for level in [2, 3, 4] {
        let (slot, value) = entry_of(VIRT_BASE, level);
        for bit in [LARGE, GLOBAL, CACHE_DISABLE, WRITE_THROUGH] {
            t.rc(mmu_update(slot, value | bit), -EINVAL);
        }
        t.eq(entry_of(VIRT_BASE, level).1, value);
        // The same again, and bits left to software, are fine.
        t.rc(mmu_update(slot, value), 0);
        t.rc(mmu_update(slot, value | 7 << 9), 0);
        t.eq(entry_of(VIRT_BASE, level).1 & 7 << 9, 7 << 9);
        t.rc(mmu_update(slot, value), 0);
    }
}

/// A large page in place of a table.
pub fn large_pages(t: &mut Test) {
    let frame = start_info().pt_base;
    let machine = entry_of(frame, 1).1 & FRAME_MASK & !0x1f_ffff;
    for level in [2, 3] {
        let (table, _) = table_of(VIRT_BASE, level);
        let free = table.machine() + 8 * 100;
        t.rc(mmu_update(free, machine | DATA | LARGE), -EINVAL);
        t.rc(mmu_update(free, PRESENT | LARGE), -EINVAL);
        // Not present: anything goes.
        t.rc(mmu_update(free, machine | LARGE), 0);
        t.rc(mmu_update(free, 0), 0);
    }
}

/// The hypervisor's slots of an L4 table.
pub fn reserved_slots(t: &mut Test) {
    for slot in 256..272 {
        let address = l4().machine() + slot * 8;
        t.rc(mmu_update(address, 0), -EINVAL);
        t.rc(mmu_update(address, l4().machine() | TABLE), -EINVAL);
    }
    for slot in [255, 272] {
        t.rc(mmu_update(l4().machine() + slot * 8, 0), 0);
    }
}

/// The core rule: page tables are never writable.
pub fn writable_table(t: &mut Test) {
    for level in 1..=4 {
        let (table, _) = table_of(VIRT_BASE, level);
        let (slot, page) = spare();
        let machine = table.machine();
        t.rc(mmu_update(slot, machine | DATA), -EBUSY);
        t.rc(
            update_va_mapping(page.va(), machine | DATA, UVMF_INVLPG),
            -EBUSY,
        );
        t.rc(
            update_va_mapping(table.va(), machine | DATA, UVMF_INVLPG),
            -EBUSY,
        );
        // Only read-only.
        t.rc(mmu_update(slot, machine | READ_ONLY), 0);
        t.rc(mmu_update(slot, machine | READ_ONLY | WRITABLE), -EBUSY);
        t.rc(page.unprotect(), 0);
    }
}

/// A level in the wrong place.
pub fn wrong_level(t: &mut Test) {
    let table = |level| table_of(VIRT_BASE, level).0;
    // An L1 table where L3 points: as an L2 table.
    let free = |level: u32| table(level).machine() + 8 * 101;
    t.rc(mmu_update(free(3), table(1).machine() | TABLE), -EINVAL);
    t.rc(mmu_update(free(2), table(2).machine() | TABLE), -EINVAL);
    t.rc(mmu_update(free(2), table(3).machine() | TABLE), -EINVAL);
    t.rc(mmu_update(free(4), table(2).machine() | TABLE), -EINVAL);
    // A page with a writable mapping cannot become a table.
    let page = Page::take();
    t.rc(mmu_update(free(2), page.machine() | TABLE), -EINVAL);
    // Without one it can; then it is an L1 table for good.
    t.rc(page.protect(), 0);
    t.rc(mmu_update(free(2), page.machine() | TABLE), 0);
    t.rc(page.unprotect(), -EBUSY);
    t.rc(mmu_update(free(3), page.machine() | TABLE), -EINVAL);
    t.rc(mmu_update(free(2), 0), 0);
    t.rc(page.unprotect(), 0);
}

/// A table used twice keeps its type until the last use is gone.
pub fn shared_table(t: &mut Test) {
    let page = Page::take();
    let (l2, _) = table_of(VIRT_BASE, 2);
    let slot = |i: u64| l2.machine() + 8 * i;
    t.rc(page.protect(), 0);
    for i in [110, 111, 112] {
        t.rc(mmu_update(slot(i), page.machine() | TABLE), 0);
    }
    for i in [110, 111] {
        t.rc(mmu_update(slot(i), 0), 0);
        t.rc(page.unprotect(), -EBUSY);
    }
    t.rc(mmu_update(slot(112), 0), 0);
    t.rc(page.unprotect(), 0);
}

/// Linear page tables: a table may be seen through itself, read-only.
pub fn linear_table(t: &mut Test) {
    let slot = l4().machine() + 8 * 300;
    t.rc(mmu_update(slot, l4().machine() | TABLE), -EINVAL);
    t.rc(mmu_update(slot, l4().machine() | READ_ONLY), 0);
    t.rc(mmu_update(slot, l4().machine() | TABLE), -EINVAL);
    let seen = 0xffff_0000_0000_0000_u64 | 300 << 39 | 300 << 30 | 300 << 21 | 300 << 12;
    // SAFETY: the L4 table, as an L1 table four times over.
    let value = unsafe { (seen as *const u64).add(300).read_volatile() };
    t.eq(value & FRAME_MASK, l4().machine());
    t.rc(mmu_update(slot, 0), 0);
}

pub fn frames_of_others(t: &mut Test) {
    let (slot, page) = spare();
    let ram_end = 0x2000_0000u64;
    // The hypervisor's own memory: M2P, text (loaded at 2 MiB or just below the end).
    let mut refused = 0;
    for mfn in 0..ram_end >> 12 {
        if mfn % 1021 == 0 && mfn > 0x100 && m2p_is_free(mfn) {
            let rc = mmu_update(slot, mfn << 12 | DATA);
            if rc != -EINVAL && rc != -EPERM && rc != -EBUSY {
                t.eq(mfn, 0);
                t.rc(rc, -EINVAL);
            }
            refused += 1;
        }
    }
    // Some of them at least are not ours, whatever the machine has left for the hypervisor.
    t.yes(refused > 4);
    t.rc(page.unprotect(), 0);
}

/// Whether a machine frame of RAM is not this domain's, by the P2M.
fn m2p_is_free(mfn: u64) -> bool {
    (0..start_info().nr_pages).all(|pfn| p2m(pfn) != mfn)
}

pub fn device_memory(t: &mut Test) {
    let (slot, page) = spare();
    // VGA text, ROM, PCI hole.
    for mfn in [0xb8u64, 0xf0, 0xfe000] {
        t.rc(mmu_update(slot, mfn << 12 | DATA), 0);
        let value = entry_of(page.va(), 1).1;
        t.eq(value & FRAME_MASK, mfn << 12);
        t.eq(value & CACHE_DISABLE, CACHE_DISABLE);
    }
    // The local APIC is the hypervisor's.
    t.rc(mmu_update(slot, 0xfee0_0000 | DATA), -EPERM);
    t.rc(mmu_update(slot, 0xfee0_0000 | READ_ONLY), -EPERM);
    t.rc(page.unprotect(), 0);
}

/// All eight cache types: device memory is never cached, the domain's own memory is as it says.
pub fn cache_types(t: &mut Test) {
    const TYPES: u64 = WRITE_THROUGH | CACHE_DISABLE | LARGE;
    let (slot, page) = spare();
    let types = |n: u64| ((n & 3) * WRITE_THROUGH) | ((n >> 2) * LARGE);
    for (asked, stored) in [3, 3, 2, 3, 4, 3, 6, 7].into_iter().enumerate() {
        let asked = types(asked as u64);
        for mfn in [0xb8u64, 0xf0, 0xfe000] {
            t.rc(mmu_update(slot, mfn << 12 | DATA | asked), 0);
            t.eq(entry_of(page.va(), 1).1 & TYPES, types(stored));
        }
        t.rc(mmu_update(slot, page.machine() | DATA | asked), 0);
        t.eq(entry_of(page.va(), 1).1 & TYPES, asked);
    }
    t.rc(page.unprotect(), 0);
}

pub fn foreign_domains(t: &mut Test) {
    let (slot, page) = spare();
    let entry = page.machine() | DATA;
    // Itself only by DOMID_SELF.
    t.rc(mmu_update_for(slot, entry, 0), -ESRCH);
    t.rc(mmu_update_for(slot, entry, u64::from(DOMID_SELF)), 0);
    t.rc(mmu_update_for(slot, entry, 5), -ESRCH);
    t.rc(
        mmu_update_for(slot, entry, u64::from(DOMID_INVALID)),
        -ESRCH,
    );
    t.rc(mmu_update_for(slot, entry, u64::from(DOMID_COW)), -ESRCH);
    t.rc(mmu_update_for(slot, entry, u64::from(DOMID_IDLE)), -ESRCH);
    // Own RAM is not device memory.
    let other = Page::take().machine() | DATA;
    t.rc(mmu_update_for(slot, other, u64::from(DOMID_IO)), -EBUSY);
    t.rc(mmu_update_for(slot, other, u64::from(DOMID_XEN)), -EBUSY);
    // The table's owner in the high half: domain + 1.
    t.rc(
        mmu_update_for(slot, entry, 1 << 16 | u64::from(DOMID_SELF)),
        0,
    );
    t.rc(
        mmu_update_for(slot, entry, 9 << 16 | u64::from(DOMID_SELF)),
        -ESRCH,
    );
}

/// Tables are machine addresses of owned frames.
pub fn bad_tables(t: &mut Test) {
    let entry = spare().1.machine() | DATA;
    t.rc(mmu_update(0xff_ffff_f000, entry), -EINVAL);
    t.rc(mmu_update(0xfee0_0000, entry), -EINVAL);
    t.rc(mmu_update(!7, entry), -EINVAL);
    // An ordinary page: a plain store.
    let page = Page::take();
    t.rc(mmu_update(page.machine() + 40, 0x1234), 0);
    t.eq(page.read(5), 0x1234);
    // The same page mapped read-only: still untyped, still a store.
    t.rc(page.protect(), 0);
    t.rc(mmu_update(page.machine() + 40, 0x5678), 0);
    t.eq(page.read(5), 0x5678);
    t.rc(page.unprotect(), 0);
}

pub fn done_count(t: &mut Test) {
    let (slot, page) = spare();
    let good = MmuUpdate {
        ptr: slot,
        val: page.machine() | DATA,
    };
    let bad = MmuUpdate {
        ptr: slot,
        val: 1 << 45 | DATA,
    };
    let mut updates = [good, good, bad, good];
    let mut done = 0x55u32;
    let pointer = address_of(&mut updates);
    let update = |count: u64, done: u64| {
        call(
            HYPERVISOR_MMU_UPDATE,
            [pointer, count, done, u64::from(DOMID_SELF), 0],
        )
    };
    let done_pointer = &raw mut done as u64;
    t.rc(update(4, done_pointer), -EPERM);
    t.eq(done, 2);
    t.rc(update(2, done_pointer), 0);
    t.eq(done, 2);
    t.rc(update(0, done_pointer), 0);
    t.eq(done, 0);
    t.rc(update(2, 0), 0);
    // Bit 31 says "continued", with the count so far in `done`.
    done = 7;
    t.rc(update(1 << 31 | 2, done_pointer), 0);
    t.eq(done, 9);
    t.rc(update(1 << 31 | 2, 0), 0);
    t.rc(
        call(
            HYPERVISOR_MMU_UPDATE,
            [1 << 60, 1, 0, u64::from(DOMID_SELF), 0],
        ),
        -EFAULT,
    );
    t.rc(
        call(
            HYPERVISOR_MMU_UPDATE,
            [0x1000, 1, 0, u64::from(DOMID_SELF), 0],
        ),
        -EFAULT,
    );
}

pub fn m2p_update(t: &mut Test) {
    let page = Page::take();
    let update = |machine: u64, pfn: u64| mmu_update(machine | MMU_MACHPHYS_UPDATE, pfn);
    t.rc(update(page.machine(), 0x1234), 0);
    t.eq(m2p(page.mfn()), 0x1234);
    t.rc(update(page.machine(), page.pfn()), 0);
    t.eq(m2p(page.mfn()), page.pfn());
    t.rc(update(0xfee0_0000, 1), -EINVAL);
    t.rc(update(0xff_ffff_f000, 1), -EINVAL);
}

/// The table itself is read-only and not executable.
pub fn m2p_access(t: &mut Test) {
    let m2p = xen_abi::arch_x86::MACH2PHYS_VIRT_START as *mut u64;
    // SAFETY: a fault is what is asked for.
    let frame = t.traps(14, || unsafe { m2p.write_volatile(0) });
    t.eq(frame.error, 3);
    // Beyond the table.
    // SAFETY: as above.
    let frame = t.traps(14, || unsafe {
        m2p.add(1 << 35).read_volatile();
    });
    t.eq(frame.error & 2, 0);
}

pub fn update_va(t: &mut Test) {
    let (_, page) = spare();
    let entry = page.machine() | DATA;
    for flags in [
        UVMF_NONE,
        UVMF_TLB_FLUSH,
        UVMF_INVLPG,
        UVMF_TLB_FLUSH | UVMF_ALL,
    ] {
        t.rc(update_va_mapping(page.va(), entry, flags), 0);
    }
    // No table for that address.
    t.rc(update_va_mapping(0x1000, entry, 0), -EINVAL);
    t.rc(
        update_va_mapping(VIRT_BASE + (1 << 30) - 4096, entry, 0),
        -EINVAL,
    );
    t.rc(update_va_mapping(1 << 47, entry, 0), -EINVAL);
    t.rc(
        update_va_mapping(xen_abi::arch_x86::HYPERVISOR_VIRT_START, entry, 0),
        -EINVAL,
    );
    t.rc(update_va_mapping(0xffff_8280_0000_0000, entry, 0), -EINVAL);
    // An unknown kind of flush is none.
    t.rc(update_va_mapping(page.va(), entry, 3), 0);
    t.rc(
        update_va_mapping(page.va(), entry, 0x1000 | UVMF_INVLPG),
        -EFAULT,
    );
    let mut mask = 1u64;
    let pointer = address_of(&mut mask);
    t.rc(
        update_va_mapping(page.va(), entry, pointer | UVMF_INVLPG),
        0,
    );
    t.rc(
        update_va_mapping(page.va(), entry, pointer | UVMF_TLB_FLUSH),
        0,
    );
}

/// An update takes effect after the flush it asks for.
pub fn remap(t: &mut Test) {
    let (one, two) = (Page::take(), Page::take());
    one.write(0, 1);
    two.write(0, 2);
    t.rc(
        update_va_mapping(one.va(), two.machine() | DATA, UVMF_INVLPG),
        0,
    );
    t.eq(one.read(0), 2);
    one.write(0, 3);
    t.eq(two.read(0), 3);
    t.rc(one.unprotect(), 0);
    t.eq(one.read(0), 1);
    // Gone.
    t.rc(update_va_mapping(one.va(), 0, UVMF_INVLPG), 0);
    let frame = t.traps(14, || {
        one.read(0);
    });
    t.eq(frame.error, 0);
    t.rc(one.unprotect(), 0);
    t.rc(one.protect(), 0);
    let frame = t.traps(14, || one.write(0, 0));
    t.eq(frame.error, 3);
    t.rc(one.unprotect(), 0);
}

pub fn no_execute(t: &mut Test) {
    let page = Page::take();
    page.put(&[0xc3]);
    let run = || {
        // SAFETY: the page holds a `ret`.
        let function: extern "C" fn() = unsafe { core::mem::transmute(page.va()) };
        function();
    };
    t.no_trap(run);
    t.rc(
        update_va_mapping(page.va(), page.machine() | DATA | NO_EXECUTE, UVMF_INVLPG),
        0,
    );
    let frame = t.traps(14, run);
    t.eq(frame.error, 0x11);
    t.rc(page.unprotect(), 0);
}
