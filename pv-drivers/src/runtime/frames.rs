//! The guest's memory: frames behind the kernel, mapped as they are wanted. Those that never were
//! can be given back to the host.

use core::ops::Range;
use core::ptr::NonNull;

use spin::mutex::SpinMutex;
use xen_abi::memory::{XENMEM_DECREASE_RESERVATION, XENMEM_POPULATE_PHYSMAP, XenMemoryReservation};
use xen_abi::xen::{DOMID_SELF, HYPERVISOR_MEMORY_OP};

use super::boot::{first_rsp, start_info};
use super::mmu::{self, DATA, ENTRIES, PRESENT, TABLE, address, p2m};
use crate::balloon::{Balloon, STEP, Step};
use crate::hypercall::{Errno, RawPage, Share, SharedFrame, raw};
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
    /// Which frames there are.
    balloon: Balloon,
}

static POOL: SpinMutex<Pool> = SpinMutex::new(Pool {
    next: 0,
    end: 0,
    returned: None,
    balloon: Balloon::new(0),
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
        balloon: Balloon::new(start_info().nr_pages),
    };
}

fn is_mapped(pfn: u64) -> bool {
    pfn < start_info().nr_pages.min(MOST)
        && mmu::table_of(address(pfn), 1)
            .is_some_and(|(table, index)| mmu::entry(table, index) & PRESENT != 0)
}

impl Pool {
    /// First frame that the guest has not, or does not use.
    fn last(&self) -> u64 {
        self.balloon.have().min(MOST)
    }

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
        let end = ((start / ENTRIES as u64 + 1) * ENTRIES as u64).min(self.last());
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

    /// Goes a step towards the memory that the guest shall have. Whether there may be another.
    fn balloon_step(&mut self) -> bool {
        match self.balloon.step(self.end) {
            Some(Step::Give(range)) => {
                let gave = give(range);
                self.balloon.gave(gave);
                gave > 0
            }
            Some(Step::Take(range)) => {
                let took = take(range);
                self.balloon.took(took);
                took > 0
            }
            None => false,
        }
    }
}

/// A `XENMEM_*` on single frames; returns with how many of them it was done.
///
/// # Safety
/// As for [`raw`].
unsafe fn reservation(command: u32, frames: &mut [u64]) -> u64 {
    let mut reservation = XenMemoryReservation {
        extent_start: frames.as_mut_ptr() as u64,
        nr_extents: frames.len() as u64,
        extent_order: 0,
        mem_flags: 0,
        domid: DOMID_SELF,
        _pad: [0; 3],
    };
    let pointer = &raw mut reservation as u64;
    let arguments = [u64::from(command), pointer, 0, 0, 0];
    // SAFETY: reads the struct, and reads or writes the frames it names; the rest is the caller's
    // duty.
    let done = Errno::check(unsafe { raw(HYPERVISOR_MEMORY_OP, arguments) });
    done.unwrap_or(0).min(frames.len() as u64)
}

/// Gives frames back that are not mapped, the last first; returns how many.
fn give(range: Range<u64>) -> u64 {
    let mut frames = [0; STEP as usize];
    let mut count = 0;
    for (pfn, frame) in range.clone().rev().zip(&mut frames) {
        *frame = p2m(pfn);
        mmu::set_p2m(pfn, INVALID);
        count += 1;
    }
    let kept = frames;
    // SAFETY: the frames are behind all that was ever mapped.
    let gave = unsafe { reservation(XENMEM_DECREASE_RESERVATION, &mut frames[..count]) };
    for (pfn, frame) in range.rev().zip(&kept[..count]).skip(gave as usize) {
        mmu::set_p2m(pfn, *frame);
    }
    gave
}

/// Takes memory for frames that have none; returns for how many.
fn take(range: Range<u64>) -> u64 {
    let mut frames = [0; STEP as usize];
    let mut count = 0;
    for (pfn, frame) in range.clone().zip(&mut frames) {
        *frame = pfn;
        count += 1;
    }
    // SAFETY: new frames, mapped nowhere.
    let took = unsafe { reservation(XENMEM_POPULATE_PHYSMAP, &mut frames[..count]) };
    for (pfn, frame) in range.zip(&frames).take(took as usize) {
        mmu::set_p2m(pfn, *frame);
    }
    took
}

/// Has the guest have so much memory, in KiB, as [`balloon`](crate::balloon) can; none: as much as
/// was wished last, of which the host may have refused some. Returns how much it then has, in KiB.
pub(super) fn resize(kib: Option<u64>) -> u64 {
    let mut pool = POOL.lock();
    if let Some(kib) = kib {
        pool.balloon.aim(kib);
    }
    while pool.balloon_step() {}
    pool.balloon.have() * 4
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
    (pool.next, pool.last().saturating_sub(pool.next))
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
