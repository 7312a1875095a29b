//! Names for code addresses, so that a backtrace can be read.
//!
//! The linker script keeps a section, `.oxen.symbols`, whose contents are filled in
//! after the link from the file's own symbol table. All numbers are little endian:
//!
//! | bytes | what |
//! |---|---|
//! | 0-3 | the letters `OXSY` |
//! | 4-7 | number of entries, *n* |
//! | 8 + 8*i*, 4 bytes | entry *i*: first byte of the function, from the image's first byte on |
//! | 12 + 8*i*, 4 bytes | where its name is, from the section's first byte on |
//! | there | the name: one byte of length, then so many bytes of UTF-8 |
//!
//! Entries are sorted by address. Names are demangled, without the hash. A section
//! that was never filled is all zeros and names nothing.

use crate::sync::Once;
use core::fmt;

/// How a filled section begins.
const MAGIC: &[u8] = b"OXSY";
/// Bytes before the entries.
const HEADER: usize = 8;
/// Bytes of an entry.
const ENTRY: usize = 8;

static TABLE: Once<Table> = Once::new();

/// A filled section, and where the image is.
#[derive(Debug)]
struct Table {
    bytes: &'static [u8],
    image: u64,
}

/// Makes the section's names known; `image` is the virtual address of the image's
/// first byte. The first call counts.
pub fn install(bytes: &'static [u8], image: u64) {
    TABLE.call_once(|| Table { bytes, image });
}

/// Shows a code address with the name of its function, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Name(pub u64);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)?;
        let found = TABLE.get().and_then(|t| {
            let offset = u32::try_from(self.0.checked_sub(t.image)?).ok()?;
            lookup(t.bytes, offset)
        });
        match found {
            Some((name, inside)) => write!(f, " {name}+{inside:#x}"),
            None => Ok(()),
        }
    }
}

/// The function that the byte at `offset` of the image is in, and how far in.
fn lookup(table: &[u8], offset: u32) -> Option<(&str, u32)> {
    let word = |at: usize| {
        let bytes = table.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if !table.starts_with(MAGIC) {
        return None;
    }
    let entry = |i: usize| word(HEADER + i * ENTRY);
    // Binary search for the last entry that is not above.
    let (mut low, mut high) = (0, word(4)? as usize);
    while low < high {
        let middle = usize::midpoint(low, high);
        if entry(middle)? <= offset {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let found = low.checked_sub(1)?;
    let name = table.get(word(HEADER + found * ENTRY + 4)? as usize..)?;
    let (len, rest) = name.split_first()?;
    let name = core::str::from_utf8(rest.get(..usize::from(*len))?).ok()?;
    Some((name, offset - entry(found)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn table(symbols: &[(u32, &str)]) -> Vec<u8> {
        let mut out = Vec::from(MAGIC);
        out.extend((symbols.len() as u32).to_le_bytes());
        let mut names = Vec::new();
        for (at, name) in symbols {
            out.extend(at.to_le_bytes());
            out.extend(((HEADER + symbols.len() * ENTRY + names.len()) as u32).to_le_bytes());
            names.push(name.len() as u8);
            names.extend(name.as_bytes());
        }
        out.extend(names);
        out
    }

    #[test]
    fn finds_the_function_an_address_is_in() {
        let t = table(&[(0x1000, "first"), (0x1200, "second"), (0x3000, "third")]);
        assert_eq!(lookup(&t, 0xfff), None);
        assert_eq!(lookup(&t, 0x1000), Some(("first", 0)));
        assert_eq!(lookup(&t, 0x11ff), Some(("first", 0x1ff)));
        assert_eq!(lookup(&t, 0x1234), Some(("second", 0x34)));
        assert_eq!(lookup(&t, u32::MAX), Some(("third", u32::MAX - 0x3000)));
        assert_eq!(lookup(&table(&[]), 5), None);
    }

    #[test]
    fn an_empty_or_broken_section_names_nothing() {
        assert_eq!(lookup(&[0; 64], 0x1000), None);
        let t = table(&[(0x1000, "first"), (0x1200, "second")]);
        for len in 0..t.len() - 1 {
            let _ = lookup(&t[..len], 0x1000);
            let _ = lookup(&t[..len], 0x5000);
        }
    }
}
