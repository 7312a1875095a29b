//! Pinning, base pointers and the other extended MMU commands.

use crate::test::Test;
use test_guests::boot::VIRT_BASE;
use test_guests::hypercall::{address_of, call, mmu_update, mmuext_op, update_va_mapping};
use test_guests::memory::*;
use xen_abi::errno::*;
use xen_abi::xen::*;

fn pin(level: u32, page: Page) -> i64 {
    mmuext_op(MMUEXT_PIN_L1_TABLE + level - 1, page.mfn(), 0)
}

fn unpin(page: Page) -> i64 {
    mmuext_op(MMUEXT_UNPIN_TABLE, page.mfn(), 0)
}

pub fn once(t: &mut Test) {
    for level in 1..=4 {
        let page = Page::take();
        // Writable: no.
        t.rc(pin(level, page), -EINVAL);
        t.rc(page.protect(), 0);
        t.rc(unpin(page), -EINVAL);
        t.rc(pin(level, page), 0);
        t.rc(pin(level, page), -EINVAL);
        t.rc(page.unprotect(), -EBUSY);
        // Writes to L1 tables are emulated, to others not.
        if level == 1 {
            t.no_trap(|| page.write(0, 0));
        } else {
            let frame = t.traps(14, || page.write(0, 0));
            t.eq(frame.error, 3);
        }
        t.rc(unpin(page), 0);
        t.rc(unpin(page), -EINVAL);
        t.rc(page.unprotect(), 0);
        page.write(0, 0);
    }
}

pub fn as_another_level(t: &mut Test) {
    for level in 1..=4 {
        let page = Page::take();
        t.rc(page.protect(), 0);
        t.rc(pin(level, page), 0);
        for other in 1..=4 {
            if other != level {
                t.rc(pin(other, page), -EINVAL);
            }
        }
        t.rc(unpin(page), 0);
        t.rc(page.unprotect(), 0);
    }
}

/// Bad contents are refused as a whole and leave nothing behind.
pub fn bad_contents(t: &mut Test) {
    let target = Page::take();
    for level in 1..=4 {
        let page = Page::take();
        let bad = if level == 1 {
            1 << 45 | DATA
        } else {
            target.machine() | TABLE | LARGE
        };
        page.write(300, bad);
        t.rc(page.protect(), 0);
        t.rc(pin(level, page), if level == 1 { -EPERM } else { -EINVAL });
        t.rc(page.unprotect(), 0);
        page.write(300, 0);
        t.rc(page.protect(), 0);
        t.rc(pin(level, page), 0);
        t.rc(unpin(page), 0);
        t.rc(page.unprotect(), 0);
    }
}

/// As XSA-299: a failure half-way drops what the first half took.
pub fn partial_failure(t: &mut Test) {
    let (l2, first, second) = (Page::take(), Page::take(), Page::take());
    l2.write(0, first.machine() | TABLE);
    l2.write(1, second.machine() | TABLE);
    t.rc(first.protect(), 0);
    t.rc(l2.protect(), 0);
    // The second is still writable.
    t.rc(pin(2, l2), -EINVAL);
    t.rc(first.unprotect(), 0);
    t.rc(l2.unprotect(), 0);
    first.write(0, 0x1234);
    first.write(0, 0);
    // Again, two levels up.
    let l3 = Page::take();
    l3.write(7, l2.machine() | TABLE);
    for page in [first, l2, l3] {
        t.rc(page.protect(), 0);
    }
    t.rc(pin(3, l3), -EINVAL);
    for page in [first, l2, l3] {
        t.rc(page.unprotect(), 0);
    }
    // And successfully.
    for page in [first, second, l2, l3] {
        t.rc(page.protect(), 0);
    }
    t.rc(pin(3, l3), 0);
    for page in [first, second, l2, l3] {
        t.rc(page.unprotect(), -EBUSY);
    }
    t.rc(unpin(l3), 0);
    for page in [first, second, l2, l3] {
        t.rc(page.unprotect(), 0);
    }
}

/// Types stay as long as anything uses them, pinned or not.
pub fn unpin_while_used(t: &mut Test) {
    let (l2, l1) = (Page::take(), Page::take());
    l2.write(0, l1.machine() | TABLE);
    t.rc(l1.protect(), 0);
    t.rc(l2.protect(), 0);
    t.rc(pin(1, l1), 0);
    t.rc(pin(2, l2), 0);
    t.rc(unpin(l1), 0);
    t.rc(l1.unprotect(), -EBUSY);
    t.rc(pin(1, l1), 0);
    t.rc(unpin(l2), 0);
    t.rc(l2.unprotect(), 0);
    t.rc(l1.unprotect(), -EBUSY);
    t.rc(unpin(l1), 0);
    t.rc(l1.unprotect(), 0);
}

/// A page that a pinned L1 table maps writable cannot become a table.
pub fn mapped_by_a_table(t: &mut Test) {
    let (l1, page) = (Page::take(), Page::take());
    l1.write(3, page.machine() | DATA);
    t.rc(l1.protect(), 0);
    t.rc(pin(1, l1), 0);
    t.rc(page.protect(), 0);
    t.rc(pin(1, page), -EINVAL);
    t.rc(mmu_update(l1.machine() + 24, page.machine() | READ_ONLY), 0);
    t.rc(pin(1, page), 0);
    t.rc(mmu_update(l1.machine() + 24, page.machine() | DATA), -EBUSY);
    t.rc(unpin(page), 0);
    t.rc(mmu_update(l1.machine() + 24, page.machine() | DATA), 0);
    t.rc(pin(1, page), -EINVAL);
    t.rc(unpin(l1), 0);
    t.rc(pin(1, page), 0);
    t.rc(unpin(page), 0);
    t.rc(l1.unprotect(), 0);
    t.rc(page.unprotect(), 0);
}

/// An L4 table whose hypervisor slots hold garbage.
pub fn l4_garbage(t: &mut Test) {
    let page = Page::take();
    for slot in 256..272 {
        page.write(slot, 0xdead_beef_0000_0000 | TABLE | LARGE | slot as u64);
    }
    page.write(511, l4().read(511));
    t.rc(page.protect(), 0);
    t.rc(pin(4, page), 0);
    // The table works; the machine-to-physical table is there.
    t.rc(mmuext_op(MMUEXT_NEW_BASEPTR, page.mfn(), 0), 0);
    t.eq(m2p(page.mfn()), page.pfn());
    t.rc(mmuext_op(MMUEXT_NEW_BASEPTR, l4().mfn(), 0), 0);
    t.rc(unpin(page), 0);
    t.rc(page.unprotect(), 0);
}

pub fn base_pointer(t: &mut Test) {
    let new = |mfn: u64| mmuext_op(MMUEXT_NEW_BASEPTR, mfn, 0);
    t.rc(new(l4().mfn()), 0);
    t.rc(new(table_of(VIRT_BASE, 3).0.mfn()), -EINVAL);
    t.rc(new(Page::take().mfn()), -EINVAL);
    t.rc(new(0xf_ffff_ffff), -EINVAL);
    t.rc(new(0), -EINVAL);
    // One that need not be pinned.
    let page = Page::take();
    page.write(511, l4().read(511));
    t.rc(page.protect(), 0);
    t.rc(new(page.mfn()), 0);
    t.rc(page.unprotect(), -EBUSY);
    t.rc(new(l4().mfn()), 0);
    t.rc(page.unprotect(), 0);
}

pub fn user_base_pointer(t: &mut Test) {
    let new = |mfn: u64| mmuext_op(MMUEXT_NEW_USER_BASEPTR, mfn, 0);
    t.rc(new(0), 0);
    let page = Page::take();
    t.rc(new(page.mfn()), -EINVAL);
    t.rc(page.protect(), 0);
    t.rc(new(page.mfn()), 0);
    t.rc(page.unprotect(), -EBUSY);
    t.rc(new(page.mfn()), 0);
    t.rc(new(0xf_ffff_ffff), -EINVAL);
    t.rc(new(0), 0);
    t.rc(page.unprotect(), 0);
}

pub fn bad_frames(t: &mut Test) {
    for command in [0, 1, 2, 3, MMUEXT_UNPIN_TABLE] {
        for mfn in [0xfee00, 0xb8, 0xf_ffff_ffff, u64::MAX] {
            t.rc(mmuext_op(command, mfn, 0), -EINVAL);
        }
    }
}

pub fn commands(t: &mut Test) {
    for command in [14, 21, 99, u32::MAX] {
        t.rc(mmuext_op(command, 0, 0), -ENOSYS);
    }
    for command in [MMUEXT_MARK_SUPER, MMUEXT_UNMARK_SUPER] {
        t.rc(mmuext_op(command, 0, 0), -EOPNOTSUPP);
    }
    t.rc(mmuext_op(MMUEXT_TLB_FLUSH_LOCAL, 0, 0), 0);
    t.rc(mmuext_op(MMUEXT_TLB_FLUSH_ALL, 0, 0), 0);
    for va in [VIRT_BASE, 0, 1 << 60, 0xffff_8280_0000_0000] {
        t.rc(mmuext_op(MMUEXT_INVLPG_LOCAL, va, 0), 0);
        t.rc(mmuext_op(MMUEXT_INVLPG_ALL, va, 0), 0);
    }
    let mut mask = 1u64;
    let pointer = address_of(&mut mask);
    t.rc(mmuext_op(MMUEXT_TLB_FLUSH_MULTI, 0, pointer), 0);
    t.rc(mmuext_op(MMUEXT_INVLPG_MULTI, VIRT_BASE, pointer), 0);
    t.rc(mmuext_op(MMUEXT_TLB_FLUSH_MULTI, 0, 0x1000), -EINVAL);
    t.rc(mmuext_op(MMUEXT_INVLPG_MULTI, VIRT_BASE, 1 << 60), -EINVAL);
    t.rc(mmuext_op(MMUEXT_FLUSH_CACHE, 0, 0), 0);
    t.rc(mmuext_op(MMUEXT_FLUSH_CACHE_GLOBAL, 0, 0), 0);
}

pub fn clear_and_copy(t: &mut Test) {
    let (one, two) = (Page::take(), Page::take());
    one.write(9, 9);
    t.rc(mmuext_op(MMUEXT_COPY_PAGE, two.mfn(), one.mfn()), 0);
    t.eq(two.read(9), 9);
    t.rc(mmuext_op(MMUEXT_CLEAR_PAGE, one.mfn(), 0), 0);
    t.eq(one.read(9), 0);
    // Page tables may be read, not written.
    t.rc(mmuext_op(MMUEXT_CLEAR_PAGE, l4().mfn(), 0), -EINVAL);
    t.rc(mmuext_op(MMUEXT_COPY_PAGE, l4().mfn(), one.mfn()), -EINVAL);
    t.rc(mmuext_op(MMUEXT_COPY_PAGE, one.mfn(), l4().mfn()), 0);
    t.eq(one.read(511), l4().read(511));
    t.rc(mmuext_op(MMUEXT_CLEAR_PAGE, 0xfee00, 0), -EINVAL);
    t.rc(mmuext_op(MMUEXT_COPY_PAGE, one.mfn(), 0xfee00), -EINVAL);
}

pub fn ldt(t: &mut Test) {
    let set = |va: u64, entries: u64| mmuext_op(MMUEXT_SET_LDT, va, entries);
    t.rc(set(0, 0), 0);
    t.rc(set(VIRT_BASE, 8192), 0);
    t.rc(set(VIRT_BASE, 8193), -EINVAL);
    t.rc(set(VIRT_BASE + 8, 1), -EINVAL);
    t.rc(set(0xffff_8280_0000_0000, 1), -EINVAL);
    t.rc(set(1 << 60, 1), -EINVAL);
    t.rc(set(0, 0), 0);
}

pub fn done_count(t: &mut Test) {
    let flush = MmuextOp {
        cmd: MMUEXT_TLB_FLUSH_LOCAL,
        _pad: 0,
        arg1: 0,
        arg2: 0,
    };
    let bad = MmuextOp { cmd: 99, ..flush };
    let mut ops = [flush, flush, bad, flush];
    let mut done = 0x55u32;
    let (ops, done_pointer) = (address_of(&mut ops), &raw mut done as u64);
    let op = |count: u64, done: u64, domain: u16| {
        call(
            HYPERVISOR_MMUEXT_OP,
            [ops, count, done, u64::from(domain), 0],
        )
    };
    t.rc(op(4, done_pointer, DOMID_SELF), -ENOSYS);
    t.eq(done, 2);
    t.rc(op(2, done_pointer, DOMID_SELF), 0);
    t.eq(done, 2);
    t.rc(op(0, 0, DOMID_SELF), 0);
    t.rc(op(1, 0, 7), -ESRCH);
    t.rc(op(1, 0, DOMID_INVALID), -ESRCH);
    t.rc(op(1 << 31 | 1, 0, DOMID_SELF), 0);
}

/// As XSA-148 and XSA-182: a changed flag never turns a checked entry into a writable table.
pub fn fast_path_flags(t: &mut Test) {
    // An L2 entry cannot gain PSE, nor an L4 self-reference RW.
    let (slot, value) = entry_of(VIRT_BASE, 2);
    t.rc(mmu_update(slot, value | LARGE), -EINVAL);
    t.rc(mmu_update(slot, value | LARGE | 1 << 9), -EINVAL);
    let linear = l4().machine() + 8 * 301;
    t.rc(mmu_update(linear, l4().machine() | READ_ONLY), 0);
    for extra in [0, ACCESSED, DIRTY, 1 << 9, NO_EXECUTE] {
        t.rc(
            mmu_update(linear, l4().machine() | READ_ONLY | WRITABLE | extra),
            -EINVAL,
        );
        t.rc(mmu_update(linear, l4().machine() | READ_ONLY | extra), 0);
    }
    t.rc(mmu_update(linear, 0), 0);
    // An L1 entry of a read-only table cannot gain RW by a flags-only update.
    let page = Page::take();
    let (slot, _) = entry_of(page.va(), 1);
    t.rc(page.protect(), 0);
    t.rc(pin(1, page), 0);
    t.rc(mmu_update(slot, page.machine() | READ_ONLY | DIRTY), 0);
    t.rc(
        mmu_update(slot, page.machine() | READ_ONLY | WRITABLE),
        -EBUSY,
    );
    t.rc(
        mmu_update(slot | MMU_PT_UPDATE_PRESERVE_AD, page.machine() | DATA),
        -EBUSY,
    );
    t.rc(
        update_va_mapping(page.va(), page.machine() | DATA, UVMF_INVLPG),
        -EBUSY,
    );
    t.rc(unpin(page), 0);
    t.rc(page.unprotect(), 0);
}

/// As XSA-240: tables may show others of their level, read-only and one step deep.
pub fn linear_depth(t: &mut Test) {
    let tables = [Page::take(), Page::take(), Page::take()];
    for table in tables {
        t.rc(table.protect(), 0);
        t.rc(pin(4, table), 0);
    }
    let [a, b, c] = tables;
    let show =
        |from: Page, to: Page, flags: u64| mmu_update(from.machine() + 8, to.machine() | flags);
    t.rc(show(a, b, TABLE), -EINVAL);
    t.rc(show(a, b, READ_ONLY), 0);
    t.rc(show(a, b, TABLE), -EINVAL);
    t.rc(show(b, c, READ_ONLY), -EINVAL);
    t.rc(show(c, a, READ_ONLY), -EINVAL);
    t.rc(show(c, b, READ_ONLY), 0);
    // Shown, it stays a table.
    t.rc(unpin(b), 0);
    t.rc(b.unprotect(), -EBUSY);
    t.rc(mmu_update(a.machine() + 8, 0), 0);
    t.rc(b.unprotect(), -EBUSY);
    t.rc(unpin(c), 0);
    t.rc(b.unprotect(), 0);
    t.rc(unpin(a), 0);
    t.rc(a.unprotect(), 0);
    t.rc(c.unprotect(), 0);
}
