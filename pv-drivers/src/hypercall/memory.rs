//! Memory that others write, wrapped so that the rest of the crate is safe code.
#![allow(
    unsafe_code,
    reason = "raw memory becomes a `Page` here, and by no other way"
)]

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crate::ring::Page;

/// Bytes of a page.
const SIZE: usize = 4096;

/// A mapped page that somebody else may write at any time. Every access is atomic, so a race is
/// no undefined behaviour; bytes may be torn at any border.
///
/// A value is an address: copies name the same memory. Whoever owns the memory keeps it mapped as
/// long as copies are used (see [`new`](Self::new)).
#[derive(Clone, Copy, Debug)]
pub struct RawPage {
    start: NonNull<u8>,
}

// SAFETY: all accesses are atomic.
unsafe impl Send for RawPage {}
// SAFETY: as above.
unsafe impl Sync for RawPage {}

impl RawPage {
    /// Wraps a page.
    ///
    /// # Safety
    /// 4096 bytes from `start`, which is aligned to 8, are mapped as long as this value and copies
    /// of it are used, at least readable (writable if it is written to), and no Rust reference to
    /// them exists but to atomics.
    #[must_use]
    pub const unsafe fn new(start: NonNull<u8>) -> Self {
        Self { start }
    }

    /// Its address.
    #[must_use]
    pub fn address(self) -> u64 {
        self.start.as_ptr() as u64
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < SIZE, "outside the page");
        // SAFETY: within the page by the line above; mapped and atomic by `new`'s contract.
        unsafe { AtomicU8::from_ptr(self.start.as_ptr().add(offset)) }
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset < SIZE && offset.is_multiple_of(4),
            "no word of the page"
        );
        // SAFETY: as for `byte`; aligned, since the page is.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(offset).cast()) }
    }

    /// Double words from an offset on, which is one's.
    fn doubles(&self, offset: usize, count: usize) -> *mut u64 {
        let fits = count
            .checked_mul(8)
            .and_then(|bytes| bytes.checked_add(offset));
        assert!(
            count == 0 || (offset.is_multiple_of(8) && fits.is_some_and(|end| end <= SIZE)),
            "outside the page"
        );
        self.start.as_ptr().wrapping_add(offset).cast()
    }

    /// Bytes before the first double word at or after `offset`, of a run of `length` bytes.
    fn head(offset: usize, length: usize) -> usize {
        (offset.wrapping_neg() % 8).min(length)
    }
}

impl Page for RawPage {
    fn read(&self, offset: usize, into: &mut [u8]) {
        let (head, rest) = into.split_at_mut(Self::head(offset, into.len()));
        for (n, byte) in head.iter_mut().enumerate() {
            *byte = self.byte(offset + n).load(Ordering::Relaxed);
        }
        let at = offset + head.len();
        let (chunks, tail) = rest.as_chunks_mut::<8>();
        let from = self.doubles(at, chunks.len());
        // SAFETY: `doubles` has checked the page's side, the slice is the other.
        unsafe { doubles::take(from, chunks.as_mut_ptr().cast(), chunks.len()) };
        let at = at + chunks.len() * 8;
        for (n, byte) in tail.iter_mut().enumerate() {
            *byte = self.byte(at + n).load(Ordering::Relaxed);
        }
    }

    fn write(&self, offset: usize, from: &[u8]) {
        let (head, rest) = from.split_at(Self::head(offset, from.len()));
        for (n, &byte) in head.iter().enumerate() {
            self.byte(offset + n).store(byte, Ordering::Relaxed);
        }
        let at = offset + head.len();
        let (chunks, tail) = rest.as_chunks::<8>();
        let to = self.doubles(at, chunks.len());
        // SAFETY: `doubles` has checked the page's side, the slice is the other.
        unsafe { doubles::put(chunks.as_ptr().cast(), to, chunks.len()) };
        let at = at + chunks.len() * 8;
        for (n, &byte) in tail.iter().enumerate() {
            self.byte(at + n).store(byte, Ordering::Relaxed);
        }
    }

    fn load(&self, offset: usize) -> u32 {
        self.word(offset).load(Ordering::Acquire)
    }

    fn store(&self, offset: usize, value: u32) {
        self.word(offset).store(value, Ordering::Release);
    }
}

/// Double words between a page that others read and write meanwhile and memory of one's own, which
/// need not be aligned. One instruction does it: to the language that is no race, and no loop is as
/// quick.
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod doubles {
    /// Copies out of the page.
    ///
    /// # Safety
    /// So many are readable and writable.
    pub unsafe fn take(shared: *mut u64, own: *mut u64, count: usize) {
        // SAFETY: the caller's duty; the direction flag is clear in Rust code.
        unsafe {
            core::arch::asm!(
                "rep movsq",
                inout("rcx") count => _,
                inout("rsi") shared => _,
                inout("rdi") own => _,
                options(nostack, preserves_flags)
            );
        }
    }

    /// Copies into the page.
    ///
    /// # Safety
    /// As above.
    pub unsafe fn put(own: *const u64, shared: *mut u64, count: usize) {
        // SAFETY: the same.
        unsafe {
            core::arch::asm!(
                "rep movsq",
                inout("rcx") count => _,
                inout("rsi") own => _,
                inout("rdi") shared => _,
                options(nostack, preserves_flags)
            );
        }
    }
}

/// The same where there is no such instruction.
#[cfg(not(all(target_arch = "x86_64", not(miri))))]
mod doubles {
    use core::sync::atomic::{AtomicU64, Ordering};

    /// Copies out of the page.
    ///
    /// # Safety
    /// So many are readable and writable.
    pub unsafe fn take(shared: *mut u64, own: *mut u64, count: usize) {
        for n in 0..count {
            // SAFETY: the caller's duty.
            unsafe {
                let word = AtomicU64::from_ptr(shared.add(n)).load(Ordering::Relaxed);
                own.add(n).write_unaligned(word);
            }
        }
    }

    /// Copies into the page.
    ///
    /// # Safety
    /// As above.
    pub unsafe fn put(own: *const u64, shared: *mut u64, count: usize) {
        for n in 0..count {
            // SAFETY: the caller's duty.
            unsafe {
                let word = own.add(n).read_unaligned();
                AtomicU64::from_ptr(shared.add(n)).store(word, Ordering::Relaxed);
            }
        }
    }
}

/// A machine frame of this domain's own memory that others may read and write: it is reached by
/// [`RawPage`]s only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFrame(u64);

impl SharedFrame {
    /// Vouches for a frame.
    ///
    /// # Safety
    /// The frame is this domain's, and as long as the value is used no Rust reference to its
    /// contents exists but to atomics.
    #[must_use]
    pub const unsafe fn new(mfn: u64) -> Self {
        Self(mfn)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// An address of this domain's where a peer's page may be mapped: nothing is there, and its owner
/// alone maps something there.
#[derive(Debug, PartialEq, Eq)]
pub struct Slot(u64);

impl Slot {
    /// Vouches for an address.
    ///
    /// # Safety
    /// It is page-aligned, tables exist down to its L1 entry, nothing is mapped there, and there
    /// is no other value for it.
    #[must_use]
    pub const unsafe fn new(address: u64) -> Self {
        Self(address)
    }

    /// The address.
    #[must_use]
    pub const fn address(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::boxed::Box;

    use proptest::prelude::*;

    use super::*;

    #[repr(C, align(4096))]
    struct Memory([u8; SIZE]);

    fn page() -> RawPage {
        let memory = Box::leak(Box::new(Memory([0; SIZE])));
        // SAFETY: leaked, so mapped for ever, and reached by this page alone.
        unsafe { RawPage::new(NonNull::from(&mut memory.0).cast()) }
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn any_run_of_bytes_is_written_and_read(offset in 0_usize..4096, length in 0_usize..64) {
            let page = page();
            let length = length.min(4096 - offset);
            let bytes: Vec<u8> = (0..length).map(|n| n as u8 ^ 0x5a).collect();
            page.write(offset, &bytes);
            let mut all = [0; SIZE];
            page.read(0, &mut all);
            prop_assert_eq!(&all[offset..offset + length], &bytes[..]);
            prop_assert!(all[..offset].iter().chain(&all[offset + length..]).all(|&b| b == 0));
            let mut again = vec![0; length];
            page.read(offset, &mut again);
            prop_assert_eq!(again, bytes);
        }
    }

    #[test]
    #[should_panic(expected = "outside the page")]
    fn nothing_outside_the_page_is_read() {
        page().read(4090, &mut [0; 7]);
    }
}
