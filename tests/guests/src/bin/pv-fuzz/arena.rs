//! The memory that the fuzzer lets itself spoil, and the numbers it makes of it.

use crate::random::Random;
use test_guests::boot::start_info;
use test_guests::memory::{self, DATA, FRAME_MASK, POOL_PAGES, PRESENT, Page, p2m};

/// Pages of the arena.
const PAGES: usize = 48;

/// Bytes that an L1 table maps.
const REACH: u64 = 2 << 20;
/// L1 tables that map all pages there can be.
const L1_TABLES: usize = POOL_PAGES / 512 + 1;

/// The tables that map the arena, looked up before anything is spoiled.
#[derive(Clone, Copy)]
struct Tables {
    /// What the first one maps begins here.
    base: u64,
    l1: [Page; L1_TABLES],
    /// Of levels 2 to 4.
    upper: [Page; 3],
}

impl Tables {
    fn of(first: Page) -> Self {
        let base = first.va() & !(REACH - 1);
        let table = |va, level| memory::table_of(va, level).0;
        Self {
            base,
            l1: core::array::from_fn(|n| table(base + n as u64 * REACH, 1)),
            upper: [2, 3, 4].map(|level| table(base, level)),
        }
    }

    /// The table of `level` that translates a page, and the index in it.
    fn of_page(&self, page: Page, level: u32) -> (Page, usize) {
        let index = (page.va() >> (12 + 9 * (level - 1)) & 511) as usize;
        let table = match level {
            1 => self.l1[((page.va() - self.base) / REACH) as usize],
            _ => self.upper[level as usize - 2],
        };
        (table, index)
    }
}

/// Pages to spoil; the first ones hold arguments.
pub struct Arena {
    pages: [(Page, u64); PAGES],
    tables: Tables,
    argument: usize,
    spoiled: bool,
}

impl Arena {
    /// Takes the pages.
    pub fn new() -> Self {
        let pages = core::array::from_fn(|_| {
            let page = Page::take();
            (page, page.mfn())
        });
        Self {
            tables: Tables::of(pages[0].0),
            pages,
            argument: 0,
            spoiled: true,
        }
    }

    /// The same pages for another vCPU.
    pub fn twin(&self) -> Self {
        Self {
            spoiled: true,
            ..*self
        }
    }

    /// Notes that the calls to come may change where exceptions and events lead.
    pub fn spoil(&mut self) {
        self.spoiled = true;
    }

    /// Whether they may have, since this was asked last.
    pub fn take_spoiled(&mut self) -> bool {
        core::mem::take(&mut self.spoiled)
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

    /// Maps every page as it was at first; for one that is lost, for example as a page table, there is
    /// another. `false`: none is left.
    pub fn repair(&mut self) -> bool {
        self.pages.iter_mut().all(|place| {
            while memory_mapping(place.0.va(), place.1 << 12 | DATA) != 0 {
                let Some(page) = Page::try_take() else {
                    return false;
                };
                *place = (page, page.mfn());
            }
            true
        })
    }

    /// The table of `level` that maps a page of the arena, and the index in it.
    pub fn table_of(&self, page: Page, level: u32) -> (Page, usize) {
        self.tables.of_page(page, level)
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
                self.table_of(self.page(random), level).0.mfn()
            }
            4 | 5 => p2m(random.below(start_info().nr_pages)),
            6 => start_info().shared_info >> 12,
            _ => random.of(&self.pages).1,
        }
    }

    /// Machine address of a page-table entry, mostly one of the tables that map the arena.
    pub fn slot(&self, random: &mut Random) -> u64 {
        let level = match random.below(12_000) {
            // Rare: what maps the arena by another table maps this kernel too.
            0..90 => return self.frame(random) << 12 | random.below(4096),
            90 => 2 + random.below(3) as u32,
            _ => 1,
        };
        let (table, index) = self.table_of(self.page(random), level);
        table.machine() + index as u64 * 8
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
