//! Messages: a length, a kind, a tag, and what the kind has. All numbers are little-endian.

use alloc::vec::Vec;

/// Bytes of length, kind and tag.
pub const HEADER: usize = 7;
/// The tag of a message that has none.
pub const NO_TAG: u16 = u16::MAX;
/// The number of no file.
pub const NO_FID: u32 = u32::MAX;
/// Most names of one walk.
pub const MOST_NAMES: usize = 16;
/// The dialect.
pub const VERSION: &str = "9P2000.L";

/// Kinds of requests; an answer's is one more, or [`REFUSED`].
pub const OPEN: u8 = 12;
pub const CREATE: u8 = 14;
pub const ATTRIBUTES: u8 = 24;
pub const VERSIONS: u8 = 100;
pub const ATTACH: u8 = 104;
pub const WALK: u8 = 110;
pub const READ: u8 = 116;
pub const WRITE: u8 = 118;
pub const CLUNK: u8 = 120;
/// The answer that tells an error's number.
pub const REFUSED: u8 = 7;

/// A message that ends too early, or too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// A message in the making.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// With its header.
    pub fn new(kind: u8, tag: u16) -> Self {
        Self([0, 0, 0, 0, kind].into()).u16(tag)
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn u16(self, number: u16) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    pub fn u32(self, number: u32) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    pub fn u64(self, number: u64) -> Self {
        self.bytes(&number.to_le_bytes())
    }

    /// A text of at most 65535 bytes; of a longer one its beginning.
    pub fn text(self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        self.u16(length).bytes(&bytes[..usize::from(length)])
    }

    /// With its length.
    pub fn finish(mut self) -> Vec<u8> {
        // No request is longer than the rings.
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_le_bytes());
        self.0
    }
}

/// What of a message was not read yet.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array().map(u8::from_le_bytes)
    }

    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A text's bytes.
    pub fn text(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.u16()?;
        self.bytes(usize::from(length))
    }

    /// A file's identity: kind, version, number.
    pub fn qid(&mut self) -> Result<(), Malformed> {
        self.bytes(13).map(drop)
    }

    /// Nothing may follow.
    pub const fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}
