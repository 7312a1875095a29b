//! The parts of ELF64 that loading a kernel needs, bounds-checked.
//!
//! Source: System V ABI, "Object files"; AMD64 supplement.

use crate::Error;
use zerocopy::{FromBytes, Immutable, KnownLayout};

const EM_X86_64: u16 = 62;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
pub const PT_LOAD: u32 = 1;
pub const PT_NOTE: u32 = 4;
pub const SHT_NOTE: u32 = 7;
/// Headers of each kind that are read; a kernel has about five segments and fifty sections.
const MAX_HEADERS: u16 = 256;

#[derive(Clone, Copy, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Ehdr {
    ident: [u8; 16],
    kind: u16,
    machine: u16,
    version: u32,
    entry: u64,
    phoff: u64,
    shoff: u64,
    flags: u32,
    ehsize: u16,
    phentsize: u16,
    phnum: u16,
    shentsize: u16,
    shnum: u16,
    shstrndx: u16,
}

/// Program header.
#[derive(Clone, Copy, Debug, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Phdr {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub vaddr: u64,
    pub paddr: u64,
    pub filesz: u64,
    pub memsz: u64,
    pub align: u64,
}

/// Section header.
#[derive(Clone, Copy, Debug, FromBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Shdr {
    pub name: u32,
    pub kind: u32,
    pub flags: u64,
    pub addr: u64,
    pub offset: u64,
    pub size: u64,
    pub link: u32,
    pub info: u32,
    pub align: u64,
    pub entsize: u64,
}

/// An ELF file whose header has been checked.
#[derive(Clone, Copy)]
pub struct Elf<'a> {
    file: &'a [u8],
    header: Ehdr,
}

impl<'a> Elf<'a> {
    pub fn parse(file: &'a [u8]) -> Result<Self, Error> {
        let (header, _) = Ehdr::read_from_prefix(file).map_err(|_| Error::NotX86Elf)?;
        // Magic, 64-bit, little endian.
        if header.ident[..6] != *b"\x7fELF\x02\x01"
            || header.machine != EM_X86_64
            || !matches!(header.kind, ET_EXEC | ET_DYN)
        {
            return Err(Error::NotX86Elf);
        }
        if header.phnum > MAX_HEADERS {
            return Err(Error::TooManyHeaders);
        }
        Ok(Self { file, header })
    }

    pub const fn entry(&self) -> u64 {
        self.header.entry
    }

    /// Program headers; one outside the file is an error.
    pub fn segments(&self) -> impl Iterator<Item = Result<Phdr, Error>> + use<'a> {
        let Self { file, header } = *self;
        (0..header.phnum).map(move |i| entry(file, header.phoff, header.phentsize, i))
    }

    /// Section headers; one outside the file is an error.
    pub fn sections(&self) -> impl Iterator<Item = Result<Shdr, Error>> + use<'a> {
        let Self { file, header } = *self;
        // Sections are a fallback only; a file with an absurd number of them has none.
        let count = if header.shnum > MAX_HEADERS {
            0
        } else {
            header.shnum
        };
        (0..count).map(move |i| entry(file, header.shoff, header.shentsize, i))
    }

    /// `size` bytes of the file from `offset`.
    pub fn bytes(&self, offset: u64, size: u64) -> Result<&'a [u8], Error> {
        let start = usize::try_from(offset).map_err(|_| Error::BadElf)?;
        let size = usize::try_from(size).map_err(|_| Error::BadElf)?;
        let end = start.checked_add(size).ok_or(Error::BadElf)?;
        self.file.get(start..end).ok_or(Error::BadElf)
    }

    /// Contents of the section called `name`.
    pub fn section(&self, name: &[u8]) -> Option<&'a [u8]> {
        let strings = self
            .sections()
            .nth(usize::from(self.header.shstrndx))?
            .ok()?;
        let strings = self.bytes(strings.offset, strings.size).ok()?;
        self.sections().filter_map(Result::ok).find_map(|s| {
            let from = strings.get(s.name as usize..)?;
            let end = from.iter().position(|&b| b == 0)?;
            if &from[..end] == name {
                self.bytes(s.offset, s.size).ok()
            } else {
                None
            }
        })
    }
}

/// Entry `index` of a header table.
fn entry<T: FromBytes + KnownLayout + Immutable>(
    file: &[u8],
    table: u64,
    entry_size: u16,
    index: u16,
) -> Result<T, Error> {
    if usize::from(entry_size) < size_of::<T>() {
        return Err(Error::BadElf);
    }
    let offset = u64::from(entry_size) * u64::from(index);
    table
        .checked_add(offset)
        .and_then(|at| usize::try_from(at).ok())
        .and_then(|at| file.get(at..))
        .and_then(|bytes| T::read_from_prefix(bytes).ok())
        .map(|(value, _)| value)
        .ok_or(Error::BadElf)
}
