//! Memory that a backend may use.

use alloc::vec::Vec;
use core::fmt;

use super::{PAGE, SECTOR};
use crate::ring::Page;

/// Bytes for a request, in pages that the backend may use at any time. From [`Disk::buffer`].
///
/// [`Disk::buffer`]: super::Disk::buffer
pub struct Buffer<G> {
    pub(super) pages: Vec<G>,
    len: usize,
    /// The connection it was made for.
    pub(super) epoch: u32,
}

impl<G> fmt::Debug for Buffer<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

impl<G: Page> Buffer<G> {
    /// As many bytes of whole pages as asked for: not more than they have.
    pub(super) fn new(pages: Vec<G>, len: usize, epoch: u32) -> Self {
        let len = len.min(pages.len() * PAGE);
        Self { pages, len, epoch }
    }

    /// Bytes; a multiple of 512.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none; never so.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies bytes in.
    ///
    /// # Panics
    /// If the range leaves the buffer.
    pub fn write(&mut self, offset: usize, from: &[u8]) {
        self.check(offset, from.len());
        let mut rest = from;
        for (page, at, count) in pieces(offset, from.len()) {
            let (now, later) = rest.split_at(count);
            self.pages[page].write(at, now);
            rest = later;
        }
    }

    /// Copies bytes out.
    ///
    /// # Panics
    /// If the range leaves the buffer.
    pub fn read(&self, offset: usize, into: &mut [u8]) {
        self.check(offset, into.len());
        let count = into.len();
        let mut rest = into;
        for (page, at, count) in pieces(offset, count) {
            let (now, later) = rest.split_at_mut(count);
            self.pages[page].read(at, now);
            rest = later;
        }
    }

    fn check(&self, offset: usize, count: usize) {
        let end = offset.checked_add(count);
        assert!(
            end.is_some_and(|end| end <= self.len),
            "{count} bytes at {offset} leave {self:?}"
        );
    }

    /// The last sector, in its page, of each page that has bytes.
    pub(super) fn last_sectors(&self) -> impl Iterator<Item = (&G, u8)> {
        let len = self.len;
        self.pages.iter().enumerate().map(move |(n, page)| {
            let bytes = (len - n * PAGE).min(PAGE);
            // At most 8 sectors a page.
            (page, (bytes / SECTOR - 1) as u8)
        })
    }
}

/// Splits a range into what lies in each page: the page, the first byte in it, the count.
fn pieces(offset: usize, count: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    let end = offset + count;
    let mut at = offset;
    core::iter::from_fn(move || {
        let count = (PAGE - at % PAGE).min(end - at);
        let piece = (at / PAGE, at % PAGE, count);
        at += count;
        (count != 0).then_some(piece)
    })
}
