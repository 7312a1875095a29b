//! The memory that the fuzzer lets itself spoil, and the numbers it makes of it.

use crate::random::Random;
use test_guests::boot::start_info;
use test_guests::memory::{self, DATA, FRAME_MASK, PRESENT, Page, p2m};

/// Pages of the arena.
const PAGES: usize = 48;

/// Pages to spoil; the first ones hold arguments.
pub struct Arena {
    pages: [(Page, u64); PAGES],
    argument: usize,
}

impl Arena {
    /// Takes the pages.
    pub fn new() -> Self {
        Self {
            pages: core::array::from_fn(|_| {
                let page = Page::take();
                (page, page.mfn())
            }),
            argument: 0,
        }
    }

    /// A page for arguments, filled by the caller; a few take turns, so that nested ones differ.
    pub fn argument(&mut self) -> Page {
        self.argument = (self.argument + 1) % 8;
        self.pages[self.argument].0
    }

    /// Any page.
    pub fn page(&self, random: &mut Random) -> Page {
        random.of(&self.pages).0
    }

    /// Maps every page as it was at first. `false`: one is lost, for example as a page table.
    pub fn repair(&self) -> bool {
        self.pages.iter().all(|&(page, mfn)| {
            let entry = mfn << 12 | DATA;
            memory_mapping(page.va(), entry) == 0
        })
    }

    /// An address: mostly of the arena, now and then of the hypervisor or of nothing.
    pub fn address(&self, random: &mut Random) -> u64 {
        match random.below(24) {
            0 => 0xffff_8000_0000_0000 + random.below(1 << 43),
            1 => random.odd(),
            2 => self.page(random).va() + random.below(4096),
            3 => self.page(random).va() + 4096 - random.below(16),
            4 => 0,
            _ => self.page(random).va() + random.below(64) * 8,
        }
    }

    /// A frame number: of the arena, of the tables, of any page the guest has, of somebody else.
    pub fn frame(&self, random: &mut Random) -> u64 {
        match random.below(16) {
            0 => random.below(1 << 20),
            1 => random.odd(),
            2 => memory::l4().mfn(),
            3 => {
                let level = 1 + random.below(3) as u32;
                memory::table_of(self.page(random).va(), level).0.mfn()
            }
            4 | 5 => p2m(random.below(start_info().nr_pages)),
            6 => start_info().shared_info >> 12,
            _ => random.of(&self.pages).1,
        }
    }

    /// Machine address of a page-table entry, mostly one of the tables that map the arena.
    pub fn slot(&self, random: &mut Random) -> u64 {
        let page = self.page(random);
        match random.below(400) {
            0..33 => self.frame(random) << 12 | random.below(4096),
            // Rare: what maps the arena by a higher table maps this kernel too.
            33 => memory::entry_of(page.va(), 2 + random.below(3) as u32).0,
            _ => memory::entry_of(page.va(), 1).0,
        }
    }

    /// A page-table entry. One that is not present names no frame: Xen ends a guest that could
    /// look at others' memory by such an entry (L1TF), and a life would be short.
    pub fn entry(&self, random: &mut Random) -> u64 {
        let entry = self.any_entry(random);
        if entry & PRESENT == 0 {
            entry & 0xffe
        } else {
            entry
        }
    }

    fn any_entry(&self, random: &mut Random) -> u64 {
        let frame = self.frame(random) << 12 & FRAME_MASK;
        match random.below(8) {
            0 => random.odd(),
            1 => 0,
            2 => frame | random.word() & !FRAME_MASK,
            3 => frame | random.below(1 << 12),
            4 => frame | PRESENT | 4,
            _ => frame | DATA,
        }
    }
}

fn memory_mapping(va: u64, entry: u64) -> i64 {
    test_guests::hypercall::update_va_mapping(va, entry, xen_abi::xen::UVMF_INVLPG)
}
