//! The guest's memory: frames behind the kernel, mapped as they are wanted.

use core::ptr::NonNull;

use spin::mutex::SpinMutex;

use super::boot::{first_rsp, start_info};
use super::mmu::{self, DATA, ENTRIES, PRESENT, TABLE, address, p2m};
use crate::hypercall::{RawPage, Share, SharedFrame};
use crate::ring::Page;

/// Frames that are used at most: those of the GiB at [`VIRT_BASE`](super::VIRT_BASE).
const MOST: u64 = 1 << 18;

/// Frames kept back for the tables of the next ones.
const RESERVE: u64 = 2;

/// No memory is behind this frame.
const INVALID: u64 = u64::MAX;

struct Pool {
    /// First frame that was never given out.
    next: u64,
    /// First frame that is not mapped.
    end: u64,
    /// Frames that came back: each holds the number of the following one.
    returned: Option<u64>,
}

static POOL: SpinMutex<Pool> = SpinMutex::new(Pool {
    next: 0,
    end: 0,
    returned: None,
});

/// Finds the frames behind what the loader put into memory.
pub(super) fn init() {
    let first = mmu::pfn(first_rsp());
    let mut end = first;
    // The loader maps half a MiB at least beyond its stack.
    while is_mapped(end) {
        end += 1;
    }
    *POOL.lock() = Pool {
        next: first,
        end,
        returned: None,
    };
}

fn is_mapped(pfn: u64) -> bool {
    pfn < last()
        && mmu::table_of(address(pfn), 1)
            .is_some_and(|(table, index)| mmu::entry(table, index) & PRESENT != 0)
}

/// First frame that the guest has not, or does not use.
fn last() -> u64 {
    start_info().nr_pages.min(MOST)
}

impl Pool {
    fn take(&mut self) -> Option<u64> {
        if let Some(pfn) = self.returned {
            let following = RawPage::at(address(pfn)).number();
            self.returned = (following != INVALID).then_some(following);
            return Some(pfn);
        }
        self.run(1)
    }

    /// Consecutive frames, none of which came back.
    fn run(&mut self, count: u64) -> Option<u64> {
        while self.end.saturating_sub(self.next) < count.checked_add(RESERVE)? {
            self.grow()?;
        }
        let first = self.next;
        self.next += count;
        Some(first)
    }

    /// Maps what one more L1 table maps, 2 MiB at most.
    fn grow(&mut self) -> Option<()> {
        let start = self.end;
        let end = ((start / ENTRIES as u64 + 1) * ENTRIES as u64).min(last());
        if start >= end || p2m(start) == INVALID {
            return None;
        }
        let (table, index) = mmu::table_of(address(start), 2)?;
        if mmu::entry(table, index) & PRESENT == 0 {
            let l1 = address(self.next);
            self.next += 1;
            fill(l1, start, end);
            // SAFETY: nobody else has the frame, and it is written no more.
            unsafe { mmu::protect(l1) }.ok()?;
            let slot = (mmu::mfn(table) << 12) + index as u64 * 8;
            // SAFETY: nothing was mapped there.
            unsafe { mmu::mmu_update(slot, mmu::mfn(l1) << 12 | TABLE) }.ok()?;
        } else {
            for pfn in start..end {
                // SAFETY: nothing was mapped there.
                unsafe { mmu::update_va_mapping(address(pfn), p2m(pfn) << 12 | DATA, 0) }.ok()?;
            }
        }
        self.end = end;
        Some(())
    }
}

/// Writes the entries of an L1 table that maps these frames.
fn fill(table: u64, start: u64, end: u64) {
    let page = RawPage::at(table);
    for pfn in start..start + ENTRIES as u64 {
        let mfn = if pfn < end { p2m(pfn) } else { INVALID };
        let entry = if mfn == INVALID { 0 } else { mfn << 12 | DATA };
        page.write((pfn - start) as usize * 8, &entry.to_ne_bytes());
    }
}

impl RawPage {
    /// A page of the kernel's memory that belongs to the caller.
    fn at(address: u64) -> Self {
        let start = NonNull::new(address as *mut u8).unwrap_or(NonNull::dangling());
        // SAFETY: callers own the page, which is mapped for good.
        unsafe { Self::new(start) }
    }

    /// The first double word.
    fn number(self) -> u64 {
        let mut bytes = [0; 8];
        self.read(0, &mut bytes);
        u64::from_ne_bytes(bytes)
    }
}

/// Address of so many consecutive pages, which nobody else uses and which never come back. Their
/// content is anything.
pub(super) fn run(pages: u64) -> Option<u64> {
    POOL.lock().run(pages).map(address)
}

/// How many pages were given out and how many are left.
#[must_use]
pub fn usage() -> (u64, u64) {
    let pool = POOL.lock();
    (pool.next, last().saturating_sub(pool.next))
}

/// A page of the guest's own memory, which it can share with others. It is reached as
/// [`RawPage`]s only.
#[derive(Debug)]
pub struct OwnPage {
    page: RawPage,
}

impl OwnPage {
    /// A page of zeros; none when memory is used up.
    #[must_use]
    pub fn new() -> Option<Self> {
        let pfn = POOL.lock().take()?;
        let page = RawPage::at(address(pfn));
        page.write(0, &[0; 4096]);
        Some(Self { page })
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.page.address()
    }

    /// Its machine frame.
    #[must_use]
    pub fn mfn(&self) -> u64 {
        mmu::mfn(self.address())
    }
}

impl Drop for OwnPage {
    fn drop(&mut self) {
        let mut pool = POOL.lock();
        let following = pool.returned.unwrap_or(INVALID);
        self.page.write(0, &following.to_ne_bytes());
        pool.returned = Some(mmu::pfn(self.page.address()));
    }
}

impl Page for OwnPage {
    fn read(&self, offset: usize, into: &mut [u8]) {
        self.page.read(offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.page.write(offset, from);
    }

    fn load(&self, offset: usize) -> u32 {
        self.page.load(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        self.page.store(offset, value);
    }
}

impl Share for OwnPage {
    fn frame(&self) -> SharedFrame {
        // SAFETY: the page is reached as `RawPage` only.
        unsafe { SharedFrame::new(self.mfn()) }
    }
}
