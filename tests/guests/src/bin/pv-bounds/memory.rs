//! Memory taken and given back.

use crate::calls::many_with;
use crate::row::{answers, row};
use test_guests::hypercall::{address_of, call};
use xen_abi::domctl::{XEN_DOMCTL_MAX_MEM, XenDomctlMaxMem};
use xen_abi::errno::ENOSYS;
use xen_abi::memory::*;
use xen_abi::xen::*;

/// Extents of a list.
const MANY: usize = 1024;
static LIST: List = List(core::cell::UnsafeCell::new([0; MANY]));
#[repr(C, align(4096))]
struct List(core::cell::UnsafeCell<[u64; MANY]>);
// SAFETY: one vCPU.
unsafe impl Sync for List {}

/// A list of frame numbers.
fn list() -> &'static mut [u64; MANY] {
    // SAFETY: one vCPU, and each caller is done with it before the next.
    unsafe { &mut *LIST.0.get() }
}

/// PFNs that nobody uses.
const SPARE: u64 = 1 << 20;

pub fn reservation(list: &mut [u64], count: u64, order: u32, domid: u16) -> XenMemoryReservation {
    XenMemoryReservation {
        extent_start: list.as_mut_ptr() as u64,
        nr_extents: count,
        extent_order: order,
        mem_flags: 0,
        domid,
        _pad: [0; 3],
    }
}

pub fn memory_op<T>(command: u32, argument: &mut T) -> i64 {
    call(
        HYPERVISOR_MEMORY_OP,
        [u64::from(command), address_of(argument), 0, 0, 0],
    )
}

fn taken_and_given(order: u32, count: u64, names: [&str; 2]) {
    for (n, pfn) in list().iter_mut().enumerate() {
        *pfn = SPARE + ((n as u64) << order);
    }
    let mut op = reservation(list(), count, order, DOMID_SELF);
    answers(names[0], count as i64, || {
        memory_op(XENMEM_POPULATE_PHYSMAP, &mut op)
    });
    answers(names[1], count as i64, || {
        memory_op(XENMEM_DECREASE_RESERVATION, &mut op)
    });
}

pub fn rows() {
    // As much as the machine has.
    let mut most = XenDomctlMaxMem { max_memkb: 1 << 20 };
    crate::domains::domctl(XEN_DOMCTL_MAX_MEM, &mut 0, &mut most);
    taken_and_given(
        0,
        1024,
        [
            "populate_physmap of 1024 pages",
            "decrease_reservation of 1024 pages",
        ],
    );
    taken_and_given(
        9,
        8,
        [
            "populate_physmap of order 9",
            "decrease_reservation of order 9",
        ],
    );
    taken_and_given(
        12,
        2,
        [
            "populate_physmap of order 12 (dom0)",
            "decrease_reservation of order 12 (dom0)",
        ],
    );
    exchange();
    let mut entries = [0_u64; 512];
    let mut map = XenMemoryMap {
        nr_entries: 128,
        _pad: 0,
        buffer: address_of(&mut entries),
    };
    // dom0 has none of its own.
    answers("memory_map", -ENOSYS, || {
        memory_op(XENMEM_MEMORY_MAP, &mut map)
    });
    map.nr_entries = 128;
    row("machine_memory_map", || {
        memory_op(XENMEM_MACHINE_MEMORY_MAP, &mut map) == 0
    });
    let mut parts = XenMachphysMfnList {
        max_extents: MANY as u32,
        _pad0: 0,
        extent_start: list().as_mut_ptr() as u64,
        nr_extents: 0,
        _pad1: 0,
    };
    row("machphys_mfn_list", || {
        memory_op(XENMEM_MACHPHYS_MFN_LIST, &mut parts) == 0
    });
    let mut domid = XenMemoryDomain { domid: DOMID_SELF };
    many_with(
        "multicall of current_reservation",
        HYPERVISOR_MEMORY_OP,
        XENMEM_CURRENT_RESERVATION,
        &mut domid,
    );
}

/// Pages given for a large extent, and the large extent for pages.
fn exchange() {
    let order = 9;
    let pages = 1 << order;
    for (n, pfn) in list().iter_mut().enumerate() {
        *pfn = SPARE + n as u64;
    }
    let mut take = reservation(list(), pages, 0, DOMID_SELF);
    memory_op(XENMEM_POPULATE_PHYSMAP, &mut take);
    let mut large = [SPARE + 4096];
    let mut op = XenMemoryExchange {
        r#in: reservation(list(), pages, 0, DOMID_SELF),
        out: reservation(&mut large, 1, order, DOMID_SELF),
        nr_exchanged: 0,
    };
    answers("exchange of 512 pages for order 9", 0, || {
        memory_op(XENMEM_EXCHANGE, &mut op)
    });
    for (n, pfn) in list().iter_mut().enumerate() {
        *pfn = SPARE + n as u64;
    }
    let mut op = XenMemoryExchange {
        r#in: reservation(&mut large, 1, order, DOMID_SELF),
        out: reservation(list(), pages, 0, DOMID_SELF),
        nr_exchanged: 0,
    };
    answers("exchange of order 9 for 512 pages", 0, || {
        memory_op(XENMEM_EXCHANGE, &mut op)
    });
    memory_op(
        XENMEM_DECREASE_RESERVATION,
        &mut reservation(list(), pages, 0, DOMID_SELF),
    );
}
