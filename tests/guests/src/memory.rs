//! Pages for tests to spoil, and the tables that map them.

use crate::boot::{VIRT_BASE, start_info};
use crate::hypercall::update_va_mapping;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};
use pv_drivers::runtime::mmu;
use xen_abi::xen::UVMF_INVLPG;

pub use mmu::{
    ACCESSED, AVAILABLE, CACHE_DISABLE, DATA, DIRTY, FRAME_MASK, GLOBAL, LARGE, NO_EXECUTE,
    PRESENT, READ_ONLY, TABLE, USER, WRITABLE, WRITE_THROUGH, m2p, p2m, set_p2m,
};

/// Pages tests may take.
pub const POOL_PAGES: usize = 1024;

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
        Self::try_take().expect("a page is left")
    }

    /// The same, if one is left.
    pub fn try_take() -> Option<Self> {
        let index = TAKEN.fetch_add(1, Ordering::Relaxed);
        (index < POOL_PAGES).then(|| Self {
            va: POOL.0.get() as u64 + index as u64 * 4096,
        })
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
    let found = mmu::table_of(va, level);
    let Some((va, index)) = found else {
        panic!("no table of level {level} for {va:#x}");
    };
    (Page { va }, index)
}

/// Machine address and value of the entry of `level` that translates an address.
pub fn entry_of(va: u64, level: u32) -> (u64, u64) {
    let (table, index) = table_of(va, level);
    (table.machine() + index as u64 * 8, table.read(index))
}
