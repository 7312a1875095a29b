//! Where in a file something is wrong.

use std::fmt;
use std::io::{self, Read};

use super::format::record_name;

/// A part of a file, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which part.
    pub part: Part,
    /// Its first byte, from the file's begin.
    pub at: u64,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What comes before the configuration.
    Head,
    /// The configuration, and the checksum with it.
    Configuration,
    /// What comes before the first record.
    StreamHead,
    /// A record, from 0, and what kind it is of; its head may be cut off.
    Record(u64, Option<u32>),
    /// What follows the last record.
    StreamEnd,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            Part::Head => f.write_str("in the file's head, which begins")?,
            Part::Configuration => f.write_str("in the configuration, which begins")?,
            Part::StreamHead => f.write_str("in the stream's head, which begins")?,
            Part::Record(number, None) => write!(f, "in record {number}, which begins")?,
            Part::Record(number, Some(kind)) => {
                write!(
                    f,
                    "in record {number} ({}), which begins",
                    record_name(kind)
                )?;
            }
            Part::StreamEnd => f.write_str("in the stream's end, which begins")?,
        }
        write!(f, " at byte {}", self.at)
    }
}

/// Reads, and knows where it is.
#[derive(Debug)]
pub(super) struct Reader<R> {
    inner: R,
    at: u64,
    place: Place,
}

impl<R: Read> Reader<R> {
    /// From here on; `at` is the first byte's place in the file.
    pub const fn new(inner: R, at: u64) -> Self {
        let part = Part::StreamHead;
        Self {
            inner,
            at,
            place: Place { part, at },
        }
    }

    /// A part begins here.
    pub const fn begin(&mut self, part: Part) {
        self.place = Place { part, at: self.at };
    }

    /// The next record begins here.
    pub const fn begin_record(&mut self) {
        let number = match self.place.part {
            Part::Record(number, _) => number + 1,
            _ => 0,
        };
        self.begin(Part::Record(number, None));
    }

    /// The record is of this kind.
    pub const fn is_record(&mut self, kind: u32) {
        if let Part::Record(number, _) = self.place.part {
            self.place.part = Part::Record(number, Some(kind));
        }
    }

    /// The part that was begun last.
    pub const fn place(&self) -> Place {
        self.place
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(into)?;
        self.at += bytes as u64;
        Ok(bytes)
    }
}
