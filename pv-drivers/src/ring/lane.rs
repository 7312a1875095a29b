//! One direction of a byte ring.

use core::fmt;

use super::Page;

/// The peer's index is impossible: more bytes than the ring has, or fewer than none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the ring's indices are impossible")
    }
}

impl core::error::Error for Corrupt {}

/// Where a lane lies in its page: offsets in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    /// Of the bytes.
    pub data: usize,
    /// How many: a power of two.
    pub size: u32,
    /// Of the consumer's index.
    pub cons: usize,
    /// Of the producer's index.
    pub prod: usize,
}

impl Lane {
    /// The part of a run of `length` bytes from `index` that lies before the ring's end.
    fn first_run(self, index: u32, length: usize) -> (usize, usize) {
        let start = (index & (self.size - 1)) as usize;
        (start, length.min(self.size as usize - start))
    }

    /// `prod - cons`, if the ring can hold so much.
    fn filled(self, prod: u32, cons: u32) -> Result<u32, Corrupt> {
        let filled = prod.wrapping_sub(cons);
        if filled <= self.size {
            Ok(filled)
        } else {
            Err(Corrupt)
        }
    }
}

/// The end that takes bytes out.
#[derive(Clone, Copy, Debug)]
pub struct Consumer {
    lane: Lane,
    cons: u32,
}

impl Consumer {
    /// Goes on where the page says that consumption stands.
    pub(super) fn attach(lane: Lane, page: &impl Page) -> Self {
        let cons = page.load(lane.cons);
        Self { lane, cons }
    }

    /// Bytes that wait.
    ///
    /// # Errors
    /// [`Corrupt`]: the peer's index is impossible.
    pub fn waiting(&self, page: &impl Page) -> Result<usize, Corrupt> {
        let filled = self.lane.filled(page.load(self.lane.prod), self.cons)?;
        Ok(filled as usize)
    }

    /// Goes on at an index of which this side knows better than the page.
    pub(super) fn attach_at(lane: Lane, cons: u32, page: &impl Page) -> Self {
        page.store(lane.cons, cons);
        Self { lane, cons }
    }

    /// Where consumption stands.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.cons
    }

    /// Copies as many bytes as wait and fit, which stay in the ring; returns how many.
    ///
    /// # Errors
    /// [`Corrupt`]: the peer's index is impossible.
    pub fn peek(&self, page: &impl Page, into: &mut [u8]) -> Result<usize, Corrupt> {
        let count = self.waiting(page)?.min(into.len());
        let (start, run) = self.lane.first_run(self.cons, count);
        let (head, tail) = into[..count].split_at_mut(run);
        page.read(self.lane.data + start, head);
        page.read(self.lane.data, tail);
        Ok(count)
    }

    /// Lets the peer have the room of so many bytes that were peeked at.
    pub fn advance(&mut self, page: &impl Page, count: usize) {
        if count != 0 {
            self.cons = self.cons.wrapping_add(count as u32);
            // Release: the peer overwrites these bytes only after they were read.
            page.store(self.lane.cons, self.cons);
        }
    }

    /// Takes out as many bytes as wait and fit; returns how many.
    ///
    /// # Errors
    /// [`Corrupt`]: the peer's index is impossible; nothing was taken.
    pub fn take(&mut self, page: &impl Page, into: &mut [u8]) -> Result<usize, Corrupt> {
        let count = self.peek(page, into)?;
        self.advance(page, count);
        Ok(count)
    }

    /// Begins anew at 0, as a fresh ring does.
    pub(super) fn reset(&mut self, page: &impl Page) {
        self.cons = 0;
        page.store(self.lane.cons, 0);
        page.store(self.lane.prod, 0);
    }
}

/// The end that puts bytes in.
#[derive(Clone, Copy, Debug)]
pub struct Producer {
    lane: Lane,
    prod: u32,
}

impl Producer {
    /// Goes on where the page says that production stands.
    pub(super) fn attach(lane: Lane, page: &impl Page) -> Self {
        let prod = page.load(lane.prod);
        Self { lane, prod }
    }

    /// Where production stands.
    #[must_use]
    pub const fn index(&self) -> u32 {
        self.prod
    }

    /// Bytes that fit.
    ///
    /// # Errors
    /// [`Corrupt`]: the peer's index is impossible.
    pub fn room(&self, page: &impl Page) -> Result<usize, Corrupt> {
        let filled = self.lane.filled(self.prod, page.load(self.lane.cons))?;
        Ok((self.lane.size - filled) as usize)
    }

    /// Puts in as many bytes as fit; returns how many.
    ///
    /// # Errors
    /// [`Corrupt`]: the peer's index is impossible; nothing was put.
    pub fn put(&mut self, page: &impl Page, from: &[u8]) -> Result<usize, Corrupt> {
        let count = self.room(page)?.min(from.len());
        if count == 0 {
            return Ok(0);
        }
        let (start, run) = self.lane.first_run(self.prod, count);
        let (head, tail) = from[..count].split_at(run);
        page.write(self.lane.data + start, head);
        page.write(self.lane.data, tail);
        self.prod = self.prod.wrapping_add(count as u32);
        // Release: the bytes are there before the index that covers them.
        page.store(self.lane.prod, self.prod);
        Ok(count)
    }

    /// Begins anew at 0, as a fresh ring does.
    pub(super) fn reset(&mut self, page: &impl Page) {
        self.prod = 0;
        page.store(self.lane.prod, 0);
        page.store(self.lane.cons, 0);
    }
}
