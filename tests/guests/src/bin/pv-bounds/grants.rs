//! Grants of this domain to itself.

use crate::calls::many;
use crate::row::row;
use test_guests::hypercall::{address_of, call, update_va_mapping};
use test_guests::memory::{DATA, Page};
use xen_abi::grant_table::*;
use xen_abi::xen::*;
use zerocopy::FromZeros;

/// Elements of a batch.
const MANY: usize = 512;
/// References of one frame of the table, less the reserved ones.
const FIRST: u64 = 8;

fn op<T>(command: u32, argument: &mut T, count: u64) -> i64 {
    call(
        HYPERVISOR_GRANT_TABLE_OP,
        [u64::from(command), address_of(argument), count, 0, 0],
    )
}

pub fn rows() {
    let mut frames = [0_u64; 64];
    let mut setup = GnttabSetupTable {
        dom: DOMID_SELF,
        _pad0: 0,
        nr_frames: 64,
        status: 99,
        _pad1: [0; 3],
        frame_list: address_of(&mut frames),
    };
    row("grant setup_table of 64", || {
        op(GNTTABOP_SETUP_TABLE, &mut setup, 1);
        setup.status == GNTST_OKAY
    });
    let table = Page::take();
    update_va_mapping(table.va(), frames[0] << 12 | DATA, UVMF_INVLPG);
    let granted = Page::take();
    for index in FIRST..512 {
        let flags = u64::from(GTF_PERMIT_ACCESS);
        table.write(index as usize, flags | granted.mfn() << 32);
    }
    map_and_unmap();
    copies(granted);
}

static WINDOW: Window = Window(core::cell::UnsafeCell::new([[0; 512]; MANY]));
#[repr(C, align(4096))]
struct Window(core::cell::UnsafeCell<[[u64; 512]; MANY]>);
// SAFETY: one vCPU; never read.
unsafe impl Sync for Window {}

static MAPS: Maps = Maps(core::cell::UnsafeCell::new(
    [GnttabMapGrantRef {
        host_addr: 0,
        flags: 0,
        r#ref: 0,
        dom: 0,
        status: 0,
        handle: 0,
        dev_bus_addr: 0,
    }; MANY],
));
struct Maps(core::cell::UnsafeCell<[GnttabMapGrantRef; MANY]>);
// SAFETY: one vCPU.
unsafe impl Sync for Maps {}

fn map_and_unmap() {
    // SAFETY: one vCPU; taken once.
    let maps = unsafe { &mut *MAPS.0.get() };
    let window = WINDOW.0.get() as u64;
    for (n, map) in maps.iter_mut().enumerate() {
        map.host_addr = window + n as u64 * 4096;
        map.flags = GNTMAP_HOST_MAP;
        map.r#ref = (FIRST + n as u64 % (512 - FIRST)) as u32;
        // dom0 itself.
        map.dom = 0;
    }
    row("grant map of 512", || {
        op(GNTTABOP_MAP_GRANT_REF, maps, MANY as u64);
        maps.iter().all(|map| map.status == GNTST_OKAY)
    });
    for n in 0..MANY as u64 {
        // So that a TLB may have it, and unmapping must flush.
        // SAFETY: just mapped.
        unsafe { ((window + n * 4096) as *const u64).read_volatile() };
    }
    let mut unmaps = [GnttabUnmapGrantRef::new_zeroed(); MANY];
    for (unmap, map) in unmaps.iter_mut().zip(maps.iter()) {
        unmap.host_addr = map.host_addr;
        unmap.handle = map.handle;
    }
    row("grant unmap of 512", || {
        op(GNTTABOP_UNMAP_GRANT_REF, &mut unmaps, MANY as u64);
        unmaps.iter().all(|unmap| unmap.status == GNTST_OKAY)
    });
    maps[..31].iter_mut().for_each(|map| map.status = 99);
    let args = [
        u64::from(GNTTABOP_MAP_GRANT_REF),
        address_of(maps),
        31,
        0,
        0,
        0,
    ];
    many(
        "multicall of grant map of 31",
        HYPERVISOR_GRANT_TABLE_OP,
        args,
    );
}

fn copies(granted: Page) {
    let to = Page::take();
    let copy = GnttabCopy {
        source: GnttabCopyPtr {
            // Not among those that stay mapped.
            u: 400,
            domid: DOMID_SELF,
            offset: 0,
            _pad: 0,
        },
        dest: GnttabCopyPtr {
            u: to.mfn(),
            domid: DOMID_SELF,
            offset: 0,
            _pad: 0,
        },
        len: 4096,
        flags: GNTCOPY_SOURCE_GREF,
        status: 99,
        _pad: 0,
    };
    let _ = granted;
    let mut copies = [copy; MANY];
    row("grant copy of 512 pages", || {
        op(GNTTABOP_COPY, &mut copies, MANY as u64);
        copies.iter().all(|copy| copy.status == GNTST_OKAY)
    });
    let args = [
        u64::from(GNTTABOP_COPY),
        address_of(&mut copies),
        31,
        0,
        0,
        0,
    ];
    many(
        "multicall of grant copy of 31 pages",
        HYPERVISOR_GRANT_TABLE_OP,
        args,
    );
}
