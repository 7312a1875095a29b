//! Nonsense in page tables: by instruction, by hypercall, pinned and unpinned.

use crate::arena::Arena;
use crate::kernel::Step;
use crate::random::Random;
use test_guests::hypercall::{mmu_update, mmuext_op};
use test_guests::memory::Page;
use xen_abi::xen::{MMUEXT_PIN_L1_TABLE, MMUEXT_UNPIN_TABLE};

/// Does one harmful thing.
pub fn step(arena: &mut Arena, random: &mut Random) -> Step {
    let page = arena.page(random);
    let result = match random.below(8) {
        // Content for a table to be.
        0..3 => {
            page.write(random.below(512) as usize, arena.entry(random));
            0
        }
        // As a table of any level.
        3 => {
            page.protect();
            let level = random.below(4) as u32;
            mmuext_op(MMUEXT_PIN_L1_TABLE + level, page.mfn(), 0)
        }
        4 => mmuext_op(MMUEXT_UNPIN_TABLE, arena.frame(random), 0),
        // A store into a table in use, which the hypervisor emulates or refuses.
        5 => {
            let level = if random.once_in(400) { 2 } else { 1 };
            let (table, index) = arena.table_of(page, level);
            Page::write(table, index, arena.entry(random));
            0
        }
        6 => mmu_update(arena.slot(random), arena.entry(random)),
        _ => page.unprotect(),
    };
    if result < 0 {
        Step::Refused
    } else {
        Step::Accepted
    }
}
