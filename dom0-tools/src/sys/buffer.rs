//! Memory that hypercalls read and write.
#![allow(unsafe_code, reason = "a mapped region seen as bytes")]

use std::io;
use std::marker::PhantomData;
use std::os::fd::BorrowedFd;
use std::slice;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::PAGE_SIZE;
use super::memory::Region;

/// Zeroed pages that the kernel neither moves nor swaps, so that the hypervisor can reach them.
///
/// All that one hypercall touches lies in one buffer: its arguments' struct and the arrays that
/// struct points to. [`Buffer::put`] places them one after another.
#[derive(Debug)]
pub struct Buffer {
    region: Region,
    used: usize,
}

/// Where a value, or an array of them, lies in a [`Buffer`].
#[derive(Debug)]
pub struct Slot<T: ?Sized> {
    offset: usize,
    bytes: usize,
    address: u64,
    of: PhantomData<fn() -> Box<T>>,
}

impl<T: ?Sized> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: ?Sized> Copy for Slot<T> {}

impl<T: ?Sized> Slot<T> {
    /// Its virtual address, as the hypervisor is told it.
    #[must_use]
    pub const fn address(self) -> u64 {
        self.address
    }
}

/// Every slot begins at a multiple of this many bytes.
const SLOT_ALIGN: usize = 16;

impl Buffer {
    /// Pages of the device made for this.
    pub(super) fn of_device(device: BorrowedFd<'_>, bytes: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let pages = bytes.div_ceil(PAGE_SIZE).max(1);
        Ok(Self::new(Region::of_file(device, 0, pages, protection)?))
    }

    /// Anonymous pages, locked.
    ///
    /// # Errors
    /// `ENOMEM`, `EAGAIN`: no memory, or more than the process may lock.
    pub fn locked(bytes: usize) -> io::Result<Self> {
        Ok(Self::new(Region::locked(bytes.div_ceil(PAGE_SIZE).max(1))?))
    }

    const fn new(region: Region) -> Self {
        Self { region, used: 0 }
    }

    /// Bytes needed for slots of these sizes.
    #[must_use]
    pub fn bytes_for(sizes: &[usize]) -> usize {
        let slots = sizes.iter().map(|s| s.next_multiple_of(SLOT_ALIGN));
        slots.sum()
    }

    /// Bytes it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.region.bytes()
    }

    /// Whether it has none; never so.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Address of its first byte.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.region.start().as_ptr().addr() as u64
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the region is readable, initialised memory of this process alone; the hypervisor
        // writes it only during a call that holds the buffer by `&mut`.
        unsafe { slice::from_raw_parts(self.region.start().as_ptr(), self.region.bytes()) }
    }

    /// All of it.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; and `&mut self` excludes other references.
        unsafe { slice::from_raw_parts_mut(self.region.start().as_ptr(), self.region.bytes()) }
    }

    /// The bytes at an address of the process, if the buffer has them all: for fakes, which follow
    /// the addresses that a hypervisor would.
    #[must_use]
    pub fn at_mut(&mut self, address: u64, bytes: usize) -> Option<&mut [u8]> {
        let offset = usize::try_from(address.checked_sub(self.address())?).ok()?;
        self.bytes_mut().get_mut(offset..offset.checked_add(bytes)?)
    }

    /// Places `bytes` zeroed bytes.
    ///
    /// # Panics
    /// If the buffer has not that much left: the caller made it too small.
    pub fn space(&mut self, bytes: usize) -> Slot<[u8]> {
        let offset = self.used;
        let end = offset.checked_add(bytes).filter(|&end| end <= self.len());
        let end = end.expect("the buffer was made for all its slots");
        self.used = end.next_multiple_of(SLOT_ALIGN);
        Slot {
            offset,
            bytes,
            address: self.address() + offset as u64,
            of: PhantomData,
        }
    }

    /// Places a value.
    ///
    /// # Panics
    /// As [`Buffer::space`].
    pub fn put<T: IntoBytes + Immutable>(&mut self, value: &T) -> Slot<T> {
        self.place(value.as_bytes())
    }

    /// Places an array.
    ///
    /// # Panics
    /// As [`Buffer::space`].
    pub fn put_all<T: IntoBytes + Immutable>(&mut self, values: &[T]) -> Slot<[T]> {
        self.place(values.as_bytes())
    }

    fn place<T: ?Sized>(&mut self, bytes: &[u8]) -> Slot<T> {
        let Slot {
            offset,
            bytes: length,
            address,
            ..
        } = self.space(bytes.len());
        self.bytes_mut()[offset..offset + length].copy_from_slice(bytes);
        Slot {
            offset,
            bytes: length,
            address,
            of: PhantomData,
        }
    }

    /// Writes a value anew, in the place of a slot.
    pub fn set<T: IntoBytes + Immutable>(&mut self, slot: Slot<T>, value: &T) {
        self.slot_mut(slot).copy_from_slice(value.as_bytes());
    }

    /// The value in a slot.
    ///
    /// # Panics
    /// If the slot is of another buffer.
    #[must_use]
    pub fn get<T: FromBytes>(&self, slot: Slot<T>) -> T {
        T::read_from_bytes(self.slot(slot)).expect("slots have the size of their type")
    }

    /// The array in a slot.
    ///
    /// # Panics
    /// If the slot is of another buffer.
    #[must_use]
    pub fn get_all<T: FromBytes>(&self, slot: Slot<[T]>) -> Vec<T> {
        let elements = self.slot(slot).chunks_exact(size_of::<T>());
        let value = |bytes| T::read_from_bytes(bytes).expect("chunks have the element's size");
        elements.map(value).collect()
    }

    /// The bytes of a slot.
    ///
    /// # Panics
    /// If the slot is of another buffer.
    #[must_use]
    pub fn slot<T: ?Sized>(&self, slot: Slot<T>) -> &[u8] {
        &self.bytes()[slot.offset..slot.offset + slot.bytes]
    }

    fn slot_mut<T: ?Sized>(&mut self, slot: Slot<T>) -> &mut [u8] {
        &mut self.bytes_mut()[slot.offset..slot.offset + slot.bytes]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_keep_their_values() {
        let mut buffer = Buffer::locked(Buffer::bytes_for(&[3, 8, 16])).unwrap();
        let bytes = buffer.put(&[1_u8, 2, 3]);
        let word = buffer.put(&7_u64);
        let array = buffer.put_all(&[1_u64, 2]);
        buffer.set(word, &9);
        assert_eq!(buffer.get(bytes), [1, 2, 3]);
        assert_eq!(buffer.get(word), 9);
        assert_eq!(buffer.get_all(array), [1, 2]);
        assert_eq!(array.address() % 16, 0);
        assert_eq!(
            buffer.at_mut(word.address(), 8),
            Some(&mut [9, 0, 0, 0, 0, 0, 0, 0][..])
        );
    }

    #[test]
    fn addresses_outside_are_refused() {
        let mut buffer = Buffer::locked(1).unwrap();
        let (start, end) = (buffer.address(), buffer.address() + buffer.len() as u64);
        assert!(buffer.at_mut(start - 1, 1).is_none());
        assert!(buffer.at_mut(end - 1, 2).is_none());
        assert!(buffer.at_mut(u64::MAX, usize::MAX).is_none());
    }
}
