//! Copying from and to guest memory at guest-virtual addresses.
//!
//! A [`GuestSpace`] is a root to walk. The walk is in software, takes no references,
//! and its result is used at once, before any lock is waited for and with interrupts
//! off: see "Reaching guest memory" in [`crate::mm`] for why that is sound. The same
//! rules as the MMU's apply: every level must be present, user and (to write)
//! writable; the accessed and dirty bits of the L1 entry get set. Addresses in the
//! hypervisor's range, device memory and non-canonical addresses are faults.
//!
//! Guests write the same memory at the same time, so it is only touched by relaxed
//! atomics, and a value is copied once and for all before anyone looks at it.
#![allow(unsafe_code, reason = "frames are reached by pointers")]

use super::Mm;
use super::frame_table::FrameTable;
use super::{pte, walk};
use crate::addr::{GuestVa, Mfn, PAGE_SIZE};
use crate::arch::{FrameMem, Tlb};
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A guest address that could not be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault(pub GuestVa);

/// A guest's address space, seen from one root.
#[derive(Debug)]
pub struct GuestSpace<'a, M> {
    mem: &'a M,
    frames: &'a FrameTable,
    root: Mfn,
}

impl<M> Clone for GuestSpace<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for GuestSpace<'_, M> {}

impl<'a, M: FrameMem> GuestSpace<'a, M> {
    /// The address space under `root`, which the caller keeps a valid L4 table for as
    /// long as this lives.
    #[inline]
    pub fn new<T: Tlb>(mm: &'a Mm<M, T>, root: Mfn) -> Self {
        Self {
            mem: &mm.mem,
            frames: &mm.frames,
            root,
        }
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Mfn {
        self.root
    }

    /// Where the hypervisor sees the byte at `va`; good up to the end of its page and
    /// until this CPU answers TLB requests.
    #[inline]
    fn locate(&self, va: GuestVa, write: bool) -> Result<*mut u8, Fault> {
        let page = match self.mem.kept(self.root, va, write) {
            Some(page) => page,
            None => self.find(va, write)?,
        };
        // SAFETY: the page is a frame of RAM, valid for 4096 bytes, and a page offset
        // stays inside.
        Ok(unsafe { page.add(va.page_offset() as usize) })
    }

    /// Walks to the page of `va`.
    #[inline(never)]
    fn find(&self, va: GuestVa, write: bool) -> Result<*mut u8, Fault> {
        let (need, used) = if write {
            (pte::P | pte::US | pte::RW, pte::A | pte::D)
        } else {
            (pte::P | pte::US, pte::A)
        };
        let slot = walk::find_l1_with(self.mem, self.root, va, need).ok_or(Fault(va))?;
        let word = slot.word(self.mem);
        let mut entry = word.load(Ordering::Acquire);
        loop {
            if entry & need != need {
                return Err(Fault(va));
            }
            if entry & used == used {
                break;
            }
            // Only into the very entry that was checked.
            match word.compare_exchange(entry, entry | used, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(now) => entry = now,
            }
        }
        let mfn = pte::frame(entry);
        if self.frames.ram(mfn).is_none() {
            return Err(Fault(va));
        }
        let page = self.mem.bytes(mfn);
        self.mem.keep(self.root, va, write, page);
        Ok(page)
    }

    /// The instruction bytes at `va`, and how many of them could be read.
    #[inline]
    #[must_use]
    pub fn fetch(&self, va: GuestVa) -> ([u8; 16], usize) {
        let offset = va.page_offset() & !7;
        let mut bytes = [0; 16];
        if offset + 24 > PAGE_SIZE {
            // The next page may be missing: what is on this one may do.
            let here = ((PAGE_SIZE - va.page_offset()) as usize).min(16);
            let got = if self.read_bytes(va, &mut bytes).is_ok() {
                16
            } else if self.read_bytes(va, &mut bytes[..here]).is_ok() {
                here
            } else {
                0
            };
            return (bytes, got);
        }
        let Ok(from) = self.locate(GuestVa(va.0 & !7), false) else {
            return (bytes, 0);
        };
        let from = from.cast::<AtomicU64>();
        // SAFETY: three aligned words in the page that `locate` found.
        let [a, b, c] = [0, 1, 2].map(|n| unsafe { (*from.add(n)).load(Ordering::Relaxed) });
        let shift = (va.0 & 7) * 8;
        let low = u128::from(a) | u128::from(b) << 64;
        let all = if shift == 0 {
            low
        } else {
            low >> shift | u128::from(c) << (128 - shift)
        };
        bytes = all.to_le_bytes();
        (bytes, 16)
    }

    /// Copies a value from `va`.
    ///
    /// # Errors
    /// [`Fault`] if part of it is not readable.
    #[inline]
    pub fn read<T: FromBytes + IntoBytes>(&self, va: GuestVa) -> Result<T, Fault> {
        let mut value = T::new_zeroed();
        let to = value.as_mut_bytes();
        if va.0 & 7 != 0 || to.len() % 8 != 0 || va.page_offset() + to.len() as u64 > PAGE_SIZE {
            self.read_bytes(va, to)?;
            return Ok(value);
        }
        let from = self.locate(va, false)?;
        // SAFETY: `locate` answered for the rest of the page, and the range ends in it;
        // frames are aligned, and so is the offset.
        unsafe { words_in(from.cast(), to) };
        Ok(value)
    }

    /// Copies a value to `va`.
    ///
    /// # Errors
    /// [`Fault`] if part of it is not writable; earlier pages may have been written.
    #[inline]
    pub fn write<T: IntoBytes + Immutable>(&self, va: GuestVa, value: &T) -> Result<(), Fault> {
        let from = value.as_bytes();
        if va.0 & 7 != 0
            || !from.len().is_multiple_of(8)
            || va.page_offset() + from.len() as u64 > PAGE_SIZE
        {
            return self.write_bytes(va, from);
        }
        let to = self.locate(va, true)?;
        // SAFETY: as in `read`.
        unsafe { words_out(from, to.cast()) };
        Ok(())
    }

    /// Copies values from `va`.
    ///
    /// # Errors
    /// [`Fault`] if part of them is not readable.
    #[inline]
    pub fn read_slice<T: FromBytes + IntoBytes>(
        &self,
        va: GuestVa,
        to: &mut [T],
    ) -> Result<(), Fault> {
        self.read_bytes(va, to.as_mut_bytes())
    }

    /// Copies bytes from `va`.
    ///
    /// # Errors
    /// [`Fault`] with the first address that is not readable.
    #[inline(never)]
    pub fn read_bytes(&self, va: GuestVa, to: &mut [u8]) -> Result<(), Fault> {
        if to.is_empty() {
            return Ok(());
        }
        if va.page_offset() + to.len() as u64 <= PAGE_SIZE {
            let from = self.locate(va, false)?;
            // SAFETY: `locate` answered for the rest of the page, and the range ends
            // in it.
            unsafe { copy_in(from, to) };
            return Ok(());
        }
        self.read_pages(va, to)
    }

    #[inline(never)]
    fn read_pages(&self, mut va: GuestVa, mut to: &mut [u8]) -> Result<(), Fault> {
        while !to.is_empty() {
            let room = (PAGE_SIZE - va.page_offset()) as usize;
            let (now, rest) = to.split_at_mut(room.min(to.len()));
            let from = self.locate(va, false)?;
            // SAFETY: as in `read_bytes`: `now` ends in the page.
            unsafe { copy_in(from, now) };
            va = va.add(now.len() as u64);
            to = rest;
        }
        Ok(())
    }

    /// Copies bytes to `va`.
    ///
    /// # Errors
    /// [`Fault`] with the first address that is not writable; what comes before it in
    /// earlier pages has been written.
    #[inline]
    pub fn write_bytes(&self, va: GuestVa, from: &[u8]) -> Result<(), Fault> {
        if from.is_empty() {
            return Ok(());
        }
        if va.page_offset() + from.len() as u64 <= PAGE_SIZE {
            let to = self.locate(va, true)?;
            // SAFETY: `locate` answered for the rest of the page, and the range ends
            // in it.
            unsafe { copy_out(from, to) };
            return Ok(());
        }
        self.write_pages(va, from)
    }

    #[inline(never)]
    fn write_pages(&self, mut va: GuestVa, mut from: &[u8]) -> Result<(), Fault> {
        while !from.is_empty() {
            let room = (PAGE_SIZE - va.page_offset()) as usize;
            let (now, rest) = from.split_at(room.min(from.len()));
            let to = self.locate(va, true)?;
            // SAFETY: as in `write_bytes`: `now` ends in the page.
            unsafe { copy_out(now, to) };
            va = va.add(now.len() as u64);
            from = rest;
        }
        Ok(())
    }

    /// Copies words to `va`, which is a multiple of 8: an exception frame on a guest's
    /// stack.
    ///
    /// # Errors
    /// [`Fault`] with the first address that is not writable (or `va`, if not aligned);
    /// what comes before it in an earlier page has been written.
    #[inline]
    pub fn write_words<const N: usize>(&self, va: GuestVa, words: &[u64; N]) -> Result<(), Fault> {
        if va.0 & 7 != 0 {
            return Err(Fault(va));
        }
        if va.page_offset() + N as u64 * 8 > PAGE_SIZE {
            return self.write_pages(va, words.as_bytes());
        }
        let to = self.locate(va, true)?.cast::<AtomicU64>();
        for (n, word) in words.iter().enumerate() {
            // SAFETY: aligned, as `va` and frames are; inside the page, as checked;
            // guest RAM is only ever touched by atomics here.
            unsafe { (*to.add(n)).store(*word, Ordering::Relaxed) };
        }
        Ok(())
    }

    /// Copies words from `va`, which is a multiple of 8.
    ///
    /// # Errors
    /// [`Fault`] with the first address that is not readable (or `va`, if not aligned).
    #[inline]
    pub fn read_words<const N: usize>(&self, va: GuestVa) -> Result<[u64; N], Fault> {
        let mut words = [0; N];
        if va.0 & 7 != 0 {
            return Err(Fault(va));
        }
        if va.page_offset() + N as u64 * 8 > PAGE_SIZE {
            self.read_pages(va, words.as_mut_bytes())?;
            return Ok(words);
        }
        let from = self.locate(va, false)?.cast::<AtomicU64>();
        for (n, word) in words.iter_mut().enumerate() {
            // SAFETY: as in `write_words`.
            *word = unsafe { (*from.add(n)).load(Ordering::Relaxed) };
        }
        Ok(words)
    }
}

/// Copies words from guest memory.
///
/// # Safety
/// `from` is valid for `to.len()` bytes of guest RAM.
#[inline]
unsafe fn words_in(from: *mut AtomicU64, to: &mut [u8]) {
    for (n, chunk) in to.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        // SAFETY: inside the range the caller promised; the type says aligned.
        *chunk = unsafe { (*from.add(n)).load(Ordering::Relaxed) }.to_ne_bytes();
    }
}

/// Copies words to guest memory.
///
/// # Safety
/// `to` is valid for `from.len()` bytes of guest RAM.
#[inline]
unsafe fn words_out(from: &[u8], to: *mut AtomicU64) {
    for (n, chunk) in from.as_chunks::<8>().0.iter().enumerate() {
        // SAFETY: inside the range the caller promised; the type says aligned.
        unsafe { (*to.add(n)).store(u64::from_ne_bytes(*chunk), Ordering::Relaxed) };
    }
}

/// Copies from guest memory.
///
/// # Safety
/// `from` is valid for `to.len()` bytes of guest RAM.
#[inline]
unsafe fn copy_in(from: *mut u8, to: &mut [u8]) {
    let mut done = 0;
    if from.addr() & 7 == 0 {
        done = to.len() & !7;
        // SAFETY: the caller's promise, and aligned.
        unsafe { words_in(from.cast(), &mut to[..done]) };
    }
    for (n, byte) in to.iter_mut().enumerate().skip(done) {
        // SAFETY: inside the range the caller promised.
        *byte = unsafe { (*from.add(n).cast::<AtomicU8>()).load(Ordering::Relaxed) };
    }
}

/// Copies to guest memory.
///
/// # Safety
/// `to` is valid for `from.len()` bytes of guest RAM.
#[inline]
unsafe fn copy_out(from: &[u8], to: *mut u8) {
    let mut done = 0;
    if to.addr() & 7 == 0 {
        done = from.len() & !7;
        // SAFETY: the caller's promise, and aligned.
        unsafe { words_out(&from[..done], to.cast()) };
    }
    for (n, byte) in from.iter().enumerate().skip(done) {
        // SAFETY: inside the range the caller promised.
        unsafe { (*to.add(n).cast::<AtomicU8>()).store(*byte, Ordering::Relaxed) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::DomId;
    use crate::pv_mm::testing::Guest;

    #[test]
    fn copies_cross_pages_and_mark_the_entries() {
        let g = Guest::new(64, 0);
        let (a, b) = (g.page(), g.page());
        let va = GuestVa(0x40_0000);
        let root = g.space(&[(va, a, pte::RW), (va.add(4096), b, pte::RW)]);
        let space = GuestSpace::new(&g.mm, root);
        let from: Vec<u8> = (0..100).collect();
        let at = va.add(4096 - 37);
        space.write_bytes(at, &from).unwrap();
        let mut to = [0; 100];
        space.read_bytes(at, &mut to).unwrap();
        assert_eq!(to[..], from[..]);
        let entry = walk::Walk::new(&g.mm.mem, root, va).l1().unwrap();
        assert_eq!(entry & (pte::A | pte::D), pte::A | pte::D);
        space.write_words(va.add(4096 - 16), &[1, 2, 3]).unwrap();
        assert_eq!(space.read_words::<3>(va.add(4096 - 16)).unwrap(), [1, 2, 3]);
        assert_eq!(space.read::<u64>(va.add(4096)).unwrap(), 3);
    }

    #[test]
    fn instructions_are_fetched_as_far_as_they_are_there() {
        let g = Guest::new(64, 0);
        let (a, b) = (g.page(), g.page());
        let va = GuestVa(0x40_0000);
        let root = g.space(&[(va, a, pte::RW), (va.add(4096), b, pte::RW)]);
        let space = GuestSpace::new(&g.mm, root);
        let code: Vec<u8> = (0..8192_usize).map(|n| (n * 7 % 251) as u8).collect();
        for part in [0..120, 4064..4120, 8160..8192] {
            let at = va.add(part.start as u64);
            space.write_bytes(at, &code[part]).unwrap();
        }
        for at in [0, 1, 7, 8, 100, 4072, 4073, 4079, 4080, 4081, 4095, 8176] {
            let (bytes, n) = space.fetch(va.add(at));
            assert_eq!((&bytes[..], n), (&code[at as usize..at as usize + 16], 16));
        }
        let (bytes, n) = space.fetch(va.add(8189));
        assert_eq!((&bytes[..3], n), (&code[8189..], 3));
        assert_eq!(space.fetch(va.add(8192)).1, 0);
    }

    #[test]
    fn what_a_guest_may_not_reach() {
        let g = Guest::new(64, 8);
        let a = g.page();
        let va = GuestVa(0x40_0000);
        let device = Mfn::new(66);
        let root = g.space_with(
            &g.rights_with_devices(),
            &[(va, a, 0), (va.add(8192), device, pte::RW)],
        );
        let space = GuestSpace::new(&g.mm, root);
        assert!(space.read::<u64>(va).is_ok());
        // Read-only, absent, half absent, device memory, the hypervisor's, no address.
        assert_eq!(space.write(va, &1u64), Err(Fault(va)));
        assert!(space.read::<u8>(va.add(4096)).is_err());
        let half = va.add(4096 - 8);
        assert_eq!(
            space.read_bytes(half, &mut [0; 16]),
            Err(Fault(va.add(4096)))
        );
        assert!(space.read::<u64>(va.add(8192)).is_err());
        assert!(
            space
                .read::<u64>(GuestVa(crate::addr::HYPERVISOR_START))
                .is_err()
        );
        assert!(space.read::<u64>(GuestVa(0x8000_0000_0000)).is_err());
        assert!(
            space
                .read_bytes(GuestVa(u64::MAX - 3), &mut [0; 8])
                .is_err()
        );
        assert_eq!(DomId(1), g.id);
    }
}
