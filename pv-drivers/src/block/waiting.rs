//! Operations that wait for the backend.

use alloc::vec::Vec;
use core::ops::Range;
use core::time::Duration;

use super::queue::{Completion, Operation, Tag};
use super::{Disk, Error, SECTOR};
use crate::device::Platform;

/// A part of a long transfer: its request, and which bytes of the caller's it moves.
struct Part {
    tag: Tag,
    bytes: Range<usize>,
}

/// The caller's bytes.
enum Bytes<'a> {
    Into(&'a mut [u8]),
    From(&'a [u8]),
}

impl Bytes<'_> {
    const fn len(&self) -> usize {
        match self {
            Self::Into(bytes) => bytes.len(),
            Self::From(bytes) => bytes.len(),
        }
    }
}

impl<P: Platform> Disk<P> {
    /// Waits until the disk is connected.
    ///
    /// # Errors
    /// [`Error::TimedOut`], and those of [`poll`](Self::poll).
    pub fn connect(&mut self) -> Result<(), Error> {
        let until = self.deadline();
        loop {
            self.poll()?;
            if self.connected().is_ok() {
                return Ok(());
            }
            if self.is_closed() {
                return Err(Error::Disconnected);
            }
            self.sleep(until)?;
        }
    }

    /// Reads sectors of 512 bytes from the given one on.
    ///
    /// # Errors
    /// Any; what `into` then holds is not known.
    pub fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), Error> {
        self.transfer(sector, Bytes::Into(into))
    }

    /// Writes sectors of 512 bytes from the given one on. They are durable after the next
    /// [`flush`](Self::flush), or at once if the backend has [no such](super::Flush::None).
    ///
    /// # Errors
    /// Any; which of the sectors were written is not known.
    pub fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), Error> {
        self.transfer(sector, Bytes::From(from))
    }

    /// Makes durable what was written.
    ///
    /// # Errors
    /// Any.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.single(|| Operation::Flush)
    }

    /// Gives sectors up: what they hold does not matter any more.
    ///
    /// # Errors
    /// Any.
    pub fn discard(&mut self, sectors: Range<u64>, secure: bool) -> Result<(), Error> {
        self.single(|| Operation::Discard {
            sectors: sectors.clone(),
            secure,
        })
    }

    fn deadline(&self) -> Duration {
        self.platform().now().saturating_add(self.options.patience)
    }

    /// Sleeps until something may have happened.
    fn sleep(&mut self, until: Duration) -> Result<(), Error> {
        if self.arm()? {
            return Ok(());
        }
        if self.platform().now() >= until {
            return Err(Error::TimedOut);
        }
        self.platform().wait(until);
        Ok(())
    }

    /// Does `work`, and does it again if the guest is restored meanwhile: what the old backend did
    /// of it nobody knows, and doing it twice changes nothing.
    fn wherever(
        &mut self,
        mut work: impl FnMut(&mut Self) -> Result<(), Error>,
    ) -> Result<(), Error> {
        loop {
            if self.is_moving() {
                self.connect()?;
            }
            match work(self) {
                Err(Error::Disconnected) if self.is_moving() => {}
                done => return done,
            }
        }
    }

    /// An operation without data.
    fn single(&mut self, operation: impl Fn() -> Operation<P::Page>) -> Result<(), Error> {
        self.wherever(|disk| disk.single_once(&operation))
    }

    fn single_once(&mut self, operation: &impl Fn() -> Operation<P::Page>) -> Result<(), Error> {
        let until = self.deadline();
        let tag = loop {
            self.poll()?;
            match self.submit(0, operation()) {
                Ok(tag) => break tag,
                Err(rejected) if rejected.error == Error::Busy => self.sleep(until)?,
                Err(rejected) => return Err(rejected.error),
            }
        };
        self.push();
        loop {
            self.poll()?;
            if let Some(completion) = self.take(|done| done == tag) {
                return completion.result;
            }
            if let Err(error) = self.sleep(until) {
                self.abandon(tag);
                return Err(error);
            }
        }
    }

    /// Takes a completion out, wherever it stands.
    fn take(&mut self, wanted: impl Fn(Tag) -> bool) -> Option<Completion<P::Page>> {
        let place = self.done.iter().position(|done| wanted(done.tag))?;
        self.done.remove(place)
    }

    fn abandon(&mut self, tag: Tag) {
        if let Some(queue) = self.queues.get_mut(tag.queue) {
            queue.abandon(tag);
        }
    }

    fn transfer(&mut self, sector: u64, mut bytes: Bytes<'_>) -> Result<(), Error> {
        self.wherever(|disk| {
            let mut parts = Vec::new();
            let done = disk.parts(sector, &mut bytes, &mut parts);
            // After an error some are still under way.
            for part in parts {
                disk.abandon(part.tag);
                disk.take(|tag| tag == part.tag);
            }
            done
        })
    }

    /// Keeps as many requests under way as there is room for, until all bytes are moved.
    fn parts(
        &mut self,
        sector: u64,
        bytes: &mut Bytes<'_>,
        parts: &mut Vec<Part>,
    ) -> Result<(), Error> {
        let total = bytes.len();
        if !total.is_multiple_of(SECTOR) {
            return Err(Error::Unaligned);
        }
        let mut begun = 0;
        let mut until = self.deadline();
        self.poll()?;
        while begun < total || !parts.is_empty() {
            let mut progress = false;
            while begun < total {
                match self.begin_part(sector, bytes, begun) {
                    Ok(part) => {
                        begun = part.bytes.end;
                        parts.push(part);
                        progress = true;
                    }
                    // Others under way will make room.
                    Err(Error::Busy) if self.outstanding() > 0 => break,
                    Err(error) => return Err(error),
                }
            }
            self.push();
            self.poll()?;
            while let Some(completion) = self.take(|tag| parts.iter().any(|p| p.tag == tag)) {
                self.end_part(completion, bytes, parts)?;
                progress = true;
            }
            if progress {
                until = self.deadline();
            } else {
                self.sleep(until)?;
            }
        }
        Ok(())
    }

    /// Begins the transfer of the bytes from `at` on, as many as one request can.
    fn begin_part(&mut self, sector: u64, bytes: &Bytes<'_>, at: usize) -> Result<Part, Error> {
        let geometry = self.connected()?;
        let mut count = (bytes.len() - at).min(geometry.most_bytes());
        let queue = self.turn % self.queues.len().max(1);
        let mut buffer = loop {
            match self.buffer(queue, count) {
                Ok(buffer) => break buffer,
                // Half as many pages may be there.
                Err(Error::Busy) if count > super::PAGE && self.outstanding() == 0 => {
                    count = (count / 2).next_multiple_of(super::PAGE);
                }
                Err(error) => return Err(error),
            }
        };
        let first = (at / SECTOR) as u64;
        let sector = sector.checked_add(first).ok_or(Error::OutOfRange)?;
        let operation = match bytes {
            Bytes::Into(_) => Operation::Read { sector, buffer },
            Bytes::From(from) => {
                buffer.write(0, &from[at..at + count]);
                Operation::Write { sector, buffer }
            }
        };
        match self.submit(queue, operation) {
            Ok(tag) => {
                self.turn = self.turn.wrapping_add(1);
                Ok(Part {
                    tag,
                    bytes: at..at + count,
                })
            }
            Err(rejected) => {
                if let Some(buffer) = rejected.buffer {
                    self.recycle(queue, buffer);
                }
                Err(rejected.error)
            }
        }
    }

    fn end_part(
        &mut self,
        completion: Completion<P::Page>,
        bytes: &mut Bytes<'_>,
        parts: &mut Vec<Part>,
    ) -> Result<(), Error> {
        let Some(place) = parts.iter().position(|part| part.tag == completion.tag) else {
            return Ok(());
        };
        let part = parts.swap_remove(place);
        if let Some(buffer) = completion.buffer {
            if let (Bytes::Into(into), Ok(())) = (bytes, completion.result) {
                buffer.read(0, &mut into[part.bytes]);
            }
            self.recycle(part.tag.queue, buffer);
        }
        completion.result
    }
}
