//! Memory reservation and maps.

use crate::test::Test;
use test_guests::boot::start_info;
use test_guests::hypercall::{address_of, call, mmu_update, update_va_mapping};
use test_guests::memory::*;
use xen_abi::arch_x86::{MACH2PHYS_VIRT_END, MACH2PHYS_VIRT_START};
use xen_abi::errno::*;
use xen_abi::memory::*;
use xen_abi::xen::*;

fn op<T>(command: u32, argument: &mut T) -> i64 {
    call(
        HYPERVISOR_MEMORY_OP,
        [u64::from(command), address_of(argument), 0, 0, 0],
    )
}

fn reservation(list: u64, nr_extents: u64) -> XenMemoryReservation {
    XenMemoryReservation {
        extent_start: list,
        nr_extents,
        extent_order: 0,
        mem_flags: 0,
        domid: DOMID_SELF,
        _pad: [0; 3],
    }
}

pub fn facts(t: &mut Test) {
    let mut mapping = XenMachphysMapping {
        v_start: 0,
        v_end: 0,
        max_mfn: 0,
    };
    t.rc(op(XENMEM_MACHPHYS_MAPPING, &mut mapping), 0);
    t.eq(mapping.v_start, MACH2PHYS_VIRT_START);
    t.eq(mapping.v_end, MACH2PHYS_VIRT_END);
    let max = call(
        HYPERVISOR_MEMORY_OP,
        [u64::from(XENMEM_MAXIMUM_RAM_PAGE), 0, 0, 0, 0],
    );
    t.yes(max > 0x1_0000);
    let mut domain = XenMemoryDomain { domid: DOMID_SELF };
    t.rc(
        op(XENMEM_CURRENT_RESERVATION, &mut domain),
        start_info().nr_pages as i64,
    );
    t.yes(op(XENMEM_MAXIMUM_RESERVATION, &mut domain) >= start_info().nr_pages as i64);
    for domid in [5, DOMID_INVALID] {
        t.rc(
            op(XENMEM_CURRENT_RESERVATION, &mut XenMemoryDomain { domid }),
            -ESRCH,
        );
    }
    for command in [29, 63] {
        t.rc(op(command, &mut 0u64), -ENOSYS);
    }
    t.rc(call(HYPERVISOR_MEMORY_OP, [12, 0x1000, 0, 0, 0]), -EFAULT);
}

pub fn maps(t: &mut Test) {
    let mut entries = [E820Entry::new(0, 0, 0); 64];
    let mut map = XenMemoryMap {
        nr_entries: 64,
        _pad: 0,
        buffer: address_of(&mut entries),
    };
    t.rc(op(XENMEM_MACHINE_MEMORY_MAP, &mut map), 0);
    t.yes(map.nr_entries >= 3);
    let ram: u64 = entries
        .iter()
        .filter(|e| e.r#type == E820_RAM)
        .map(E820Entry::size)
        .sum();
    t.yes(ram > 400 << 20);
    // The local APIC's page is reserved.
    t.yes(entries.iter().any(|e| {
        e.r#type == E820_RESERVED && e.addr() <= 0xfee0_0000 && 0xfee0_1000 <= e.addr() + e.size()
    }));
    let all = map.nr_entries;
    // All or nothing.
    map.nr_entries = 1;
    t.rc(op(XENMEM_MACHINE_MEMORY_MAP, &mut map), -EINVAL);
    map.nr_entries = all;
    map.buffer = 0x1000;
    t.rc(op(XENMEM_MACHINE_MEMORY_MAP, &mut map), -EFAULT);
    t.rc(op(XENMEM_MEMORY_MAP, &mut map), -ENOSYS);
}

/// Gives a page back and takes another in its place.
pub fn balloon(t: &mut Test) {
    let page = Page::take();
    let (pfn, old) = (page.pfn(), page.mfn());
    let mut list = [old];
    let pointer = address_of(&mut list);
    // Mapped still: it is not freed, but given up.
    t.rc(update_va_mapping(page.va(), 0, UVMF_INVLPG), 0);
    t.rc(
        op(XENMEM_DECREASE_RESERVATION, &mut reservation(pointer, 1)),
        1,
    );
    let mut domain = XenMemoryDomain { domid: DOMID_SELF };
    t.rc(
        op(XENMEM_CURRENT_RESERVATION, &mut domain),
        start_info().nr_pages as i64 - 1,
    );
    // Not ours any more.
    t.rc(
        op(XENMEM_DECREASE_RESERVATION, &mut reservation(pointer, 1)),
        0,
    );
    t.yes(update_va_mapping(page.va(), old << 12 | DATA, UVMF_INVLPG) < 0);
    let mut list = [pfn];
    let pointer = address_of(&mut list);
    t.rc(op(XENMEM_POPULATE_PHYSMAP, &mut reservation(pointer, 1)), 1);
    set_p2m(pfn, list[0]);
    t.eq(m2p(list[0]), pfn);
    t.rc(page.unprotect(), 0);
    // Fresh pages are clean.
    t.yes((0..512).all(|i| page.read(i) == 0));
    t.rc(
        op(XENMEM_CURRENT_RESERVATION, &mut domain),
        start_info().nr_pages as i64,
    );
}

/// Failures are reported as extents done.
pub fn bad_reservations(t: &mut Test) {
    for command in [
        XENMEM_INCREASE_RESERVATION,
        XENMEM_DECREASE_RESERVATION,
        XENMEM_POPULATE_PHYSMAP,
    ] {
        let mut list = [u64::MAX; 2];
        let pointer = address_of(&mut list);
        t.rc(
            call(HYPERVISOR_MEMORY_OP, [u64::from(command), 0x1000, 0, 0, 0]),
            0,
        );
        // Too many extents, no room for the list, no domain.
        let mut bad = reservation(pointer, u64::MAX);
        t.rc(op(command, &mut bad), 0);
        let mut bad = reservation(pointer, 1);
        bad.domid = 5;
        t.rc(op(command, &mut bad), 0);
        let mut bad = reservation(pointer, 0);
        t.rc(op(command, &mut bad), 0);
        let mut bad = reservation(pointer, 1);
        bad.extent_order = 64;
        t.rc(op(command, &mut bad), 0);
    }
    let mut list = [0xf_ffff_ffffu64];
    let pointer = address_of(&mut list);
    t.rc(
        op(XENMEM_DECREASE_RESERVATION, &mut reservation(pointer, 1)),
        0,
    );
    t.rc(
        op(XENMEM_DECREASE_RESERVATION, &mut reservation(0x1000, 1)),
        0,
    );
    t.rc(op(XENMEM_POPULATE_PHYSMAP, &mut reservation(0x1000, 1)), 0);
}

fn exchange(give: XenMemoryReservation, take: XenMemoryReservation) -> (i64, u64) {
    let mut argument = XenMemoryExchange {
        r#in: give,
        out: take,
        nr_exchanged: 0,
    };
    let rc = op(XENMEM_EXCHANGE, &mut argument);
    (rc, argument.nr_exchanged)
}

/// Two pages for two contiguous ones.
pub fn exchange_pages(t: &mut Test) {
    let pages = [Page::take(), Page::take()];
    let mut give = [pages[0].mfn(), pages[1].mfn()];
    for page in pages {
        t.rc(update_va_mapping(page.va(), 0, UVMF_INVLPG), 0);
    }
    let mut take = [pages[0].pfn()];
    let mut out = reservation(address_of(&mut take), 1);
    out.extent_order = 1;
    let result = exchange(reservation(address_of(&mut give), 2), out);
    t.yes(result == (0, 2));
    t.eq(take[0] % 2, 0);
    for (i, page) in (0..).zip(pages) {
        set_p2m(page.pfn(), take[0] + i);
        t.eq(m2p(page.mfn()), page.pfn());
        t.rc(page.unprotect(), 0);
    }
    // Pages that are mapped are not exchanged.
    let page = Page::take();
    let mut give = [page.mfn()];
    let mut take = [page.pfn()];
    let (rc, done) = exchange(
        reservation(address_of(&mut give), 1),
        reservation(address_of(&mut take), 1),
    );
    t.rc(rc, -EINVAL);
    t.eq(done, 0);
    t.eq(take[0], page.pfn());
}

/// As XSA-212: lists in the hypervisor's memory.
pub fn exchange_addresses(t: &mut Test) {
    let page = Page::take();
    let mut list = [page.mfn()];
    let good = address_of(&mut list);
    for bad in [
        0xffff_8280_0000_0000,
        0xffff_82d0_4020_0000,
        0xffff_8300_0000_0000,
    ] {
        t.rc(
            exchange(reservation(good, 1), reservation(bad, 1)).0,
            -EFAULT,
        );
        t.rc(
            exchange(reservation(bad, 1), reservation(good, 1)).0,
            -EFAULT,
        );
        // An offset that wraps into the guest's memory or the hypervisor's.
        let mut argument = XenMemoryExchange {
            r#in: reservation(good, 2),
            out: reservation(bad.wrapping_sub(8), 2),
            nr_exchanged: 1,
        };
        t.yes(op(XENMEM_EXCHANGE, &mut argument) < 0);
        let mut argument = XenMemoryExchange {
            r#in: reservation(good, u64::MAX >> 3),
            out: reservation(good, u64::MAX >> 3),
            nr_exchanged: (bad.wrapping_sub(good)) / 8,
        };
        t.yes(op(XENMEM_EXCHANGE, &mut argument) < 0);
    }
    t.eq(list[0], page.mfn());
}

pub fn exchange_arguments(t: &mut Test) {
    let page = Page::take();
    let mut list = [page.mfn()];
    let good = address_of(&mut list);
    // Sizes that differ.
    t.rc(
        exchange(reservation(good, 1), reservation(good, 2)).0,
        -EINVAL,
    );
    let mut large = reservation(good, 1);
    large.extent_order = 1;
    t.rc(exchange(reservation(good, 1), large).0, -EINVAL);
    large.extent_order = 64;
    t.rc(exchange(large, large).0, -EPERM);
    // Domains that differ.
    let mut other = reservation(good, 1);
    other.domid = 5;
    t.rc(exchange(reservation(good, 1), other).0, -EINVAL);
    t.rc(exchange(other, other).0, -ESRCH);
    t.rc(
        call(
            HYPERVISOR_MEMORY_OP,
            [u64::from(XENMEM_EXCHANGE), 0x1000, 0, 0, 0],
        ),
        -EFAULT,
    );
}

/// Start extents that a caller forges into the command.
pub fn forged_continuation(t: &mut Test) {
    let mut list = [0u64; 2];
    let pointer = address_of(&mut list);
    for command in [
        XENMEM_INCREASE_RESERVATION,
        XENMEM_POPULATE_PHYSMAP,
        XENMEM_DECREASE_RESERVATION,
    ] {
        let forged = u64::from(command) | 5 << 6;
        let mut argument = reservation(pointer, 2);
        t.rc(
            call(
                HYPERVISOR_MEMORY_OP,
                [forged, address_of(&mut argument), 0, 0, 0],
            ),
            5,
        );
    }
}

/// The list of the machine-to-physical table's frames.
pub fn m2p_frames(t: &mut Test) {
    let mut list = [0u64; 4];
    let mut argument = XenMachphysMfnList {
        max_extents: 4,
        _pad0: 0,
        extent_start: address_of(&mut list),
        nr_extents: 0,
        _pad1: 0,
    };
    t.rc(op(XENMEM_MACHPHYS_MFN_LIST, &mut argument), 0);
    t.yes(argument.nr_extents >= 1);
    // They may be mapped with DOMID_XEN, read-only.
    let page = Page::take();
    let slot = entry_of(page.va(), 1).0;
    let map = |flags: u64| {
        test_guests::hypercall::mmu_update_for(slot, list[0] << 12 | flags, u64::from(DOMID_XEN))
    };
    t.rc(map(DATA), -EBUSY);
    t.rc(map(READ_ONLY), 0);
    t.rc(mmu_update(slot, page.machine() | DATA), 0);
}
