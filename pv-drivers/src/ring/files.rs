//! The rings of a shared file system: a page with indices, and pages of bytes, half of them for each
//! direction.
//!
//! Source: Xen `include/public/io/9pfs.h`, `DEFINE_XEN_FLEX_RING` in `ring.h`.

use alloc::vec::Vec;

use super::lane::Lane;
use super::{Consumer, Corrupt, Page, Producer};

const PAGE: usize = 4096;

// Offsets in the page of indices.
const IN_CONS: usize = 0;
const IN_PROD: usize = 4;
const OUT_CONS: usize = 64;
const OUT_PROD: usize = 68;
const ORDER: usize = 128;
const REFERENCES: usize = 132;

/// Most pages of bytes, as a power of two: so many references fit.
pub const MOST_ORDER: u32 = 9;

/// The page of indices, and behind it the pages of bytes.
#[derive(Debug)]
struct Memory<P> {
    indices: P,
    bytes: Vec<P>,
}

impl<P: Page> Memory<P> {
    /// What lies in each page of bytes: the page, the first byte in it, the count.
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

    /// Half of the bytes, which is a direction's.
    fn half(&self) -> usize {
        self.bytes.len() * PAGE / 2
    }

    /// To the guest.
    fn input(&self) -> Lane {
        Lane {
            data: PAGE,
            size: self.half() as u32,
            cons: IN_CONS,
            prod: IN_PROD,
        }
    }

    /// From the guest.
    fn output(&self) -> Lane {
        Lane {
            data: PAGE + self.half(),
            cons: OUT_CONS,
            prod: OUT_PROD,
            ..self.input()
        }
    }
}

/// Offsets below a page are those of the indices, which are words.
impl<P: Page> Page for Memory<P> {
    fn read(&self, offset: usize, into: &mut [u8]) {
        let mut rest = into;
        for (page, at, count) in Self::pieces(offset - PAGE, rest.len()) {
            let (now, later) = rest.split_at_mut(count);
            self.bytes[page].read(at, now);
            rest = later;
        }
    }

    fn write(&self, offset: usize, from: &[u8]) {
        let mut rest = from;
        for (page, at, count) in Self::pieces(offset - PAGE, rest.len()) {
            let (now, later) = rest.split_at(count);
            self.bytes[page].write(at, now);
            rest = later;
        }
    }

    fn load(&self, offset: usize) -> u32 {
        self.indices.load(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        self.indices.store(offset, value);
    }
}

/// The guest's side.
#[derive(Debug)]
pub struct FilesClient<P> {
    memory: Memory<P>,
    output: Producer,
    input: Consumer,
}

impl<P: Page> FilesClient<P> {
    /// Empty rings in pages that the server does not use yet: one for indices, which tells it the
    /// others by their references, and `2^order` of bytes.
    ///
    /// # Panics
    /// If the pages of bytes are no power of two, fewer than two, or more than [`MOST_ORDER`] says.
    pub fn new(indices: P, bytes: Vec<P>, reference: impl Fn(&P) -> u32) -> Self {
        let order = bytes.len().trailing_zeros();
        assert!(
            bytes.len().is_power_of_two() && (1..=MOST_ORDER).contains(&order),
            "no ring has {} pages",
            bytes.len()
        );
        for word in [IN_CONS, IN_PROD, OUT_CONS, OUT_PROD] {
            indices.store(word, 0);
        }
        indices.store(ORDER, order);
        for (n, page) in bytes.iter().enumerate() {
            indices.store(REFERENCES + n * 4, reference(page));
        }
        let memory = Memory { indices, bytes };
        Self {
            output: Producer::attach(memory.output(), &memory),
            input: Consumer::attach(memory.input(), &memory),
            memory,
        }
    }

    /// Bytes of each direction.
    pub fn size(&self) -> usize {
        self.memory.half()
    }

    /// The page of indices.
    pub const fn indices(&self) -> &P {
        &self.memory.indices
    }

    /// Sends as many bytes as fit; returns how many. If any, notify the server.
    ///
    /// # Errors
    /// [`Corrupt`]: the server made the indices impossible.
    pub fn put(&mut self, from: &[u8]) -> Result<usize, Corrupt> {
        self.output.put(&self.memory, from)
    }

    /// Takes as many bytes as wait and fit; returns how many.
    ///
    /// # Errors
    /// [`Corrupt`]: the server made the indices impossible.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, Corrupt> {
        self.input.take(&self.memory, into)
    }
}

/// The side that serves.
#[derive(Debug)]
pub struct FilesServer<P> {
    memory: Memory<P>,
    requests: Consumer,
    replies: Producer,
}

impl<P: Page> FilesServer<P> {
    /// The references of the pages of bytes that a client's page of indices tells; none if their
    /// number cannot be.
    pub fn references(indices: &P) -> Option<Vec<u32>> {
        let order = indices.load(ORDER);
        (1..=MOST_ORDER).contains(&order).then(|| {
            let places = (0..1 << order).map(|n| REFERENCES + n * 4);
            places.map(|place| indices.load(place)).collect()
        })
    }

    /// Takes the rings over as they stand; as many pages of bytes as there are
    /// [`references`](Self::references).
    pub fn attach(indices: P, bytes: Vec<P>) -> Self {
        let memory = Memory { indices, bytes };
        Self {
            requests: Consumer::attach(memory.output(), &memory),
            replies: Producer::attach(memory.input(), &memory),
            memory,
        }
    }

    /// Takes as many bytes as wait and fit; returns how many. If any, notify the client.
    ///
    /// # Errors
    /// [`Corrupt`]: the client made the indices impossible.
    pub fn take(&mut self, into: &mut [u8]) -> Result<usize, Corrupt> {
        self.requests.take(&self.memory, into)
    }

    /// Sends as many bytes as fit; returns how many. If any, notify the client.
    ///
    /// # Errors
    /// [`Corrupt`]: the client made the indices impossible.
    pub fn put(&mut self, from: &[u8]) -> Result<usize, Corrupt> {
        self.replies.put(&self.memory, from)
    }
}
