//! Frames on a guest kernel's stack: what `iret` reads and what exceptions, events and
//! system calls write. The same few pages over and over, so where they are is kept
//! for a while ([`StackCache`]).
//!
//! A kept translation is a TLB entry in all but name: each CPU has its own, it is
//! dropped whenever that CPU flushes its TLB for correctness' sake (see
//! `arch::machine::tlb`), and whoever needs it gone asks for that flush. So what holds
//! for stale TLB entries holds for these. Entry code has the last one for itself, so
//! only the running vCPU's kernel root may be asked about here.
#![allow(
    unsafe_code,
    reason = "reads and writes guest frames through the direct map"
)]

use super::guest_copy::Fault;
use super::translations::Translations;
use super::{host, pte, walk};
use crate::addr::{GuestVa, Mfn, PAGE_SIZE};
use crate::arch::{FrameMem, machine};
use core::cell::Cell;
use core::sync::atomic::Ordering;

/// A kept translation.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Page number of the address; all ones: none.
    page: u64,
    root: u64,
    /// The page as the hypervisor sees it.
    at: *mut u8,
}

/// Entries of a [`StackCache`], a power of two: a kernel stack is four pages, and
/// arguments lie on a few more.
const ENTRIES: usize = 8;

/// One CPU's kept translations: of guest kernel stacks, and of all else.
#[derive(Debug)]
pub struct StackCache {
    stacks: [Cell<Entry>; ENTRIES],
    /// Of what hypercalls read and write.
    pub translations: Translations,
}

impl StackCache {
    /// Nothing kept.
    #[must_use]
    pub const fn new() -> Self {
        const EMPTY: Entry = Entry {
            page: u64::MAX,
            root: 0,
            at: core::ptr::null_mut(),
        };
        Self {
            stacks: [const { Cell::new(EMPTY) }; ENTRIES],
            translations: Translations::new(),
        }
    }

    /// Forgets everything: this CPU's TLB is flushed.
    #[inline]
    pub fn clear(&self) {
        self.translations.clear();
        for slot in &self.stacks {
            slot.set(Entry {
                page: u64::MAX,
                ..slot.get()
            });
        }
    }
}

impl Default for StackCache {
    fn default() -> Self {
        Self::new()
    }
}

/// Where the `bytes` bytes at `va`, writable for the guest, are. They lie in one page.
#[inline]
fn locate(root: Mfn, va: GuestVa, bytes: u64) -> Result<*mut u64, Fault> {
    let offset = va.page_offset();
    if offset + bytes > PAGE_SIZE || offset & 7 != 0 {
        return Err(Fault(va));
    }
    let page = va.0 >> 12;
    let slot = &machine::stack_cache().stacks[page as usize % ENTRIES];
    let entry = slot.get();
    let at = if entry.page == page && entry.root == root.raw() {
        entry.at
    } else {
        let at = walk_to(root, va)?;
        slot.set(Entry {
            page,
            root: root.raw(),
            at,
        });
        at
    };
    // SAFETY: `at` is a RAM page, 4096 bytes; the offset was checked.
    Ok(unsafe { at.add(offset as usize).cast() })
}

/// Tells entry code of the page around `at`, where the hypervisor sees `va`.
#[inline]
fn keep(va: GuestVa, at: *mut u64) {
    let page = (at as u64 & !(PAGE_SIZE - 1)) as *mut u8;
    machine::keep_stack_page(va.0 >> 12, page);
}

/// As [`read`], for arguments of hypercalls, which lie in memory the kernel uses again and
/// again too.
///
/// # Errors
/// [`Fault`] if that is not readable.
#[inline]
pub fn read_arguments<const N: usize>(root: Mfn, va: GuestVa) -> Result<[u64; N], Fault> {
    match locate(root, va, N as u64 * 8) {
        // SAFETY: as in `write`.
        Ok(at) => Ok(core::array::from_fn(|n| unsafe {
            at.add(n).read_volatile()
        })),
        Err(_) => super::guest_space(root).read_words(va),
    }
}

/// Writes one word where arguments of hypercalls lie.
///
/// # Errors
/// [`Fault`] if that is not writable.
#[inline]
pub fn write_argument(root: Mfn, va: GuestVa, word: u64) -> Result<(), Fault> {
    match locate(root, va, 8) {
        Ok(at) => {
            // SAFETY: as in `write`.
            unsafe { at.write_volatile(word) };
            Ok(())
        }
        Err(_) => super::guest_space(root).write(va, &word),
    }
}

/// Finds the page of `va`, marks it used and written.
#[cold]
fn walk_to(root: Mfn, va: GuestVa) -> Result<*mut u8, Fault> {
    const NEED: u64 = pte::P | pte::US | pte::RW;
    let mm = host::get();
    let slot = walk::find_l1_with(&mm.mem, root, va, NEED).ok_or(Fault(va))?;
    let word = slot.word(&mm.mem);
    let entry = word.load(Ordering::Acquire);
    if entry & NEED != NEED {
        return Err(Fault(va));
    }
    let used = entry | pte::A | pte::D;
    if entry != used
        && word
            .compare_exchange(entry, used, Ordering::AcqRel, Ordering::Acquire)
            .is_err()
    {
        return Err(Fault(va));
    }
    let mfn = pte::frame(entry);
    mm.frames.ram(mfn).ok_or(Fault(va))?;
    Ok(mm.mem.bytes(mfn))
}

/// Writes `words` at `va` in the space under `root`.
///
/// # Errors
/// [`Fault`] if that is not writable; nothing was written then, unless they cross pages.
#[inline]
pub fn write<const N: usize>(root: Mfn, va: GuestVa, words: [u64; N]) -> Result<(), Fault> {
    match locate(root, va, N as u64 * 8) {
        Ok(at) => {
            keep(va, at);
            for (n, word) in words.into_iter().enumerate() {
                // SAFETY: `locate` found room for `N` words. The guest may use them too,
                // hence volatile.
                unsafe { at.add(n).write_volatile(word) };
            }
            Ok(())
        }
        Err(_) => super::guest_space(root).write_words(va, &words),
    }
}

/// Reads words from `va` in the space under `root`.
///
/// # Errors
/// [`Fault`] if that is not readable.
#[inline]
pub fn read<const N: usize>(root: Mfn, va: GuestVa) -> Result<[u64; N], Fault> {
    match locate(root, va, N as u64 * 8) {
        Ok(at) => {
            keep(va, at);
            // SAFETY: as in `write`.
            Ok(core::array::from_fn(|n| unsafe {
                at.add(n).read_volatile()
            }))
        }
        Err(_) => super::guest_space(root).read_words(va),
    }
}
