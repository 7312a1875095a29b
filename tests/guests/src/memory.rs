//! Pages, frame numbers and page-table entries.

use crate::boot::{VIRT_BASE, start_info};
use crate::hypercall::update_va_mapping;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};
use xen_abi::arch_x86::MACH2PHYS_VIRT_START;
use xen_abi::xen::UVMF_INVLPG;

/// Present bit of a page-table entry.
pub const PRESENT: u64 = 1;
/// Writable bit.
pub const WRITABLE: u64 = 1 << 1;
/// User bit.
pub const USER: u64 = 1 << 2;
/// Write-through bit.
pub const WRITE_THROUGH: u64 = 1 << 3;
/// Cache-disable bit.
pub const CACHE_DISABLE: u64 = 1 << 4;
/// Accessed bit.
pub const ACCESSED: u64 = 1 << 5;
/// Dirty bit.
pub const DIRTY: u64 = 1 << 6;
/// Large page bit (levels 2 and 3), PAT bit (level 1).
pub const LARGE: u64 = 1 << 7;
/// Global bit.
pub const GLOBAL: u64 = 1 << 8;
/// First bit left to software.
pub const AVAILABLE: u64 = 1 << 9;
/// No-execute bit.
pub const NO_EXECUTE: u64 = 1 << 63;
/// What this kernel's tables have in their entries.
pub const TABLE: u64 = PRESENT | WRITABLE | USER | ACCESSED | DIRTY;
/// What this kernel's writable pages have in their entries.
pub const DATA: u64 = TABLE;
/// What read-only pages have in their entries.
pub const READ_ONLY: u64 = PRESENT | USER | ACCESSED;
/// The frame number's bits in an entry.
pub const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

/// Pages tests may take.
const POOL_PAGES: usize = 1024;

#[repr(C, align(4096))]
struct Pool(UnsafeCell<[[u64; 512]; POOL_PAGES]>);

// SAFETY: there is one vCPU, and the contents are reached by volatile accesses only.
unsafe impl Sync for Pool {}

static POOL: Pool = Pool(UnsafeCell::new([[0; 512]; POOL_PAGES]));
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// A page of the kernel's own memory, in the boot region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    va: u64,
}

impl Page {
    /// A zeroed page that nobody else uses.
    ///
    /// # Panics
    /// When the pool is empty.
    pub fn take() -> Self {
        let index = TAKEN.fetch_add(1, Ordering::Relaxed);
        assert!(index < POOL_PAGES);
        Self {
            va: POOL.0.get() as u64 + index as u64 * 4096,
        }
    }

    /// The page of a PFN of the boot region.
    pub fn of_pfn(pfn: u64) -> Self {
        Self {
            va: VIRT_BASE + (pfn << 12),
        }
    }

    /// The page of a machine frame of the boot region, by the machine-to-physical table.
    pub fn of_mfn(mfn: u64) -> Self {
        Self::of_pfn(m2p(mfn))
    }

    /// Its address.
    pub fn va(self) -> u64 {
        self.va
    }

    /// Its pseudo-physical frame.
    pub fn pfn(self) -> u64 {
        (self.va - VIRT_BASE) >> 12
    }

    /// Its machine frame, by the P2M list.
    pub fn mfn(self) -> u64 {
        p2m(self.pfn())
    }

    /// Machine address of its first byte.
    pub fn machine(self) -> u64 {
        self.mfn() << 12
    }

    /// The 64-bit word at an index below 512.
    pub fn read(self, index: usize) -> u64 {
        assert!(index < 512);
        // SAFETY: a page of the boot region is always mapped, at least read-only.
        unsafe { (self.va as *const u64).add(index).read_volatile() }
    }

    /// Writes a 64-bit word; faults if the page is mapped read-only.
    pub fn write(self, index: usize, value: u64) {
        assert!(index < 512);
        // SAFETY: as for `read`; a fault is an exception like any other.
        unsafe { (self.va as *mut u64).add(index).write_volatile(value) }
    }

    /// Copies bytes to the page's start.
    pub fn put(self, bytes: &[u8]) {
        assert!(bytes.len() <= 4096);
        for (i, &byte) in bytes.iter().enumerate() {
            // SAFETY: as for `write`.
            unsafe { (self.va as *mut u8).add(i).write_volatile(byte) }
        }
    }

    /// Maps it read-only; the hypercall's result.
    pub fn protect(self) -> i64 {
        update_va_mapping(self.va, self.machine() | READ_ONLY, UVMF_INVLPG)
    }

    /// Maps it writable; the hypercall's result.
    pub fn unprotect(self) -> i64 {
        update_va_mapping(self.va, self.machine() | DATA, UVMF_INVLPG)
    }
}

/// Machine frame of a pseudo-physical frame.
pub fn p2m(pfn: u64) -> u64 {
    assert!(pfn < start_info().nr_pages);
    // SAFETY: the loader put a list of `nr_pages` frames there.
    unsafe {
        (start_info().mfn_list as *const u64)
            .add(pfn as usize)
            .read_volatile()
    }
}

/// Records a new machine frame of a pseudo-physical frame.
pub fn set_p2m(pfn: u64, mfn: u64) {
    assert!(pfn < start_info().nr_pages);
    // SAFETY: as for `p2m`; the list is writable.
    unsafe {
        (start_info().mfn_list as *mut u64)
            .add(pfn as usize)
            .write_volatile(mfn);
    }
}

/// Pseudo-physical frame of a machine frame of RAM.
pub fn m2p(mfn: u64) -> u64 {
    // SAFETY: the hypervisor maps its table there, readable.
    unsafe {
        (MACH2PHYS_VIRT_START as *const u64)
            .add(mfn as usize)
            .read_volatile()
    }
}

/// The boot page tables' root.
pub fn l4() -> Page {
    Page {
        va: start_info().pt_base,
    }
}

/// The table of `level` (1 to 4) that translates an address, and the index in it.
///
/// # Panics
/// If there is no such table.
pub fn table_of(va: u64, level: u32) -> (Page, usize) {
    let index = |level: u32| (va >> (12 + 9 * (level - 1)) & 511) as usize;
    let mut table = l4();
    for above in (level + 1..=4).rev() {
        let entry = table.read(index(above));
        assert!(entry & PRESENT != 0);
        table = Page::of_mfn((entry & FRAME_MASK) >> 12);
    }
    (table, index(level))
}

/// Machine address and value of the entry of `level` that translates an address.
pub fn entry_of(va: u64, level: u32) -> (u64, u64) {
    let (table, index) = table_of(va, level);
    (table.machine() + index as u64 * 8, table.read(index))
}
