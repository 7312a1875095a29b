//! The file of a saved domain.
//!
//! `xl`'s head, the configuration in `xl`'s form, then a block of our own that `xl` passes over
//! (checksum, and the configuration in our form), then the stream. A file that `xl` wrote has no
//! such block, and no checksum.
//!
//! A file is written beside its place, and takes it whole or not at all.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::error::{Error, Result, bad};
use super::format::{REC_END, read, read_heads, read_record, read_tail};
use super::partial::Partial;
use super::place::{Part, Place, Reader};

/// `struct save_file_header` of `xl`.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Head {
    magic: [u8; 32],
    byte_order: u32,
    mandatory_flags: u32,
    optional_flags: u32,
    /// Bytes that follow, before the stream.
    optional_bytes: u32,
}

const MAGIC: [u8; 32] = *b"Xen saved domain, xl format\n \0 \r";
const BYTE_ORDER: u32 = 0x0102_0304;
/// The configuration is libxl's JSON, not an `xl.cfg`.
const FLAG_JSON: u32 = 1 << 0;
/// The stream is one of version 2.
const FLAG_STREAM_V2: u32 = 1 << 1;

/// Our block's head; the configuration in our form follows.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Block {
    magic: [u8; 8],
    /// CRC-32 of the whole file, in which this and `file_bytes` are 0.
    checksum: u32,
    config_bytes: u32,
    file_bytes: u64,
}

const BLOCK_MAGIC: [u8; 8] = *b"oxen-sum";

/// Most bytes before the stream.
const MOST_CONFIG: u32 = 4 << 20;

/// A configuration in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// Ours.
    Toml(String),
    /// An `xl.cfg`.
    Xl(String),
    /// libxl's.
    Json(String),
}

/// Writes a file. `stream` writes the stream into it. Returns its bytes.
///
/// # Errors
/// Those of writing, and of `stream`; then there is no file, or the one that was there before.
pub fn write(
    path: &Path,
    xl: &str,
    toml: &str,
    stream: impl FnOnce(&mut dyn Write) -> Result<()>,
) -> Result<u64> {
    let part = Partial::create(path)?;
    let (head, block_at) = head(xl, toml)?;
    let mut to = Summing {
        inner: BufWriter::with_capacity(1 << 20, part.file()),
        sum: crc32fast::Hasher::new(),
        bytes: 0,
    };
    to.write_all(&head)?;
    stream(&mut to)?;
    to.inner.flush()?;
    let (sum, bytes) = (to.sum.clone().finalize(), to.bytes);
    drop(to);
    let block = Block {
        magic: BLOCK_MAGIC,
        checksum: sum,
        config_bytes: toml.len() as u32,
        file_bytes: bytes,
    };
    let mut file = part.file();
    file.seek(SeekFrom::Start(block_at))?;
    file.write_all(block.as_bytes())?;
    part.finish(path)?;
    Ok(bytes)
}

/// What comes before the stream, and where our block is in it.
fn head(xl: &str, toml: &str) -> Result<(Vec<u8>, u64)> {
    let mut head = Head::new_zeroed();
    head.magic = MAGIC;
    head.byte_order = BYTE_ORDER;
    head.mandatory_flags = FLAG_STREAM_V2;
    let optional = 4 + xl.len() + size_of::<Block>() + toml.len();
    head.optional_bytes = u32::try_from(optional)
        .ok()
        .filter(|&bytes| bytes <= MOST_CONFIG)
        .ok_or_else(|| Error::Domain("the configuration is too long to be saved".into()))?;
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend((xl.len() as u32).to_le_bytes());
    bytes.extend(xl.as_bytes());
    let block_at = bytes.len() as u64;
    let mut block = Block::new_zeroed();
    block.magic = BLOCK_MAGIC;
    block.config_bytes = toml.len() as u32;
    bytes.extend(block.as_bytes());
    bytes.extend(toml.as_bytes());
    Ok((bytes, block_at))
}

/// A file, open at its stream.
#[derive(Debug)]
pub struct Opened {
    /// The domain's configuration.
    pub config: Config,
    /// What follows it.
    pub stream: BufReader<File>,
    /// Where that begins, bytes.
    pub begins: u64,
}

/// Opens a file, at its stream. A file of ours is read through first: its checksum is right.
///
/// # Errors
/// [`Error::At`] what is wrong; those of reading.
pub fn open(path: &Path) -> Result<Opened> {
    let mut from = BufReader::with_capacity(64 << 10, File::open(path)?);
    let (part, at) = (Part::Head, 0);
    let head = read_head(&mut from).map_err(|error| error.at(Place { part, at }))?;
    let (part, at) = (Part::Configuration, size_of::<Head>() as u64);
    let (config, block) =
        read_config(&mut from, &head).map_err(|error| error.at(Place { part, at }))?;
    let begins = from.stream_position()?;
    if let Some((block, behind)) = block {
        check(&mut from, &block, begins - behind, begins)?;
        from.seek(SeekFrom::Start(begins))?;
    }
    Ok(Opened {
        config,
        stream: from,
        begins,
    })
}

fn read_head(from: &mut impl Read) -> Result<Head> {
    let head: Head = read(from)?;
    if head.magic != MAGIC {
        return bad("the file does not begin as one of xl's");
    }
    if head.byte_order != BYTE_ORDER || head.mandatory_flags & !FLAG_JSON != FLAG_STREAM_V2 {
        return bad(format!(
            "byte order {:#x}, flags {:#x}",
            head.byte_order, head.mandatory_flags
        ));
    }
    if head.optional_bytes > MOST_CONFIG {
        return bad("a configuration too long");
    }
    Ok(head)
}

/// The configuration; and our block, if there is one, and how many bytes before the stream it
/// begins.
fn read_config(from: &mut impl Read, head: &Head) -> Result<(Config, Option<(Block, u64)>)> {
    let mut optional = vec![0; head.optional_bytes as usize];
    from.read_exact(&mut optional)?;
    let (text, rest) = split_config(&optional)?;
    // xl ends its text with a NUL.
    let text = text_of(text.strip_suffix(b"\0").unwrap_or(text))?;
    if rest.is_empty() {
        let json = head.mandatory_flags & FLAG_JSON != 0;
        let config = if json { Config::Json } else { Config::Xl };
        return Ok((config(text), None));
    }
    let Ok((block, toml)) = Block::read_from_prefix(rest) else {
        return bad("something unknown behind the configuration");
    };
    if block.magic != BLOCK_MAGIC || toml.len() != block.config_bytes as usize {
        return bad("something unknown behind the configuration");
    }
    Ok((
        Config::Toml(text_of(toml)?),
        Some((block, rest.len() as u64)),
    ))
}

fn text_of(bytes: &[u8]) -> Result<String> {
    String::from_utf8(bytes.to_vec()).or_else(|_| bad("a configuration that is no text"))
}

/// The configuration, and what follows it.
fn split_config(optional: &[u8]) -> Result<(&[u8], &[u8])> {
    let parts = optional
        .split_first_chunk()
        .and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize));
    parts.map_or_else(|| bad("no configuration"), Ok)
}

/// Compares the whole file with what its block says.
fn check(from: &mut BufReader<File>, block: &Block, block_at: u64, begins: u64) -> Result<()> {
    let there = from.get_ref().metadata()?.len();
    let wrong = if there < block.file_bytes {
        Error::Truncated
    } else if there > block.file_bytes {
        other_length(there, block, block_at)
    } else {
        let sum = sum_of(from, block, block_at)?;
        if sum == block.checksum {
            return Ok(());
        }
        Error::Damaged(format!(
            "the checksum of its {there} bytes is {sum:#010x}, not {:#010x} as byte {block_at} has it",
            block.checksum
        ))
    };
    // Whoever looks for the cause begins where the stream contradicts itself, if it does.
    from.seek(SeekFrom::Start(begins))?;
    match (survey(from, begins), wrong) {
        (Err(Error::At(place, _)), wrong) => Err(wrong.at(place)),
        (Ok(()), Error::Truncated) => Err(other_length(there, block, block_at)),
        (_, wrong) => Err(wrong),
    }
}

fn other_length(there: u64, block: &Block, block_at: u64) -> Error {
    Error::Damaged(format!(
        "it has {there} bytes, not {} as byte {block_at} has it",
        block.file_bytes
    ))
}

/// Looks at the heads of a stream's records only.
fn survey(from: &mut impl Read, begins: u64) -> Result<()> {
    let mut from = Reader::new(from, begins);
    let heads = |from: &mut Reader<_>| {
        read_heads(from)?;
        let mut body = Vec::new();
        while read_record(from, &mut body)? != REC_END {}
        read_tail(from)
    };
    heads(&mut from).map_err(|error| error.at(from.place()))
}

/// The checksum that a file should have.
fn sum_of(from: &mut BufReader<File>, block: &Block, block_at: u64) -> Result<u32> {
    let mut cleared = *block;
    cleared.checksum = 0;
    cleared.file_bytes = 0;
    let mut sum = crc32fast::Hasher::new();
    from.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![0; 64 << 10];
    let mut before = from.by_ref().take(block_at);
    sum_up(&mut before, &mut sum, &mut buffer)?;
    sum.update(cleared.as_bytes());
    from.seek_relative(size_of::<Block>() as i64)?;
    sum_up(from, &mut sum, &mut buffer)?;
    Ok(sum.finalize())
}

fn sum_up(from: &mut impl Read, sum: &mut crc32fast::Hasher, buffer: &mut [u8]) -> Result<()> {
    loop {
        match from.read(buffer)? {
            0 => return Ok(()),
            bytes => sum.update(&buffer[..bytes]),
        }
    }
}

/// Counts and sums what is written.
struct Summing<W> {
    inner: W,
    sum: crc32fast::Hasher,
    bytes: u64,
}

impl<W: Write> Write for Summing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn saved(folder: &Path) -> PathBuf {
        let path = folder.join("saved");
        write(&path, "name = 'g'\n", "name = \"g\"\n", |to| {
            Ok(to.write_all(&[7; 100])?)
        })
        .unwrap();
        path
    }

    #[test]
    fn a_file_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut opened = open(&saved(folder.path())).unwrap();
        assert_eq!(opened.config, Config::Toml("name = \"g\"\n".into()));
        let mut content = Vec::new();
        opened.stream.read_to_end(&mut content).unwrap();
        assert_eq!(content, [7; 100]);
    }

    #[test]
    fn cut_or_flipped_at_any_byte_it_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(folder.path());
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(open(&path).is_err(), "cut at {at}");
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            std::fs::write(&path, &bad).unwrap();
            assert!(open(&path).is_err(), "flipped at {at}");
        }
    }

    #[test]
    fn what_fails_leaves_the_file_that_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = saved(folder.path());
        let before = std::fs::read(&path).unwrap();
        let failed = write(&path, "", "", |_| bad("no"));
        assert!(failed.is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_that_write_one_file_at_a_time_do_not_mix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("saved");
        write(&path, "", "first", |to| {
            to.write_all(&[1; 100])?;
            let second = write(&path, "", "second", |to| Ok(to.write_all(&[2; 100])?));
            let error = second.unwrap_err().to_string();
            assert!(error.contains("being written"), "{error}");
            Ok(to.write_all(&[1; 100])?)
        })
        .unwrap();
        assert_eq!(open(&path).unwrap().config, Config::Toml("first".into()));
        write(&path, "", "second", |_| Ok(())).unwrap();
        assert_eq!(open(&path).unwrap().config, Config::Toml("second".into()));
    }
}
