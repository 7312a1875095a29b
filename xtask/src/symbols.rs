//! What the linker leaves to do: names for the hypervisor's backtraces, and a file
//! without anything that is not loaded.
//!
//! The table's format is described in hv-core's `arch/symbols.rs`.

use anyhow::{Context, Result, bail};
use serde::Serialize;

/// The section to fill.
const SECTION: &str = ".oxen.symbols";
/// Version of the table's format.
const VERSION: u32 = 1;
/// Longest name, in bytes; if the table does not fit, the shorter ones are tried.
const NAME_LIMITS: [usize; 4] = [120, 60, 40, 24];

/// Source of ELF numbers: System V ABI, ELF-64 object file format.
const SYMBOL_TABLE: u32 = 2;
const LOAD: u32 = 1;
const TYPE_NONE: u8 = 0;
const TYPE_FUNCTION: u8 = 2;

/// A section header, as far as it matters.
struct Section {
    name: u32,
    kind: u32,
    address: u64,
    offset: usize,
    size: usize,
    link: u32,
}

/// Fills the table of names into a linked image and cuts off what is not loaded.
///
/// # Errors
/// If the file is not the ELF image that the linker script makes.
pub fn finish(elf: &[u8]) -> Result<Vec<u8>> {
    let file = File(elf);
    let sections = file.sections()?;
    let room = file.section(&sections, SECTION)?;
    let text = file.section(&sections, ".text")?;
    let code = text.address..text.address + text.size as u64;
    let image = file.first_address()?;
    let symbols = file.functions(&sections, &code, image)?;
    let tables = NAME_LIMITS.iter().map(|limit| table(&symbols, *limit));
    let table = tables
        .filter_map(Result::ok)
        .find(|t| t.len() <= room.size)
        .with_context(|| format!("{SECTION} is too small for {} names", symbols.len()))?;
    let mut out = elf
        .get(..file.loaded_end()?)
        .context("the image is cut off")?
        .to_vec();
    out.get_mut(room.offset..room.offset + table.len())
        .context("the table lies outside the image")?
        .copy_from_slice(&table);
    // No section headers any more.
    out[0x28..0x30].fill(0);
    out[0x3c..0x40].fill(0);
    Ok(out)
}

/// How the table begins.
#[derive(Serialize)]
struct Header {
    version: u32,
    count: u32,
}

/// One function of the table.
#[derive(Serialize)]
struct Symbol<'a> {
    /// Bytes from the one before.
    distance: u32,
    name: &'a str,
}

/// The table's bytes; names longer than `limit` lose their beginning.
fn table(symbols: &[(u32, String)], limit: usize) -> Result<Vec<u8>> {
    let header = Header {
        version: VERSION,
        count: u32::try_from(symbols.len())?,
    };
    let mut out = postcard::to_extend(&header, Vec::new())?;
    let mut before = 0;
    for (offset, name) in symbols {
        let mut start = name.len().saturating_sub(limit);
        while !name.is_char_boundary(start) {
            start += 1;
        }
        let symbol = Symbol {
            distance: offset - std::mem::replace(&mut before, *offset),
            name: &name[start..],
        };
        out = postcard::to_extend(&symbol, out)?;
    }
    Ok(out)
}

/// An ELF-64 file.
struct File<'a>(&'a [u8]);

impl File<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N]> {
        let bytes = at.checked_add(N).and_then(|end| self.0.get(at..end));
        Ok(bytes.context("the ELF file is cut off")?.try_into()?)
    }

    fn u16(&self, at: usize) -> Result<u16> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Result<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64> {
        self.bytes(at).map(u64::from_le_bytes)
    }

    fn sections(&self) -> Result<Vec<Section>> {
        if self.bytes(0)? != *b"\x7fELF\x02" {
            bail!("not an ELF-64 file");
        }
        let start = self.u64(0x28)? as usize;
        let size = usize::from(self.u16(0x3a)?);
        (0..usize::from(self.u16(0x3c)?))
            .map(|i| {
                let at = start + i * size;
                Ok(Section {
                    name: self.u32(at)?,
                    kind: self.u32(at + 4)?,
                    address: self.u64(at + 16)?,
                    offset: self.u64(at + 24)? as usize,
                    size: self.u64(at + 32)? as usize,
                    link: self.u32(at + 40)?,
                })
            })
            .collect()
    }

    fn section<'s>(&self, sections: &'s [Section], name: &str) -> Result<&'s Section> {
        let names = sections
            .get(usize::from(self.u16(0x3e)?))
            .context("no section names")?;
        sections
            .iter()
            .find(|s| self.string(names, s.name) == Some(name))
            .with_context(|| format!("no section {name}"))
    }

    /// A string of a string table.
    fn string(&self, table: &Section, at: u32) -> Option<&str> {
        let rest = self.0.get(table.offset + at as usize..)?;
        let len = rest.iter().position(|b| *b == 0)?;
        std::str::from_utf8(&rest[..len]).ok()
    }

    /// Program headers of what is loaded: file offset, address, size in the file.
    fn segments(&self) -> Result<Vec<(usize, u64, usize)>> {
        let start = self.u64(0x20)? as usize;
        let size = usize::from(self.u16(0x36)?);
        let mut loads = Vec::new();
        for i in 0..usize::from(self.u16(0x38)?) {
            let at = start + i * size;
            if self.u32(at)? == LOAD {
                let offset = self.u64(at + 8)? as usize;
                loads.push((offset, self.u64(at + 16)?, self.u64(at + 32)? as usize));
            }
        }
        Ok(loads)
    }

    fn first_address(&self) -> Result<u64> {
        let lowest = self.segments()?.iter().map(|s| s.1).min();
        lowest.context("nothing to load")
    }

    fn loaded_end(&self) -> Result<usize> {
        let end = self.segments()?.iter().map(|s| s.0 + s.2).max();
        end.context("nothing to load")
    }

    /// Functions within `code`, by offset from `image`.
    fn functions(
        &self,
        sections: &[Section],
        code: &std::ops::Range<u64>,
        image: u64,
    ) -> Result<Vec<(u32, String)>> {
        let symbols = sections
            .iter()
            .find(|s| s.kind == SYMBOL_TABLE)
            .context("no symbol table")?;
        let names = sections
            .get(symbols.link as usize)
            .context("no symbol names")?;
        let mut found = Vec::new();
        for at in (symbols.offset..symbols.offset + symbols.size).step_by(24) {
            let kind = self.bytes::<1>(at + 4)?[0] & 0xf;
            let address = self.u64(at + 8)?;
            let name = self.string(names, self.u32(at)?).unwrap_or("");
            if matches!(kind, TYPE_NONE | TYPE_FUNCTION)
                && code.contains(&address)
                && !name.is_empty()
                && !name.starts_with(['.', '$'])
                && !name.starts_with("__")
            {
                found.push((u32::try_from(address - image)?, readable(name)));
            }
        }
        found.sort();
        found.dedup_by_key(|(offset, _)| *offset);
        Ok(found)
    }
}

/// A symbol's name as its author wrote it, without our own crate's.
fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name)).replace("hv_core::", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One loaded segment at 0x10000 with 0x40 bytes for the table and 0x40 of code;
    /// then string tables, symbols and section headers.
    fn sample() -> Vec<u8> {
        let mut f = vec![0u8; 0x400];
        let put = |f: &mut Vec<u8>, at: usize, bytes: &[u8]| {
            f[at..at + bytes.len()].copy_from_slice(bytes);
        };
        let put16 = |f: &mut Vec<u8>, at, v: u16| put(f, at, &v.to_le_bytes());
        let put32 = |f: &mut Vec<u8>, at, v: u32| put(f, at, &v.to_le_bytes());
        let put64 = |f: &mut Vec<u8>, at, v: u64| put(f, at, &v.to_le_bytes());
        put(&mut f, 0, b"\x7fELF\x02");
        put64(&mut f, 0x20, 0x40);
        put64(&mut f, 0x28, 0x280);
        for (at, v) in [(0x36, 56), (0x38, 1), (0x3a, 64), (0x3c, 5), (0x3e, 1)] {
            put16(&mut f, at, v);
        }
        put32(&mut f, 0x40, LOAD);
        put64(&mut f, 0x50, 0x10000);
        put64(&mut f, 0x60, 0x100);
        put(&mut f, 0x100, b"\0.oxen.symbols\0.text\0");
        put(&mut f, 0x140, b"\0_RNvCs1234_7hv_core4main\0oxen_start32\0");
        for (i, (name, address)) in [(26, 0x100e0), (1, 0x100c8), (1, 0x5)].iter().enumerate() {
            let at = 0x180 + i * 24;
            put32(&mut f, at, *name);
            f[at + 4] = TYPE_FUNCTION;
            put64(&mut f, at + 8, *address);
        }
        for (i, (name, kind, address, offset, size, link)) in [
            (0, 0, 0, 0, 0, 0),
            (0, 3, 0, 0x100, 0x20, 0),
            (1, 1, 0x10080, 0x80, 0x40, 0),
            (15, 1, 0x100c0, 0xc0, 0x40, 0),
            (0, SYMBOL_TABLE, 0, 0x180, 72, 5),
        ]
        .iter()
        .enumerate()
        {
            let at = 0x280 + i * 64;
            put32(&mut f, at, *name);
            put32(&mut f, at + 4, *kind);
            put64(&mut f, at + 16, *address);
            put64(&mut f, at + 24, *offset);
            put64(&mut f, at + 32, *size);
            put32(&mut f, at + 40, *link);
        }
        // The symbols' names: one more section.
        f.resize(0x280 + 6 * 64, 0);
        put64(&mut f, 0x280 + 5 * 64 + 24, 0x140);
        put16(&mut f, 0x3c, 6);
        f
    }

    #[test]
    fn names_go_in_and_the_rest_goes() {
        let out = finish(&sample()).unwrap();
        assert_eq!(out.len(), 0x100);
        // Version, count; then distances (seven bits a byte) and names.
        let want = b"\x01\x02\xc8\x01\x04main\x18\x0coxen_start32";
        assert_eq!(out[0x80..0x80 + want.len()], want[..]);
        assert_eq!(out[0x3c..0x40], [0; 4]);
    }

    #[test]
    fn broken_files_are_errors() {
        let whole = sample();
        for len in 0..whole.len() {
            let _ = finish(&whole[..len]);
        }
        assert!(finish(&whole[..0x200]).is_err());
        assert!(finish(b"#!/bin/sh").is_err());
    }

    #[test]
    fn long_names_keep_their_end() {
        let t = table(&[(1, "a::long::name".into())], 4).unwrap();
        assert!(t.ends_with(b"\x04name"));
    }
}
