//! The hypervisor's own mappings: final page tables, direct map, device registers.
//!
//! One tree, "the host root", serves boot and idle CPUs; its L4 entries 256 to 271
//! ([`template`]) are planted into every guest root and never change after
//! [`init`], because the tables below slots 256 to 263 exist from then on. So a
//! mapping made here is seen under every root at once.
//!
//! Does not know guests. Lock: [`Level::Heap`], held over table allocation.
//! Removing a mapping flushes this CPU only: flushing others is the caller's.
#![allow(unsafe_code, reason = "this is the hypervisor's address space")]

mod firmware;
pub mod tables;

pub use firmware::firmware_root;
pub use tables::{Cache, MapError, Prot};

use super::early;
use super::layout::{self, DIRECT_MAP_SIZE, DIRECT_MAP_START};
use super::memory_map::MemoryMap;
use super::ranges::RangeSet;
use crate::addr::{GuestVa, MachAddr, Mfn, PAGE_SIZE};
use crate::arch::{FrameMem, machine};
use crate::sync::{Level, Lock, Once};
use core::ops::Range;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tables::Tables;

/// Slots whose L3 tables exist from the start; those of the direct map exist where
/// there is memory.
const TABLE_SLOTS: Range<usize> = 256..264;

/// The part of low memory that is a window on the VGA card. Source: IBM PC/AT.
const VGA: Range<u64> = 0xa_0000..0xc_0000;
/// The rest of the first MiB: firmware and option ROMs.
const ROM: Range<u64> = 0xc_0000..0x10_0000;

static STATE: Lock<State> = Lock::new(
    Level::Heap,
    State {
        next_device: layout::VMAP_START,
    },
);
static HOST: Once<Host> = Once::new();
static TABLE_SOURCE: Once<fn() -> Option<Mfn>> = Once::new();

/// What changes.
struct State {
    /// Next free address of the room for device mappings.
    next_device: u64,
}

/// What [`init`] settles.
struct Host {
    root: Mfn,
    max_level: u32,
    template: [u64; layout::SLOTS],
    /// Machine addresses in the direct map.
    direct: RangeSet,
}

/// Sees memory through the direct map.
#[derive(Clone, Copy, Debug)]
pub struct DirectMap;

/// The direct map of tests: memory of the host's process.
#[cfg(test)]
pub(super) mod fake {
    use std::sync::OnceLock;

    static START: OnceLock<u64> = OnceLock::new();

    /// Where it begins.
    ///
    /// # Panics
    /// Before [`make`].
    pub fn start() -> u64 {
        *START
            .get()
            .expect("a test that uses the host's memory makes it first")
    }

    /// Makes `frames` of it, from frame 0 on, zeroed. The first call counts.
    pub fn make(frames: usize) {
        #[derive(Clone)]
        #[repr(C, align(4096))]
        struct Page([u8; 4096]);
        START.get_or_init(|| {
            let pages = std::vec![Page([0; 4096]); frames];
            std::vec::Vec::leak(pages).as_mut_ptr().expose_provenance() as u64
        });
    }
}

impl FrameMem for DirectMap {
    #[inline]
    fn words(&self, mfn: Mfn) -> &[AtomicU64; 512] {
        // SAFETY: the trait's caller vouches that the frame is RAM, so the direct map
        // shows it, and any bits are a valid word. Everybody uses atomics or raw
        // copies on memory that guests share.
        unsafe { &*self.bytes(mfn).cast() }
    }

    #[inline]
    fn bytes(&self, mfn: Mfn) -> *mut u8 {
        debug_assert!(mfn.raw() < DIRECT_MAP_SIZE / PAGE_SIZE);
        #[cfg(test)]
        let start = fake::start();
        #[cfg(not(test))]
        let start = DIRECT_MAP_START;
        (start + mfn.addr().raw()) as *mut u8
    }

    fn flush_cache(&self, mfn: Mfn) {
        machine::flush_cache(self.words(mfn));
    }

    #[inline]
    fn kept(&self, root: Mfn, va: GuestVa, write: bool) -> Option<*mut u8> {
        machine::stack_cache().translations.find(root, va, write)
    }

    #[inline]
    fn keep(&self, root: Mfn, va: GuestVa, writable: bool, page: *mut u8) {
        machine::stack_cache()
            .translations
            .keep(root, va, writable, page);
    }

    #[cfg(target_os = "none")]
    #[inline]
    fn gather(&self, mfn: Mfn, group: usize) -> u64 {
        assert!(group < 32);
        let first = self.bytes(mfn).wrapping_add(group * 128);
        let all: u64;
        // The compiler does not join an atomic load with what uses it, so in Rust this
        // would be twice as long; and tables are scanned a lot.
        // SAFETY: reads 16 words inside the frame, each by one aligned load.
        unsafe {
            core::arch::asm!(
                "mov {all}, [{p}]",
                "or {all}, [{p} + 8]",
                "or {all}, [{p} + 16]",
                "or {all}, [{p} + 24]",
                "or {all}, [{p} + 32]",
                "or {all}, [{p} + 40]",
                "or {all}, [{p} + 48]",
                "or {all}, [{p} + 56]",
                "or {all}, [{p} + 64]",
                "or {all}, [{p} + 72]",
                "or {all}, [{p} + 80]",
                "or {all}, [{p} + 88]",
                "or {all}, [{p} + 96]",
                "or {all}, [{p} + 104]",
                "or {all}, [{p} + 112]",
                "or {all}, [{p} + 120]",
                p = in(reg) first,
                all = out(reg) all,
                options(pure, readonly, nostack)
            );
        }
        all
    }
}

/// Where the image lies, for [`init`].
#[derive(Clone, Debug)]
pub struct ImageLayout {
    /// Machine address of the first byte.
    pub machine: u64,
    /// Virtual range of constants.
    pub ro: Range<u64>,
    /// Virtual range of code.
    pub text: Range<u64>,
    /// Virtual range of data.
    pub data: Range<u64>,
}

/// Builds the final tables and switches this CPU onto them.
///
/// [`early::init`] has run. Frames for tables come from there, lowest first, because
/// the first tables show only the low 4 GiB.
///
/// # Safety
/// Called once, at boot, on the first tables of `boot`; `map` and `image` are true.
///
/// # Panics
/// If there is no memory for the tables.
pub unsafe fn init(map: &MemoryMap, image: &ImageLayout) {
    machine::init_paging();
    let max_level = if machine::has_1g_pages() { 3 } else { 2 };
    let root = table_frame().expect("memory for the first page table");
    for word in DirectMap.words(root) {
        word.store(0, Relaxed);
    }
    let tables = Tables::new(&DirectMap, root, max_level);
    prepare_slots(root);
    map_image(&tables, image).expect("memory for the image's page tables");
    let direct = direct_ranges(map);
    map_direct(&tables, &direct, image).expect("memory for the direct map's page tables");
    let words = DirectMap.words(root);
    let template = core::array::from_fn(|i| words[layout::FIRST_SLOT + i].load(Relaxed));
    HOST.call_once(|| Host {
        root,
        max_level,
        template,
        direct,
    });
    // SAFETY: the new tables map the image, its stack included, as the old ones did.
    unsafe { machine::load_root(root) };
}

/// Gives the slots that do not hold the direct map their L3 tables.
fn prepare_slots(root: Mfn) {
    for slot in TABLE_SLOTS {
        let table = table_frame().expect("memory for page tables");
        for word in DirectMap.words(table) {
            word.store(0, Relaxed);
        }
        // Only the guests' machine-to-physical table is open to user mode.
        let prot = if slot == 256 { Prot::USER_RO } else { Prot::RW };
        DirectMap.words(root)[slot].store(tables::table_entry(table, prot), Relaxed);
    }
}

fn map_image(tables: &Tables<'_, DirectMap>, image: &ImageLayout) -> Result<(), MapError> {
    for (range, prot) in [
        (&image.ro, Prot::RO),
        (&image.text, Prot::RX),
        (&image.data, Prot::RW),
    ] {
        let first = MachAddr::new(image.machine + (range.start - image.ro.start)).frame();
        let pages = (range.end - range.start) / PAGE_SIZE;
        tables.map(range.start, first, pages, prot, &mut table_frame)?;
    }
    Ok(())
}

/// What the direct map shows: RAM, ACPI's memory, and the first MiB but for VGA.
fn direct_ranges(map: &MemoryMap) -> RangeSet {
    let mut direct = map.ram();
    for r in map.acpi().iter() {
        direct.insert(r);
    }
    direct.insert(0..ROM.end);
    direct.remove(VGA);
    direct.remove(DIRECT_MAP_SIZE..u64::MAX);
    direct
}

/// Maps `direct` for reading and writing, the image's constants and code in it, and
/// ROMs, only for reading.
fn map_direct(
    tables: &Tables<'_, DirectMap>,
    direct: &RangeSet,
    image: &ImageLayout,
) -> Result<(), MapError> {
    let fixed = image.machine..image.machine + (image.text.end - image.ro.start);
    let mut writable = direct.clone();
    for r in [fixed.clone(), ROM] {
        writable.remove(r.clone());
        map_range(tables, &r, Prot::RO)?;
    }
    for r in writable.iter() {
        map_range(tables, &r, Prot::RW)?;
    }
    Ok(())
}

fn map_range(
    tables: &Tables<'_, DirectMap>,
    range: &Range<u64>,
    prot: Prot,
) -> Result<(), MapError> {
    let first = MachAddr::new(range.start);
    let pages = (range.end - range.start) / PAGE_SIZE;
    let va = layout::direct_map(first);
    tables.map(va, first.frame(), pages, prot, &mut table_frame)
}

/// A frame for a table, from whoever has frames now.
fn table_frame() -> Option<Mfn> {
    match TABLE_SOURCE.get() {
        Some(source) => source(),
        None => early::alloc(1, 1),
    }
}

fn host() -> &'static Host {
    HOST.get().expect("host_map::init has run")
}

fn tables() -> Tables<'static, DirectMap> {
    Tables::new(&DirectMap, host().root, host().max_level)
}

/// Sets where frames for tables come from once [`early`] has handed over. The frames
/// stay in use for good. The first call counts.
pub fn set_table_source(source: fn() -> Option<Mfn>) {
    TABLE_SOURCE.call_once(|| source);
}

/// The L4 entries of slots 256 to 271, to plant into every root.
///
/// # Panics
/// Before [`init`].
#[must_use]
pub fn template() -> &'static [u64; layout::SLOTS] {
    &host().template
}

/// The host root: below 4 GiB, so that a starting CPU can load it in 32-bit mode.
///
/// # Panics
/// Before [`init`].
#[must_use]
pub fn root() -> Mfn {
    host().root
}

/// Makes this CPU run on the host root, which maps nothing of guests.
///
/// # Panics
/// Before [`init`].
pub fn load_idle_root() {
    // SAFETY: the host root holds all of the hypervisor's mappings, for good.
    unsafe { machine::load_root(root()) };
}

/// Whether the direct map shows all of these machine addresses.
#[must_use]
pub fn in_direct_map(range: &Range<u64>) -> bool {
    host().direct.contains(range)
}

/// Maps device registers (or whatever is at these machine addresses) at a fresh
/// address, for good unless [`unmap_device`] is called.
///
/// # Errors
/// [`MapError::NoMemory`]; [`MapError::BadAddress`] if the range wraps or the room is
/// used up.
pub fn map_device(addr: MachAddr, len: u64, cache: Cache) -> Result<NonNull<u8>, MapError> {
    let offset = addr.page_offset();
    let pages = len
        .checked_add(offset)
        .ok_or(MapError::BadAddress)?
        .div_ceil(PAGE_SIZE)
        .max(1);
    if addr
        .frame()
        .raw()
        .checked_add(pages)
        .is_none_or(|end| end > Mfn::LIMIT)
    {
        return Err(MapError::BadAddress);
    }
    let mut state = STATE.lock();
    let va = state.next_device;
    // A page stays free between two mappings.
    let next = (pages + 1)
        .checked_mul(PAGE_SIZE)
        .and_then(|n| va.checked_add(n))
        .filter(|end| *end <= layout::VMAP_END)
        .ok_or(MapError::BadAddress)?;
    state.next_device = next;
    let prot = Prot::RW.cached(cache);
    tables().map(va, addr.frame(), pages, prot, &mut table_frame)?;
    drop(state);
    NonNull::new((va + offset) as *mut u8).ok_or(MapError::BadAddress)
}

/// Shows memory: through the direct map where that has it, else as
/// [`map_device`] with write-back caching. For ACPI's tables, which firmware may have
/// put anywhere.
///
/// # Errors
/// As [`map_device`].
pub fn map_memory(addr: MachAddr, len: u64) -> Result<NonNull<u8>, MapError> {
    let end = addr.raw().checked_add(len).ok_or(MapError::BadAddress)?;
    if in_direct_map(&(addr.raw()..end)) {
        return NonNull::new(layout::direct_map(addr) as *mut u8).ok_or(MapError::BadAddress);
    }
    map_device(addr, len, Cache::WriteBack)
}

/// Takes a mapping of [`map_device`] or [`map_memory`] away (the direct map's stay).
/// The address is not used again.
///
/// # Safety
/// Nobody uses the mapping any more, on no CPU.
pub unsafe fn unmap_device(at: NonNull<u8>, len: u64) {
    let va = at.as_ptr() as u64;
    if !(layout::VMAP_START..layout::VMAP_END).contains(&va) {
        return;
    }
    let pages = (va % PAGE_SIZE + len).div_ceil(PAGE_SIZE).max(1);
    // SAFETY: the caller has given the mapping up. Splitting a large page may want a
    // frame and not get it; then the mapping merely stays.
    let _ = unsafe { unmap_pages(va & !(PAGE_SIZE - 1), pages) };
}

/// Maps `pages` frames from `first` on at `va`, anywhere in slots 256 to 263.
///
/// # Errors
/// [`MapError`].
///
/// # Safety
/// The address range is the caller's own, and the frames may be used so.
pub unsafe fn map_pages(va: u64, first: Mfn, pages: u64, prot: Prot) -> Result<(), MapError> {
    check_room(va, pages)?;
    let _state = STATE.lock();
    tables().map(va, first, pages, prot, &mut table_frame)
}

/// Takes `pages` pages at `va` away again and flushes them on this CPU.
///
/// # Errors
/// [`MapError`].
///
/// # Safety
/// Nobody uses the mapping any more; the caller flushes it on other CPUs before the
/// frames or addresses are used for something else.
pub unsafe fn unmap_pages(va: u64, pages: u64) -> Result<(), MapError> {
    check_room(va, pages)?;
    let _state = STATE.lock();
    tables().unmap(va, pages, &mut table_frame, machine::flush_local)
}

/// Makes the tables for a window at `va`, whose pages [`set_window`] sets.
///
/// # Errors
/// [`MapError`].
pub fn reserve_window(va: u64, pages: u64) -> Result<(), MapError> {
    check_room(va, pages)?;
    let _state = STATE.lock();
    tables().reserve(va, pages, &mut table_frame)
}

/// Shows `frame` (for reading and writing) or nothing in the page at `va` and
/// flushes it on this CPU. Takes no lock.
///
/// # Panics
/// If [`reserve_window`] was not called for it.
///
/// # Safety
/// The window is this CPU's own and nothing in it is referred to; the frame may be
/// seen so until the window changes.
pub unsafe fn set_window(va: u64, frame: Option<Mfn>) {
    let table = l1_table(va).expect("the window is reserved");
    let entry = frame.map_or(0, |frame| Prot::RW.entry(frame, 1));
    DirectMap.words(table)[crate::addr::GuestVa(va).index(1)].store(entry, Relaxed);
    machine::flush_local(va);
}

/// Whether the hypervisor's own tables map `va`, which may be anything. Takes no lock
/// and does not panic.
#[must_use]
pub fn is_mapped(va: u64) -> bool {
    let ours = (layout::M2P_START..layout::DIRECT_MAP_END).contains(&va);
    ours && HOST.get().is_some_and(|host| {
        Tables::new(&DirectMap, host.root, host.max_level)
            .lookup(va)
            .is_some()
    })
}

/// The L1 table of an address in slots 256 to 263.
#[must_use]
pub fn l1_table(va: u64) -> Option<Mfn> {
    tables().l1_table(va)
}

/// Maps one frame of the first 4 GiB one to one and executable in the host root
/// alone, for a CPU that is about to turn paging on there.
///
/// # Errors
/// [`MapError`].
///
/// # Safety
/// The frame holds the code meant to run there and nobody else's.
pub unsafe fn map_identity(frame: Mfn) -> Result<(), MapError> {
    let _state = STATE.lock();
    tables().map(frame.addr().raw(), frame, 1, Prot::RX, &mut table_frame)
}

/// Takes a mapping of [`map_identity`] away.
///
/// # Safety
/// No CPU runs there any more.
pub unsafe fn unmap_identity(frame: Mfn) {
    let _state = STATE.lock();
    let at = frame.addr().raw();
    // A 4 KiB page is never split, so there is nothing that can fail.
    let _ = tables().unmap(at, 1, &mut table_frame, machine::flush_local);
}

/// Checks that a range is page aligned and within slots 256 to 263.
fn check_room(va: u64, pages: u64) -> Result<(), MapError> {
    let end = pages
        .checked_mul(PAGE_SIZE)
        .and_then(|len| va.checked_add(len))
        .ok_or(MapError::BadAddress)?;
    let room = layout::M2P_START..DIRECT_MAP_START;
    if !va.is_multiple_of(PAGE_SIZE) || va < room.start || end > room.end {
        return Err(MapError::BadAddress);
    }
    Ok(())
}
