//! Page-table isolation: on CPUs that let user mode read what supervisor mappings
//! show (Meltdown), guests run on tables that hold of the hypervisor only what entry
//! code needs before it loads the hypervisor's own root.
//!
//! That is: the read-only machine-to-physical table, each CPU's entry area without
//! its stack, and the pages of entry code. No guest's memory, no heap, no frame table.
//! The price is two loads of CR3 an entry, and nothing else: guests' L4 tables hold
//! these slots for good, so no copy of them is kept.
#![allow(
    unsafe_code,
    reason = "names the pages of entry code; sets the entry data"
)]

use super::{cpu_area, cpus, entry, guard, local};
use crate::addr::{CpuId, GuestVa, Mfn};
use crate::arch::FrameMem;
use crate::mm::host_map::{self, DirectMap, Prot};
use crate::mm::{layout, pte};
use core::sync::atomic::{AtomicBool, Ordering};

static ON: AtomicBool = AtomicBool::new(false);

/// Whether guests are isolated.
#[must_use]
pub fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Bits of an entry that leads to a lower table.
const TABLE: u64 = pte::P | pte::RW | pte::A;

/// Turns isolation on and returns what guests' L4 tables are to hold in the
/// hypervisor's slots. Every CPU's area has been built. `frame` supplies zeroed frames
/// for tables.
pub fn enable(mut frame: impl FnMut() -> Mfn) -> [u64; layout::SLOTS] {
    let host = host_map::template();
    let mut slots = [0; layout::SLOTS];
    slots[0] = host[0];
    let areas = frame();
    for cpu in (0..cpus::count() as u16).map(CpuId) {
        show_area(areas, cpu, &mut frame);
    }
    slots[slot_of(cpu_area::ENTRY_AREAS)] = areas.addr().raw() | TABLE;
    let image = frame();
    let code = &raw const entry::oxen_entry_start as u64..&raw const entry::oxen_entry_end as u64;
    for va in code.step_by(4096).chain(guard::code().step_by(4096)) {
        let l1 = host_map::l1_table(va).expect("the image is mapped by 4 KiB pages");
        let page = pte::frame(DirectMap.words(l1)[GuestVa(va).index(1)].load(Ordering::Relaxed));
        let table = lower(image, va, 1, &mut frame);
        DirectMap.words(table)[GuestVa(va).index(1)]
            .store(Prot::RX.entry(page, 1), Ordering::Relaxed);
    }
    slots[slot_of(layout::IMAGE_BASE)] = image.addr().raw() | TABLE;
    ON.store(true, Ordering::Relaxed);
    slots
}

/// Index of an address's L4 slot among the hypervisor's.
const fn slot_of(va: u64) -> usize {
    GuestVa(va).index(4) - layout::FIRST_SLOT
}

/// Shows the first 2 MiB of a CPU's area below the L3 table `areas`.
fn show_area(areas: Mfn, cpu: CpuId, frame: &mut impl FnMut() -> Mfn) {
    let va = cpu_area::page_va(cpu, 0);
    let Some(l1) = host_map::l1_table(va) else {
        return;
    };
    let l2 = lower(areas, va, 2, frame);
    DirectMap.words(l2)[GuestVa(va).index(2)].store(l1.addr().raw() | TABLE, Ordering::Relaxed);
}

/// The table of `level` below the L3 table `top` on the way to `va`.
fn lower(top: Mfn, va: u64, level: u32, frame: &mut impl FnMut() -> Mfn) -> Mfn {
    let mut table = top;
    for above in (level + 1..=3).rev() {
        let slot = &DirectMap.words(table)[GuestVa(va).index(above)];
        if slot.load(Ordering::Relaxed) == 0 {
            slot.store(frame().addr().raw() | TABLE, Ordering::Relaxed);
        }
        table = pte::frame(slot.load(Ordering::Relaxed));
    }
    table
}

/// Makes this CPU's entry code load the hypervisor's root. Before its first guest.
pub fn arm() {
    if is_on() {
        // SAFETY: this CPU's own data; entry code reads it from the next entry on.
        unsafe { (*local::data()).host_cr3 = host_map::root().addr().raw() };
    }
}
