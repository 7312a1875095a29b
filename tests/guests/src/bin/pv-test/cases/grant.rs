//! Grant tables, with grants to itself.

use crate::test::Test;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use test_guests::hypercall::{address_of, call, update_va_mapping};
use test_guests::memory::*;
use xen_abi::errno::*;
use xen_abi::grant_table::*;
use xen_abi::xen::*;

fn op<T>(command: u32, argument: &mut T) -> i64 {
    let command = u64::from(command);
    call(
        HYPERVISOR_GRANT_TABLE_OP,
        [command, address_of(argument), 1, 0, 0],
    )
}

/// Address of the mapped first frame of the table; version 1.
fn table(t: &mut Test) -> Page {
    static TABLE: AtomicU64 = AtomicU64::new(0);
    t.rc(
        op(GNTTABOP_SET_VERSION, &mut GnttabSetVersion { version: 1 }),
        0,
    );
    let mut frame = 0u64;
    let mut setup = GnttabSetupTable {
        dom: DOMID_SELF,
        _pad0: 0,
        nr_frames: 1,
        status: 99,
        _pad1: [0; 3],
        frame_list: address_of(&mut frame),
    };
    t.rc(op(GNTTABOP_SETUP_TABLE, &mut setup), 0);
    t.rc(i64::from(setup.status), i64::from(GNTST_OKAY));
    let pfn = match TABLE.load(Ordering::Relaxed) {
        0 => Page::take().pfn(),
        pfn => pfn,
    };
    TABLE.store(pfn, Ordering::Relaxed);
    let page = Page::of_pfn(pfn);
    t.rc(
        update_va_mapping(page.va(), frame << 12 | DATA, UVMF_INVLPG),
        0,
    );
    page
}

/// Writes entry `index` of the table; frames below 4 GiB pages.
fn grant(table: Page, index: u64, flags: u16, domid: u16, mfn: u64) {
    let domid = u64::from(domid);
    table.write(index as usize, u64::from(flags) | domid << 16 | mfn << 32);
}

fn flags_of(table: Page, index: u64) -> u16 {
    table.read(index as usize) as u16
}

fn map(reference: u32, flags: u32, dom: u16, host_addr: u64) -> GnttabMapGrantRef {
    let mut argument = GnttabMapGrantRef {
        host_addr,
        flags,
        r#ref: reference,
        dom,
        status: 99,
        handle: u32::MAX,
        dev_bus_addr: 0,
    };
    HYPERCALL_RC.store(
        op(GNTTABOP_MAP_GRANT_REF, &mut argument) as u32,
        Ordering::Relaxed,
    );
    argument
}

/// The granter must be named by number.
const MYSELF: u16 = 0;

/// The last batch's own result.
static HYPERCALL_RC: AtomicU32 = AtomicU32::new(0);

fn unmap(handle: u32, host_addr: u64) -> i16 {
    let mut argument = GnttabUnmapGrantRef {
        host_addr,
        dev_bus_addr: 0,
        handle,
        status: 99,
        _pad: 0,
    };
    HYPERCALL_RC.store(
        op(GNTTABOP_UNMAP_GRANT_REF, &mut argument) as u32,
        Ordering::Relaxed,
    );
    argument.status
}

pub fn size(t: &mut Test) {
    table(t);
    let mut query = GnttabQuerySize {
        dom: DOMID_SELF,
        _pad0: 0,
        nr_frames: 0,
        max_nr_frames: 0,
        status: 99,
        _pad1: 0,
    };
    t.rc(op(GNTTABOP_QUERY_SIZE, &mut query), 0);
    t.rc(i64::from(query.status), 0);
    t.yes(query.nr_frames >= 1 && query.nr_frames <= query.max_nr_frames);
    query.dom = 5;
    t.rc(op(GNTTABOP_QUERY_SIZE, &mut query), 0);
    t.rc(i64::from(query.status), i64::from(GNTST_BAD_DOMAIN));
    let mut setup = GnttabSetupTable {
        dom: DOMID_SELF,
        _pad0: 0,
        nr_frames: query.max_nr_frames + 1,
        status: 99,
        _pad1: [0; 3],
        frame_list: 0x1000,
    };
    t.rc(op(GNTTABOP_SETUP_TABLE, &mut setup), 0);
    t.rc(i64::from(setup.status), i64::from(GNTST_GENERAL_ERROR));
    setup.nr_frames = 1;
    t.rc(op(GNTTABOP_SETUP_TABLE, &mut setup), 0);
    t.rc(i64::from(setup.status), i64::from(GNTST_BAD_VIRT_ADDR));
    let mut version = GnttabGetVersion {
        dom: DOMID_SELF,
        pad: 0,
        version: 0,
    };
    t.rc(op(GNTTABOP_GET_VERSION, &mut version), 0);
    t.eq(version.version, 1);
    t.rc(
        op(GNTTABOP_SET_VERSION, &mut GnttabSetVersion { version: 3 }),
        -EINVAL,
    );
}

pub fn map_and_unmap(t: &mut Test) {
    let table = table(t);
    let (page, window) = (Page::take(), Page::take());
    page.write(7, 0x7777);
    grant(table, 20, GTF_PERMIT_ACCESS, 0, page.mfn());
    let mapped = map(20, GNTMAP_HOST_MAP, MYSELF, window.va());
    t.rc(i64::from(mapped.status), 0);
    t.eq(mapped.dev_bus_addr, page.machine());
    t.eq(
        flags_of(table, 20),
        GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING,
    );
    t.eq(window.read(7), 0x7777);
    window.write(8, 0x8888);
    t.eq(page.read(8), 0x8888);
    t.eq(entry_of(window.va(), 1).1 & FRAME_MASK, page.machine());
    // The frame is in use as a writable page.
    t.rc(page.protect(), 0);
    t.rc(
        test_guests::hypercall::mmuext_op(MMUEXT_PIN_L1_TABLE, page.mfn(), 0),
        -EINVAL,
    );
    t.rc(page.unprotect(), 0);
    t.rc(i64::from(unmap(mapped.handle, window.va())), 0);
    t.eq(flags_of(table, 20), GTF_PERMIT_ACCESS);
    t.eq(entry_of(window.va(), 1).1, 0);
    t.traps(14, || {
        window.read(7);
    });
    t.rc(
        i64::from(unmap(mapped.handle, window.va())),
        i64::from(GNTST_BAD_HANDLE),
    );
    t.rc(window.unprotect(), 0);
    grant(table, 20, 0, 0, 0);
}

pub fn read_only(t: &mut Test) {
    let table = table(t);
    let (page, window) = (Page::take(), Page::take());
    grant(table, 21, GTF_PERMIT_ACCESS | GTF_READONLY, 0, page.mfn());
    let mapped = map(21, GNTMAP_HOST_MAP, MYSELF, window.va());
    t.rc(i64::from(mapped.status), i64::from(GNTST_GENERAL_ERROR));
    let mapped = map(21, GNTMAP_HOST_MAP | GNTMAP_READONLY, MYSELF, window.va());
    t.rc(i64::from(mapped.status), 0);
    t.eq(
        flags_of(table, 21),
        GTF_PERMIT_ACCESS | GTF_READONLY | GTF_READING,
    );
    let frame = t.traps(14, || window.write(0, 1));
    t.eq(frame.error, 3);
    t.rc(i64::from(unmap(mapped.handle, window.va())), 0);
    t.eq(flags_of(table, 21), GTF_PERMIT_ACCESS | GTF_READONLY);
    t.rc(window.unprotect(), 0);
    grant(table, 21, 0, 0, 0);
}

/// Two mappings of one grant: in use until both are gone.
pub fn twice(t: &mut Test) {
    let table = table(t);
    let (page, one, two) = (Page::take(), Page::take(), Page::take());
    grant(table, 22, GTF_PERMIT_ACCESS, 0, page.mfn());
    let first = map(22, GNTMAP_HOST_MAP, MYSELF, one.va());
    let second = map(22, GNTMAP_HOST_MAP | GNTMAP_READONLY, MYSELF, two.va());
    t.yes(first.status == 0 && second.status == 0 && first.handle != second.handle);
    t.rc(i64::from(unmap(first.handle, one.va())), 0);
    t.eq(flags_of(table, 22), GTF_PERMIT_ACCESS | GTF_READING);
    t.rc(i64::from(unmap(second.handle, two.va())), 0);
    t.eq(flags_of(table, 22), GTF_PERMIT_ACCESS);
    t.rc(one.unprotect(), 0);
    t.rc(two.unprotect(), 0);
    grant(table, 22, 0, 0, 0);
}

/// A mapping named by its entry's machine address.
pub fn by_entry(t: &mut Test) {
    let table = table(t);
    let (page, window) = (Page::take(), Page::take());
    page.write(3, 0x33);
    grant(table, 23, GTF_PERMIT_ACCESS, 0, page.mfn());
    let slot = entry_of(window.va(), 1).0;
    let flags = GNTMAP_HOST_MAP | GNTMAP_CONTAINS_PTE | GNTMAP_APPLICATION_MAP;
    let mapped = map(23, flags, MYSELF, slot);
    t.rc(i64::from(mapped.status), 0);
    test_guests::hypercall::mmuext_op(MMUEXT_INVLPG_LOCAL, window.va(), 0);
    t.eq(window.read(3), 0x33);
    t.rc(
        i64::from(unmap(mapped.handle, window.va())),
        i64::from(GNTST_GENERAL_ERROR),
    );
    t.rc(i64::from(unmap(mapped.handle, slot)), 0);
    let bad = map(23, flags, MYSELF, 0xf_ffff_ffff << 12);
    t.rc(i64::from(bad.status), i64::from(GNTST_GENERAL_ERROR));
    let bad = map(23, flags, MYSELF, slot + 4);
    t.rc(i64::from(bad.status), i64::from(GNTST_GENERAL_ERROR));
    t.rc(window.unprotect(), 0);
    grant(table, 23, 0, 0, 0);
}

pub fn bad_maps(t: &mut Test) {
    let table = table(t);
    let (page, window) = (Page::take(), Page::take());
    let attempt = |reference: u32, flags: u32, dom: u16, va: u64| {
        let status = map(reference, flags, dom, va).status;
        (HYPERCALL_RC.load(Ordering::Relaxed), status)
    };
    let host = GNTMAP_HOST_MAP;
    t.yes(attempt(24, host, 5, window.va()) == (0, GNTST_BAD_DOMAIN));
    t.yes(attempt(24, host, DOMID_SELF, window.va()) == (0, GNTST_BAD_DOMAIN));
    t.yes(attempt(24, host, DOMID_INVALID, window.va()) == (0, GNTST_BAD_DOMAIN));
    t.yes(attempt(1 << 20, host, MYSELF, window.va()) == (0, GNTST_BAD_GNTREF));
    t.yes(attempt(u32::MAX, host, MYSELF, window.va()) == (0, GNTST_BAD_GNTREF));
    // No kind of mapping.
    t.yes(attempt(24, 0, MYSELF, window.va()) == (0, GNTST_BAD_GNTREF));
    // Nothing granted; granted to another; a frame nobody has.
    t.yes(attempt(24, host, MYSELF, window.va()) == (0, GNTST_GENERAL_ERROR));
    grant(table, 24, GTF_PERMIT_ACCESS, 7, page.mfn());
    t.yes(attempt(24, host, MYSELF, window.va()) == (0, GNTST_GENERAL_ERROR));
    grant(table, 24, GTF_PERMIT_ACCESS, 0, 0xffff_ffff);
    t.yes(attempt(24, host, MYSELF, window.va()) == (0, GNTST_BAD_PAGE));
    t.eq(flags_of(table, 24), GTF_PERMIT_ACCESS);
    // A page table.
    grant(table, 24, GTF_PERMIT_ACCESS, 0, l4().mfn());
    t.yes(attempt(24, host, MYSELF, window.va()) == (0, GNTST_GENERAL_ERROR));
    // Addresses without a table, and the hypervisor's.
    grant(table, 24, GTF_PERMIT_ACCESS, 0, page.mfn());
    t.yes(attempt(24, host, MYSELF, 0x1000) == (0, GNTST_GENERAL_ERROR));
    t.yes(attempt(24, host, MYSELF, 0xffff_8280_0000_0000) == (0, GNTST_GENERAL_ERROR));
    t.eq(flags_of(table, 24), GTF_PERMIT_ACCESS);
    t.rc(
        i64::from(unmap(u32::MAX, window.va())),
        i64::from(GNTST_BAD_HANDLE),
    );
    t.rc(
        i64::from(unmap(4000, window.va())),
        i64::from(GNTST_BAD_HANDLE),
    );
    grant(table, 24, 0, 0, 0);
    for command in [13, 99] {
        t.rc(op(command, &mut 0u64), -ENOSYS);
    }
    for command in [0, 1, 2, 5, 6, 8, 10] {
        let rc = call(HYPERVISOR_GRANT_TABLE_OP, [command, 0x1000, 1, 0, 0]);
        t.rc(rc, -EFAULT);
    }
    let mut argument = 0u64;
    let pointer = address_of(&mut argument);
    t.rc(
        call(
            HYPERVISOR_GRANT_TABLE_OP,
            [0, pointer, u64::from(u32::MAX), 0, 0],
        ),
        -EINVAL,
    );
    t.rc(call(HYPERVISOR_GRANT_TABLE_OP, [0, pointer, 0, 0, 0]), 0);
}

/// A mapping that the guest has overwritten.
pub fn stolen_mapping(t: &mut Test) {
    let table = table(t);
    let (page, window) = (Page::take(), Page::take());
    grant(table, 25, GTF_PERMIT_ACCESS, 0, page.mfn());
    let mapped = map(25, GNTMAP_HOST_MAP, MYSELF, window.va());
    t.rc(i64::from(mapped.status), 0);
    t.rc(window.unprotect(), 0);
    t.rc(
        i64::from(unmap(mapped.handle, window.va())),
        i64::from(GNTST_GENERAL_ERROR),
    );
    t.rc(
        update_va_mapping(window.va(), page.machine() | DATA, UVMF_INVLPG),
        0,
    );
    t.rc(i64::from(unmap(mapped.handle, window.va())), 0);
    t.rc(window.unprotect(), 0);
    grant(table, 25, 0, 0, 0);
}

fn side(u: u64, offset: u16) -> GnttabCopyPtr {
    GnttabCopyPtr {
        u,
        domid: DOMID_SELF,
        offset,
        _pad: 0,
    }
}

fn copy(source: GnttabCopyPtr, dest: GnttabCopyPtr, len: u16, flags: u16) -> i16 {
    let mut argument = GnttabCopy {
        source,
        dest,
        len,
        flags,
        status: 99,
        _pad: 0,
    };
    let rc = op(GNTTABOP_COPY, &mut argument);
    if rc == 0 { argument.status } else { 77 }
}

pub fn copies(t: &mut Test) {
    let table = table(t);
    let (from, to) = (Page::take(), Page::take());
    from.write(1, 0x1122_3344_5566_7788);
    t.rc(
        i64::from(copy(side(from.mfn(), 8), side(to.mfn(), 16), 8, 0)),
        0,
    );
    t.eq(to.read(2), 0x1122_3344_5566_7788);
    grant(table, 26, GTF_PERMIT_ACCESS | GTF_READONLY, 0, from.mfn());
    let by_ref = |offset| side(26, offset);
    t.rc(
        i64::from(copy(by_ref(8), side(to.mfn(), 24), 8, GNTCOPY_SOURCE_GREF)),
        0,
    );
    t.eq(to.read(3), 0x1122_3344_5566_7788);
    t.eq(flags_of(table, 26), GTF_PERMIT_ACCESS | GTF_READONLY);
    // Read-only grants are no destination.
    let status = copy(side(to.mfn(), 0), by_ref(0), 8, GNTCOPY_DEST_GREF);
    t.rc(i64::from(status), i64::from(GNTST_GENERAL_ERROR));
    // Across a page's end.
    for (a, b, len) in [(4090, 0, 8), (0, 4090, 8), (0, 0, 4097), (0, 65535, 1)] {
        let status = copy(side(from.mfn(), a), side(to.mfn(), b), len, 0);
        t.rc(i64::from(status), i64::from(GNTST_BAD_COPY_ARG));
    }
    // Page tables may be read, not written.
    t.rc(
        i64::from(copy(side(l4().mfn(), 0), side(to.mfn(), 0), 8, 0)),
        0,
    );
    let status = copy(side(from.mfn(), 0), side(l4().mfn(), 0), 8, 0);
    t.rc(i64::from(status), i64::from(GNTST_GENERAL_ERROR));
    let status = copy(side(0xf_ffff_ffff, 0), side(to.mfn(), 0), 8, 0);
    t.rc(i64::from(status), i64::from(GNTST_BAD_PAGE));
    grant(table, 26, 0, 0, 0);
}
