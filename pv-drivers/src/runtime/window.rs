//! Addresses for memory that is not the guest's: its grant table, and peers' pages.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use spin::mutex::SpinMutex;
use xen_abi::errno::ENOMEM;
use xen_abi::grant_table::{GNTTABOP_SETUP_TABLE, GnttabSetupTable};
use xen_abi::xen::{HYPERVISOR_GRANT_TABLE_OP, UVMF_INVLPG};

use super::frames::{self, OwnPage};
use super::mmu::{self, DATA, ENTRIES, PRESENT, TABLE};
use crate::grant::{ENTRIES_PER_FRAME, Entry, GrantTable, Mapping, Slots, TableSource};
use crate::hypercall::{Access, DomId, Errno, GrantError, GrantRef, Native, Slot, raw};

/// First address: the last GiB.
const START: u64 = 0xffff_ffff_c000_0000;

/// Pages of the window.
const PAGES: u64 = 1 << 18;

/// Slots that are made at a time.
const SLOTS_STEP: u64 = 64;

/// Frames of the grant table at most (Xen's default limit).
const TABLE_FRAMES: usize = 64;

/// Pages given out so far.
static USED: SpinMutex<u64> = SpinMutex::new(0);

/// Addresses of so many consecutive pages, with tables down to their L1 entries and nothing mapped.
fn reserve(pages: u64) -> Option<u64> {
    let mut used = USED.lock();
    if PAGES - *used < pages {
        return None;
    }
    let first = START + (*used << 12);
    let mut at = first & !0x1f_ffff;
    while at < first + (pages << 12) {
        make_tables(at)?;
        at += (ENTRIES as u64) << 12;
    }
    *used += pages;
    Some(first)
}

/// Makes the tables that are missing on the way to an address's L1 entry.
fn make_tables(address: u64) -> Option<()> {
    for level in [4, 3, 2] {
        let (table, index) = mmu::table_of(address, level)?;
        if mmu::entry(table, index) & PRESENT != 0 {
            continue;
        }
        let new = OwnPage::new()?;
        // SAFETY: a fresh page of zeros, written no more.
        unsafe { mmu::protect(new.address()) }.ok()?;
        let slot = (mmu::mfn(table) << 12) + index as u64 * 8;
        // SAFETY: nothing was mapped there.
        unsafe { mmu::mmu_update(slot, new.mfn() << 12 | TABLE) }.ok()?;
        // A table for good.
        core::mem::forget(new);
    }
    Some(())
}

/// The hypervisor's frames of this domain's grant table.
struct Table;

/// Where they are mapped, in their order; 0: not yet.
static MAPPED_AT: [AtomicU64; TABLE_FRAMES] = [const { AtomicU64::new(0) }; TABLE_FRAMES];

/// Addresses of the table's frames that are in use.
fn table_addresses() -> impl Iterator<Item = u64> {
    let addresses = MAPPED_AT.iter().map(|va| va.load(Ordering::SeqCst));
    addresses.take_while(|&va| va != 0)
}

/// Machine frames of a table of so many frames, which it has from now on at least.
fn table_frames(count: usize) -> Result<[u64; TABLE_FRAMES], GrantError> {
    let mut frames = [0_u64; TABLE_FRAMES];
    let mut setup = GnttabSetupTable {
        dom: DomId::SELF.0,
        _pad0: 0,
        nr_frames: count.min(TABLE_FRAMES) as u32,
        status: 0,
        _pad1: [0; 3],
        frame_list: frames.as_mut_ptr() as u64,
    };
    let arguments = [
        u64::from(GNTTABOP_SETUP_TABLE),
        &raw mut setup as u64,
        1,
        0,
        0,
    ];
    // SAFETY: writes the struct and as many frame numbers as there is room for.
    Errno::check(unsafe { raw(HYPERVISOR_GRANT_TABLE_OP, arguments) })?;
    GrantError::check(setup.status)?;
    Ok(frames)
}

/// Takes the table away, which is not the guest's to take along. Until [`map_table`] nothing may be
/// granted.
pub(super) fn unmap_table() -> Result<(), Errno> {
    for va in table_addresses() {
        // SAFETY: nobody uses the table now, as the caller sees to.
        unsafe { mmu::update_va_mapping(va, 0, UVMF_INVLPG) }?;
    }
    Ok(())
}

/// Maps the table, of the domain that the guest now is, where it was.
///
/// # Panics
/// If the hypervisor refuses: it permits the domain a smaller table than the one before had.
pub(super) fn map_table() {
    let count = table_addresses().count();
    if count == 0 {
        return;
    }
    let frames = table_frames(count);
    assert!(
        frames.is_ok(),
        "no grant table of {count} pages: {frames:?}"
    );
    for (va, frame) in table_addresses().zip(frames.into_iter().flatten()) {
        // SAFETY: nothing is mapped there now but, before, the same table or an earlier one.
        let mapped = unsafe { mmu::update_va_mapping(va, frame << 12 | DATA, UVMF_INVLPG) };
        assert_eq!(mapped, Ok(()));
    }
}

impl TableSource for Table {
    fn frame(&self, index: usize) -> Option<&'static [Entry; ENTRIES_PER_FRAME]> {
        let place = MAPPED_AT.get(index)?;
        let frames = table_frames(index + 1).ok()?;
        let va = reserve(1)?;
        let entry = frames.get(index)? << 12 | DATA;
        // SAFETY: nothing was mapped there.
        unsafe { mmu::update_va_mapping(va, entry, UVMF_INVLPG) }.ok()?;
        place.store(va, Ordering::SeqCst);
        // SAFETY: mapped for good; entries are atomics, for any bits.
        Some(unsafe { &*(va as *const [Entry; ENTRIES_PER_FRAME]) })
    }
}

static GRANTS: GrantTable<OwnPage> = GrantTable::new(&Table);
static SLOTS: Slots = Slots::new();
/// Slots made so far.
static SLOTS_MADE: AtomicU32 = AtomicU32::new(0);

/// The guest's grant table.
#[must_use]
pub fn grants() -> &'static GrantTable<OwnPage> {
    &GRANTS
}

/// Maps a page that `domain` has granted, until the mapping is dropped.
///
/// # Errors
/// `ENOMEM`: no address or memory for tables is left; others: the hypervisor's.
pub fn map(
    domain: DomId,
    reference: GrantRef,
    access: Access,
) -> Result<Mapping<Native>, GrantError> {
    if SLOTS.is_empty() {
        let first = reserve(SLOTS_STEP).ok_or(GrantError::Call(Errno(ENOMEM)))?;
        for n in 0..SLOTS_STEP {
            // SAFETY: just reserved: tables are there, nothing is mapped, nobody else has it.
            SLOTS.put(unsafe { Slot::new(first + (n << 12)) });
        }
        SLOTS_MADE.fetch_add(SLOTS_STEP as u32, Ordering::Relaxed);
    }
    Mapping::new(Native, &SLOTS, domain, reference, access)
}

/// How many peers' pages are mapped now.
pub(super) fn mapped() -> usize {
    let made = SLOTS_MADE.load(Ordering::Relaxed) as usize;
    made.saturating_sub(SLOTS.len())
}

/// Slots made, and frames of memory given out and left: for those who look for leaks.
#[must_use]
pub fn usage() -> (u32, (u64, u64)) {
    (SLOTS_MADE.load(Ordering::Relaxed), frames::usage())
}
