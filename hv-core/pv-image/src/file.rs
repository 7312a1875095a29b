//! Kernel files: ELF, bzImage, or an ELF file compressed as a whole.
//!
//! bzImage: Linux `Documentation/x86/boot.rst`, protocol 2.08 and later. The payload ends in four
//! bytes with its unpacked size.

use crate::Error;
use alloc::boxed::Box;

/// Most bytes a decompressor may allocate. A window of 128 MiB, the largest of zstd's, takes half as
/// much more while its buffer grows.
pub const MEMORY_LIMIT: usize = 200 << 20;
/// Largest unpacked kernel accepted, in bytes.
pub const MAX_UNPACKED: usize = 1 << 30;

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// XZ (LZMA2, with or without the x86 filter).
    Xz,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// LZ4, legacy frames.
    Lz4,
}

impl Compression {
    /// The compression whose magic number the data starts with.
    #[must_use]
    pub fn of(data: &[u8]) -> Option<Self> {
        const MAGICS: [(&[u8], Compression); 4] = [
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], Compression::Xz),
            (&[0x1f, 0x8b, 8], Compression::Gzip),
            (&[0x28, 0xb5, 0x2f, 0xfd], Compression::Zstd),
            (&[0x02, 0x21, 0x4c, 0x18], Compression::Lz4),
        ];
        MAGICS
            .iter()
            .find(|(magic, _)| data.starts_with(magic))
            .map(|&(_, compression)| compression)
    }
}

/// A compressed kernel.
#[derive(Clone, Copy, Debug)]
pub struct Packed<'a> {
    data: &'a [u8],
    compression: Compression,
    unpacked_size: usize,
}

/// What a kernel file holds.
#[derive(Clone, Copy, Debug)]
pub enum KernelFile<'a> {
    /// The ELF file itself.
    Plain(&'a [u8]),
    /// A compressed ELF file.
    Packed(Packed<'a>),
}

impl<'a> KernelFile<'a> {
    /// Looks into a kernel file.
    ///
    /// # Errors
    /// [`Error::UnknownFile`], [`Error::BadBzImage`], [`Error::UnknownCompression`].
    pub fn open(file: &'a [u8]) -> Result<Self, Error> {
        if file.starts_with(b"\x7fELF") {
            return Ok(Self::Plain(file));
        }
        if let Some(compression) = Compression::of(file) {
            // Only gzip says how large the result is (its last four bytes).
            return match compression {
                Compression::Gzip => Packed::new(file, compression).map(Self::Packed),
                _ => Err(Error::UnknownFile),
            };
        }
        let payload = bzimage_payload(file)?;
        if payload.starts_with(b"\x7fELF") {
            return Ok(Self::Plain(payload));
        }
        let compression = Compression::of(payload).ok_or(Error::UnknownCompression)?;
        Packed::new(payload, compression).map(Self::Packed)
    }
}

impl<'a> Packed<'a> {
    fn new(data: &'a [u8], compression: Compression) -> Result<Self, Error> {
        let (body, size) = data.split_last_chunk().ok_or(Error::BadCompression)?;
        let unpacked_size = u32::from_le_bytes(*size) as usize;
        if unpacked_size > MAX_UNPACKED {
            return Err(Error::BadCompression);
        }
        // gzip's own trailer ends in the size; to the others the build appended it.
        let data = if compression == Compression::Gzip {
            data
        } else {
            body
        };
        Ok(Self {
            data,
            compression,
            unpacked_size,
        })
    }

    /// How it is compressed.
    #[must_use]
    pub const fn compression(&self) -> Compression {
        self.compression
    }

    /// Bytes of the unpacked kernel, as the file says (at most [`MAX_UNPACKED`]).
    #[must_use]
    pub const fn unpacked_size(&self) -> usize {
        self.unpacked_size
    }

    /// Unpacks into `buffer` and returns the part of it that was filled.
    ///
    /// Allocates a window of up to [`MEMORY_LIMIT`] bytes on the way (32 MiB for Debian's kernel).
    ///
    /// # Errors
    /// [`Error::BufferTooSmall`] if `buffer` is shorter than [`Packed::unpacked_size`],
    /// [`Error::BadCompression`] if the data is damaged, unpacks to another size or needs too much
    /// memory, [`Error::UnknownCompression`] if this build leaves the format out.
    pub fn unpack<'b>(&self, buffer: &'b mut [u8]) -> Result<&'b [u8], Error> {
        let out = buffer
            .get_mut(..self.unpacked_size)
            .ok_or(Error::BufferTooSmall)?;
        let filled = match self.compression {
            Compression::Xz => unpack_xz(self.data, out)?,
            #[cfg(feature = "gzip")]
            Compression::Gzip => unpack_gzip(self.data, out)?,
            #[cfg(feature = "zstd")]
            Compression::Zstd => unpack_zstd(self.data, out)?,
            #[cfg(feature = "lz4")]
            Compression::Lz4 => unpack_lz4(self.data, out)?,
            #[allow(
                unreachable_patterns,
                reason = "formats are optional features of the crate"
            )]
            _ => return Err(Error::UnknownCompression),
        };
        if filled == out.len() {
            Ok(out)
        } else {
            Err(Error::BadCompression)
        }
    }
}

/// The protected-mode payload of a bzImage.
fn bzimage_payload(file: &[u8]) -> Result<&[u8], Error> {
    const SETUP_SECTS: usize = 0x1f1;
    const MAGIC: usize = 0x202;
    const VERSION: usize = 0x206;
    const PAYLOAD_OFFSET: usize = 0x248;
    const PAYLOAD_LENGTH: usize = 0x24c;
    let u32_at = |at: usize| {
        let bytes = file.get(at..)?.first_chunk()?;
        Some(u32::from_le_bytes(*bytes))
    };
    if file.get(MAGIC..MAGIC + 4) != Some(b"HdrS") {
        return Err(Error::UnknownFile);
    }
    let version = u32_at(VERSION).ok_or(Error::BadBzImage)? & 0xffff;
    if version < 0x208 {
        return Err(Error::BadBzImage);
    }
    let sectors = match file.get(SETUP_SECTS) {
        Some(0) => 4,
        Some(&n) => usize::from(n),
        None => return Err(Error::BadBzImage),
    };
    let offset = u32_at(PAYLOAD_OFFSET).ok_or(Error::BadBzImage)? as usize;
    let length = u32_at(PAYLOAD_LENGTH).ok_or(Error::BadBzImage)? as usize;
    let start = (sectors + 1) * 512 + offset;
    start
        .checked_add(length)
        .and_then(|end| file.get(start..end))
        .ok_or(Error::BadBzImage)
}

fn unpack_xz(data: &[u8], out: &mut [u8]) -> Result<usize, Error> {
    use lzma_rust2::Read;
    let limit_kib = u32::try_from(MEMORY_LIMIT >> 10).unwrap_or(u32::MAX);
    let mut reader = lzma_rust2::XzReader::new_mem_limit(data, false, limit_kib);
    let mut filled = 0;
    while filled < out.len() {
        match reader.read(&mut out[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(_) => return Err(Error::BadCompression),
        }
    }
    // The check value follows the last byte: read on to have it compared.
    match reader.read(&mut [0]) {
        Ok(0) => Ok(filled),
        _ => Err(Error::BadCompression),
    }
}

/// RFC 1952: header with optional fields, one deflate stream, CRC-32 and size.
#[cfg(feature = "gzip")]
fn unpack_gzip(data: &[u8], out: &mut [u8]) -> Result<usize, Error> {
    use miniz_oxide::inflate::{TINFLStatus, core};
    let stream = gzip_stream(data).ok_or(Error::BadCompression)?;
    let (stream, trailer) = stream.split_last_chunk().ok_or(Error::BadCompression)?;
    let [c0, c1, c2, c3, ..]: [u8; 8] = *trailer;
    let mut state = Box::new(core::DecompressorOxide::new());
    let flags = core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, taken, filled) = core::decompress(&mut state, stream, out, 0, flags);
    let whole = status == TINFLStatus::Done && taken == stream.len();
    if whole && crc32fast::hash(&out[..filled]) == u32::from_le_bytes([c0, c1, c2, c3]) {
        Ok(filled)
    } else {
        Err(Error::BadCompression)
    }
}

/// What follows the gzip header.
#[cfg(feature = "gzip")]
fn gzip_stream(data: &[u8]) -> Option<&[u8]> {
    const HEADER_CRC: u8 = 1 << 1;
    const EXTRA: u8 = 1 << 2;
    const NAME: u8 = 1 << 3;
    const COMMENT: u8 = 1 << 4;
    let flags = *data.get(3)?;
    let mut rest = data.get(10..)?;
    if flags & EXTRA != 0 {
        let (len, after) = rest.split_first_chunk()?;
        rest = after.get(usize::from(u16::from_le_bytes(*len))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&b| b == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

/// One frame, as a kernel's build makes it, compared with its checksum if it has one.
#[cfg(feature = "zstd")]
fn unpack_zstd(mut data: &[u8], out: &mut [u8]) -> Result<usize, Error> {
    use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
    use ruzstd::io::Read;
    /// The largest that packers use without being told to.
    const WINDOW: u64 = 128 << 20;
    let bad = |_| Error::BadCompression;
    let mut decoder = Box::new(FrameDecoder::new());
    decoder.set_max_window_size(WINDOW);
    decoder.init(&mut data).map_err(bad)?;
    let mut filled = 0;
    loop {
        // Block by block: its buffer doubles when it holds two blocks more than a window.
        let block = BlockDecodingStrategy::UptoBlocks(1);
        let last = decoder.decode_blocks(&mut data, block).map_err(bad)?;
        filled += decoder
            .read(&mut out[filled..])
            .map_err(|_| Error::BadCompression)?;
        if decoder.can_collect() != 0 {
            return Err(Error::BadCompression);
        }
        if last {
            break;
        }
    }
    let right = decoder
        .get_checksum_from_data()
        .is_none_or(|said| decoder.get_calculated_checksum() == Some(said));
    if right && data.is_empty() {
        Ok(filled)
    } else {
        Err(Error::BadCompression)
    }
}

/// LZ4 legacy frame: magic, then blocks of at most 8 MiB, each after its compressed size.
#[cfg(feature = "lz4")]
fn unpack_lz4(data: &[u8], out: &mut [u8]) -> Result<usize, Error> {
    const BLOCK: usize = 8 << 20;
    let mut rest = data.get(4..).ok_or(Error::BadCompression)?;
    let mut filled = 0;
    while let Some((size, after)) = rest.split_first_chunk() {
        let size = u32::from_le_bytes(*size) as usize;
        let block = after.get(..size).ok_or(Error::BadCompression)?;
        let end = out.len().min(filled + BLOCK);
        filled += lz4_flex::block::decompress_into(block, &mut out[filled..end])
            .map_err(|_| Error::BadCompression)?;
        rest = &after[size..];
    }
    Ok(filled)
}
