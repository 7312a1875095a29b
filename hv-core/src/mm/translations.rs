//! Where guest pages were found: a CPU's translations of guest addresses, kept for a
//! while because hypercalls read the same few pages again and again.
//!
//! A kept translation is a TLB entry in all but name: each CPU has its own, it is
//! dropped whenever that CPU flushes its TLB for correctness' sake, and whoever needs
//! it gone asks for that flush (see "Reaching guest memory" in [`crate::mm`]).

use crate::addr::{GuestVa, Mfn};
use core::cell::Cell;

/// Kept translations, a power of two.
const ENTRIES: usize = 8;

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Page number of the address; all ones: none.
    page: u64,
    /// The root, and in the lowest bit whether the page may be written.
    root: u64,
    /// The page as the hypervisor sees it.
    at: *mut u8,
}

/// One CPU's kept translations.
#[derive(Debug)]
pub struct Translations([Cell<Entry>; ENTRIES]);

impl Default for Translations {
    fn default() -> Self {
        Self::new()
    }
}

impl Translations {
    /// Nothing kept.
    #[must_use]
    pub const fn new() -> Self {
        const EMPTY: Entry = Entry {
            page: u64::MAX,
            root: 0,
            at: core::ptr::null_mut(),
        };
        Self([const { Cell::new(EMPTY) }; ENTRIES])
    }

    #[inline]
    fn slot(&self, page: u64) -> &Cell<Entry> {
        &self.0[page as usize % ENTRIES]
    }

    /// Forgets everything: this CPU's TLB is flushed.
    #[inline]
    pub fn clear(&self) {
        for slot in &self.0 {
            slot.set(Entry {
                page: u64::MAX,
                ..slot.get()
            });
        }
    }

    /// Where the page of `va` under `root` is, if that is kept, and may be written if
    /// `write`.
    #[inline]
    pub fn find(&self, root: Mfn, va: GuestVa, write: bool) -> Option<*mut u8> {
        let page = va.0 >> 12;
        let entry = self.slot(page).get();
        let need = root.raw() << 1 | 1;
        let root = if write { entry.root } else { entry.root | 1 };
        (entry.page == page && root == need).then_some(entry.at)
    }

    /// Keeps where the page of `va` under `root` is; the walk found it readable, or
    /// `writable` and marked as written.
    #[inline]
    pub fn keep(&self, root: Mfn, va: GuestVa, writable: bool, at: *mut u8) {
        let page = va.0 >> 12;
        self.slot(page).set(Entry {
            page,
            root: root.raw() << 1 | u64::from(writable),
            at,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_was_told_until_cleared() {
        let t = Translations::new();
        let (root, other) = (Mfn::new(5), Mfn::new(6));
        let va = GuestVa(0x1234_5678);
        let at = core::ptr::without_provenance_mut(0x1000);
        assert_eq!(t.find(root, va, false), None);
        t.keep(root, va, false, at);
        assert_eq!(t.find(root, GuestVa(va.0 & !0xfff), false), Some(at));
        assert_eq!(t.find(root, va, true), None);
        assert_eq!(t.find(other, va, false), None);
        assert_eq!(t.find(root, va.add(4096), false), None);
        t.keep(root, va, true, at);
        assert_eq!(t.find(root, va, true), Some(at));
        assert_eq!(t.find(root, va, false), Some(at));
        t.clear();
        assert_eq!(t.find(root, va, false), None);
    }
}
