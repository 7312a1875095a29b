//! The boot page tables, as a list of entries.
//!
//! A builder needs no walk of its own: it zeroes every table of [`Plan::tables`], then writes
//! every entry of [`Plan::entries`] with the machine frame that its PFN got.

use crate::plan::{Frames, Plan};
use crate::{PAGE_SHIFT, PAGE_SIZE};

/// Entries of a page table.
const ENTRIES: u64 = 512;

/// Lowest address bit that a table of `level` (1 to 4) translates.
pub(crate) const fn shift(level: u32) -> u32 {
    PAGE_SHIFT + 9 * (level - 1)
}

/// A page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its frame.
    pub pfn: u64,
    /// Its level, 1 to 4.
    pub level: u32,
}

/// An entry of a page table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Table it is in.
    pub table: Table,
    /// Index in that table, below 512.
    pub index: usize,
    /// Frame it points to.
    pub target: u64,
    /// Whether it permits writing; false for the mappings of page tables.
    pub writable: bool,
}

impl Entry {
    /// Bits of the entry besides the frame: present, user, accessed, dirty, and writable.
    ///
    /// Source: Intel SDM volume 3, 4.5.
    #[must_use]
    pub const fn flags(&self) -> u64 {
        const PRESENT: u64 = 1;
        const WRITABLE: u64 = 1 << 1;
        const USER: u64 = 1 << 2;
        const ACCESSED: u64 = 1 << 5;
        const DIRTY: u64 = 1 << 6;
        let flags = PRESENT | USER | ACCESSED | DIRTY;
        if self.writable {
            flags | WRITABLE
        } else {
            flags
        }
    }
}

/// A contiguous mapping and where its L3, L2 and L1 tables are (in this order, by address).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub va: u64,
    pub pages: u64,
    pub first_pfn: u64,
    pub tables: u64,
}

impl Region {
    /// Address of the last page.
    pub const fn last(&self) -> u64 {
        self.va + self.pages.saturating_sub(1) * PAGE_SIZE
    }

    /// Tables of `level` (1 to 3).
    const fn level_count(&self, level: u32) -> u64 {
        if self.pages == 0 {
            0
        } else {
            (self.last() >> shift(level + 1)) - (self.va >> shift(level + 1)) + 1
        }
    }

    /// Tables of levels 3, 2 and 1.
    pub const fn table_count(&self) -> u64 {
        self.level_count(3) + self.level_count(2) + self.level_count(1)
    }

    /// Frame of the first table of `level`.
    const fn first_table(&self, level: u32) -> u64 {
        let mut pfn = self.tables;
        let mut above = 3;
        while above > level {
            pfn += self.level_count(above);
            above -= 1;
        }
        pfn
    }

    /// Frame of the table of `level` that translates `va`.
    const fn table_of(&self, va: u64, level: u32) -> u64 {
        self.first_table(level) + (va >> shift(level + 1)) - (self.va >> shift(level + 1))
    }

    /// The tables, level 3 first.
    pub fn tables(self) -> impl Iterator<Item = Table> {
        [3, 2, 1].into_iter().flat_map(move |level| {
            let first = self.first_table(level);
            (first..first + self.level_count(level)).map(move |pfn| Table { pfn, level })
        })
    }

    /// Entries that tables of `level` have for this region.
    const fn entry_count(&self, level: u32) -> u64 {
        if level == 1 {
            self.pages
        } else {
            self.level_count(level - 1)
        }
    }

    /// Entry number `n` of those; `l4` is the root table.
    fn entry(&self, level: u32, n: u64, l4: u64, read_only: &Frames) -> Entry {
        let va = (self.va >> shift(level) << shift(level)) + (n << shift(level));
        let pfn = if level == 4 {
            l4
        } else {
            self.table_of(va, level)
        };
        let target = if level == 1 {
            self.first_pfn + n
        } else {
            self.first_table(level - 1) + n
        };
        Entry {
            table: Table { pfn, level },
            index: ((va >> shift(level)) % ENTRIES) as usize,
            target,
            writable: level > 1 || !read_only.contains(target),
        }
    }
}

/// Iterator over the entries of a plan's page tables; see [`Plan::entries`].
#[derive(Clone, Debug)]
pub struct Entries {
    regions: [Region; 2],
    page_tables: Frames,
    region: usize,
    level: u32,
    next: u64,
}

impl Entries {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            regions: [plan.boot_region(), plan.p2m_region()],
            page_tables: plan.page_tables.frames,
            region: 0,
            level: 4,
            next: 0,
        }
    }
}

impl Iterator for Entries {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            let region = self.regions.get(self.region)?;
            if self.next < region.entry_count(self.level) {
                let l4 = self.page_tables.first;
                let entry = region.entry(self.level, self.next, l4, &self.page_tables);
                self.next += 1;
                return Some(entry);
            }
            self.next = 0;
            if self.level > 1 {
                self.level -= 1;
            } else {
                self.level = 4;
                self.region += 1;
            }
        }
    }
}
