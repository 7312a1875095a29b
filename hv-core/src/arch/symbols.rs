//! Names for code addresses, so that a backtrace can be read.
//!
//! The linker script keeps a section, `.oxen.symbols`, whose contents are filled in
//! after the link from the file's own symbol table (`cargo xtask build`). It is a
//! `Header` and then so many `Symbol`s by ascending address, in postcard's encoding:
//! numbers of seven bits a byte, strings as length and UTF-8. Names are demangled,
//! without the hash. A section that was never filled is all zeros, which is version 0.

use crate::sync::Once;
use core::fmt;
use postcard::take_from_bytes;
use serde::Deserialize;

/// Version of the format.
const VERSION: u32 = 1;

/// How a section begins.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Header {
    /// Version of the format.
    version: u32,
    /// Symbols that follow.
    count: u32,
}

/// One function.
#[derive(Clone, Copy, Debug, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
struct Symbol<'a> {
    /// Bytes from the symbol before (from the image's first byte) to this one.
    distance: u32,
    /// Its name.
    name: &'a str,
}

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
    let (header, mut rest): (Header, _) = take_from_bytes(table).ok()?;
    if header.version != VERSION {
        return None;
    }
    let mut start = 0_u32;
    let mut found = None;
    for _ in 0..header.count {
        let (symbol, behind): (Symbol<'_>, _) = take_from_bytes(rest).ok()?;
        start = start.checked_add(symbol.distance)?;
        let Some(inside) = offset.checked_sub(start) else {
            break;
        };
        found = Some((symbol.name, inside));
        rest = behind;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn table(symbols: &[(u32, &str)]) -> Vec<u8> {
        let header = Header {
            version: VERSION,
            count: symbols.len() as u32,
        };
        let mut out = postcard::to_extend(&header, Vec::new()).unwrap();
        let mut before = 0;
        for (at, name) in symbols {
            let distance = at - core::mem::replace(&mut before, *at);
            out = postcard::to_extend(&Symbol { distance, name }, out).unwrap();
        }
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
