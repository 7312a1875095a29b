//! Pages that another domain, or the kernel, may change at any moment.
#![allow(unsafe_code, reason = "memory shared with another domain")]

use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use pv_drivers::ring;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::PAGE_SIZE;
use super::memory::Region;

/// What a mapping permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading only; a write ends the process (`SIGSEGV`).
    Read,
    /// Reading and writing.
    Write,
}

impl Access {
    pub(super) const fn protection(self) -> libc::c_int {
        match self {
            Self::Read => libc::PROT_READ,
            Self::Write => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

/// A mapping of pages that somebody else may write too; unmapped when dropped.
///
/// There is no reference into it: values are copied in and out, each byte or aligned word as one
/// relaxed atomic access, so a peer that races makes garbage, never undefined behaviour. Who needs
/// an order uses [`load`](Self::load_u32) and [`store`](Self::store_u32).
///
/// Every method panics if its range leaves the mapping: offsets are the program's own, never the
/// peer's.
#[must_use = "the pages are unmapped when this is dropped"]
pub struct SharedPages {
    // Before `after`, so that the pages are unmapped when it runs.
    region: Option<Region>,
    access: Access,
    start: NonNull<u8>,
    bytes: usize,
    after: Option<Box<dyn FnOnce() + Send + Sync>>,
}

// SAFETY: all access goes through atomic operations, and the region is bound to no thread.
unsafe impl Send for SharedPages {}
// SAFETY: as above.
unsafe impl Sync for SharedPages {}

impl fmt::Debug for SharedPages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedPages({} pages, {:?})", self.pages(), self.access)
    }
}

impl SharedPages {
    pub(super) const fn new(region: Region, access: Access) -> Self {
        Self {
            start: region.start(),
            bytes: region.bytes(),
            region: Some(region),
            access,
            after: None,
        }
    }

    /// Also does something after the pages are unmapped.
    pub(super) fn then(mut self, after: impl FnOnce() + Send + Sync + 'static) -> Self {
        self.after = Some(Box::new(after));
        self
    }

    /// Pages it has.
    #[must_use]
    pub const fn pages(&self) -> usize {
        self.bytes / PAGE_SIZE
    }

    /// Bytes it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it has none; never so.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// What it permits.
    #[must_use]
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Address of the first byte, for code that keeps rings. Valid as long as `self`.
    #[must_use]
    pub const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// The address `offset` bytes in, of which `bytes` bytes belong to the mapping.
    fn at(&self, offset: usize, bytes: usize) -> *mut u8 {
        let end = offset.checked_add(bytes);
        assert!(
            end.is_some_and(|end| end <= self.bytes),
            "{bytes} bytes at {offset} leave {self:?}"
        );
        // SAFETY: checked above to lie within the mapping, or one past it.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// As [`Self::at`], for writing.
    fn at_mut(&self, offset: usize, bytes: usize) -> *mut u8 {
        assert!(self.access == Access::Write, "a write to {self:?}");
        self.at(offset, bytes)
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// If the range leaves the mapping.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        let from = self.at(offset, into.len());
        let head = from.align_offset(8).min(into.len());
        let (start, rest) = into.split_at_mut(head);
        read_bytes(from, start);
        // SAFETY: `head` bytes are within the range checked by `at`.
        let from = unsafe { from.add(head) };
        let (words, tail) = rest.as_chunks_mut::<8>();
        for (n, word) in words.iter_mut().enumerate() {
            // SAFETY: within the range checked by `at`, aligned by `head`, only accessed
            // atomically.
            let source = unsafe { AtomicU64::from_ptr(from.add(8 * n).cast()) };
            *word = source.load(Ordering::Relaxed).to_ne_bytes();
        }
        // SAFETY: within the range.
        read_bytes(unsafe { from.add(8 * words.len()) }, tail);
    }

    /// Copies bytes in.
    ///
    /// # Panics
    /// If the range leaves the mapping, or the mapping is not for writing.
    pub fn write(&self, offset: usize, from: &[u8]) {
        let to = self.at_mut(offset, from.len());
        let head = to.align_offset(8).min(from.len());
        let (start, rest) = from.split_at(head);
        write_bytes(to, start);
        // SAFETY: `head` bytes are within the range checked by `at_mut`.
        let to = unsafe { to.add(head) };
        let (words, tail) = rest.as_chunks::<8>();
        for (n, word) in words.iter().enumerate() {
            // SAFETY: within the range checked by `at_mut`, aligned by `head`, only accessed
            // atomically.
            let target = unsafe { AtomicU64::from_ptr(to.add(8 * n).cast()) };
            target.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        // SAFETY: within the range.
        write_bytes(unsafe { to.add(8 * words.len()) }, tail);
    }

    /// Copies a value out.
    ///
    /// # Panics
    /// If it leaves the mapping.
    #[must_use]
    pub fn get<T: FromBytes + IntoBytes>(&self, offset: usize) -> T {
        let mut value = T::new_zeroed();
        self.read(offset, value.as_mut_bytes());
        value
    }

    /// Copies a value in.
    ///
    /// # Panics
    /// If it leaves the mapping, or the mapping is not for writing.
    pub fn put<T: IntoBytes + Immutable>(&self, offset: usize, value: &T) {
        self.write(offset, value.as_bytes());
    }

    /// Sets bytes to one value.
    ///
    /// # Panics
    /// If the range leaves the mapping, or the mapping is not for writing.
    pub fn fill(&self, offset: usize, bytes: usize, value: u8) {
        let block = [value; 512];
        let mut done = 0;
        while done < bytes {
            let now = (bytes - done).min(block.len());
            self.write(offset + done, &block[..now]);
            done += now;
        }
    }

    /// Reads an aligned word; what the peer wrote before it is seen after.
    ///
    /// # Panics
    /// If it leaves the mapping or is not aligned.
    #[must_use]
    pub fn load_u32(&self, offset: usize) -> u32 {
        self.word(self.at(offset, 4)).load(Ordering::Acquire)
    }

    /// Writes an aligned word; who sees it sees all that was written before.
    ///
    /// # Panics
    /// If it leaves the mapping, is not aligned, or the mapping is not for writing.
    pub fn store_u32(&self, offset: usize, value: u32) {
        self.word(self.at_mut(offset, 4))
            .store(value, Ordering::Release);
    }

    fn word(&self, at: *mut u8) -> &AtomicU32 {
        assert!(at.cast::<AtomicU32>().is_aligned(), "a word across words");
        // SAFETY: `at` is of `at` or `at_mut`, so four bytes from it are in the mapping as long as
        // `self` is borrowed; aligned, and only accessed atomically.
        unsafe { AtomicU32::from_ptr(at.cast()) }
    }
}

/// The first page as one of a byte ring.
impl ring::Page for SharedPages {
    fn read(&self, offset: usize, into: &mut [u8]) {
        Self::read(self, offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        Self::write(self, offset, from);
    }

    fn load(&self, offset: usize) -> u32 {
        self.load_u32(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        self.store_u32(offset, value);
    }
}

impl Drop for SharedPages {
    fn drop(&mut self) {
        self.region.take();
        if let Some(after) = self.after.take() {
            after();
        }
    }
}

/// Reads fewer than eight bytes, or bytes before a word begins.
fn read_bytes(from: *mut u8, into: &mut [u8]) {
    for (n, byte) in into.iter_mut().enumerate() {
        // SAFETY: the callers pass a range of their mapping; only accessed atomically.
        *byte = unsafe { AtomicU8::from_ptr(from.add(n)) }.load(Ordering::Relaxed);
    }
}

/// Writes such bytes.
fn write_bytes(to: *mut u8, from: &[u8]) {
    for (n, &byte) in from.iter().enumerate() {
        // SAFETY: as in `read_bytes`.
        unsafe { AtomicU8::from_ptr(to.add(n)) }.store(byte, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pages(count: usize) -> SharedPages {
        SharedPages::new(Region::locked(count).unwrap(), Access::Write)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(offset in 0_usize..100, bytes: Vec<u8>) {
            let shared = pages(1);
            let bytes = &bytes[..bytes.len().min(PAGE_SIZE - 100)];
            shared.write(offset, bytes);
            let mut back = vec![0; bytes.len()];
            shared.read(offset, &mut back);
            prop_assert_eq!(bytes, &back);
            // Nothing beside it changed.
            let mut all = vec![0; PAGE_SIZE];
            shared.read(0, &mut all);
            prop_assert!(all[..offset].iter().chain(&all[offset + bytes.len()..]).all(|&b| b == 0));
        }
    }

    #[test]
    fn what_follows_comes_after_unmapping() {
        let (sender, receiver) = std::sync::mpsc::channel();
        drop(pages(2).then(move || sender.send(()).unwrap()));
        receiver.try_recv().unwrap();
    }

    #[test]
    #[should_panic(expected = "leave")]
    fn a_range_outside_is_a_bug() {
        pages(1).read(PAGE_SIZE - 1, &mut [0; 2]);
    }
}
