//! Kernel files made to take all memory. One test alone: the peak is the process's.

#[path = "synthetic/pack.rs"]
mod pack;
mod synthetic;

use pack::{FORMATS, crc32};
use peak_alloc::PeakAlloc;
use pv_image::file::{Compression, MEMORY_LIMIT};
use pv_image::{Error, KernelFile};
use synthetic::{LINUX, bzimage};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Bytes that unpacking takes beside the file and the buffer, and its outcome.
fn memory_of(data: &[u8], size: u32) -> (usize, Result<usize, Error>) {
    let file = bzimage(data, size);
    let mut buffer = vec![0; size as usize];
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let outcome = match KernelFile::open(&file) {
        Ok(KernelFile::Packed(packed)) => packed.unpack(&mut buffer).map(<[u8]>::len),
        Ok(KernelFile::Plain(_)) => panic!("not packed"),
        Err(error) => Err(error),
    };
    (MEMORY.peak_usage() - before, outcome)
}

/// A frame of zstd with a window of `2^log` bytes, and that many blocks of 128 KiB of zeroes.
fn zstd_bomb(log: u8, blocks: usize) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3];
    for n in 1..=blocks {
        let head: u32 = u32::from(n == blocks) | 1 << 1 | (128 << 10) << 3;
        frame.extend(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

/// A stream of xz that asks for a dictionary of a size that `property` tells.
fn xz_bomb(property: u8) -> Vec<u8> {
    let mut data = pack::pack(&LINUX.elf(), Compression::Xz);
    let start = data.windows(2).position(|w| w == [0x21, 1]).unwrap();
    data[start + 2] = property;
    let end = 12 + (usize::from(data[12]) + 1) * 4;
    let crc = crc32(&data[12..end - 4]);
    data[end - 4..end].copy_from_slice(&crc.to_le_bytes());
    data
}

#[test]
#[cfg_attr(miri, ignore = "no unsafe code here, and very slow")]
fn a_bomb_takes_no_more_memory_than_it_may() {
    const MIB: usize = 1 << 20;
    let zeroes = vec![0; 8 * MIB];
    for compression in FORMATS {
        let data = pack::pack(&zeroes, compression);
        // It says how much it is.
        let mut cut = data.clone();
        if compression == Compression::Gzip {
            cut.truncate(data.len() - 4);
        }
        let (bytes, outcome) = memory_of(&cut, zeroes.len() as u32);
        assert_eq!(outcome, Ok(zeroes.len()), "{compression:?}");
        assert!(bytes < 20 * MIB, "{compression:?}: {bytes}");
        // It says that it is a page.
        let (bytes, outcome) = memory_of(&cut, 4096);
        assert_eq!(outcome, Err(Error::BadCompression), "{compression:?}");
        assert!(bytes < 20 * MIB, "{compression:?}: {bytes}");
    }
    // A few KiB that ask for the largest window, and fill it.
    for log in [20, 26, 27, 28, 41] {
        let blocks = (1 << log.min(27) >> 17) + 16;
        let size = blocks * (128 << 10);
        let (bytes, outcome) = memory_of(&zstd_bomb(log, blocks), size as u32);
        assert_eq!(outcome.is_ok(), log <= 27, "2^{log}: {outcome:?}");
        assert!(bytes <= MEMORY_LIMIT, "2^{log}: {bytes}");
    }
    for property in [0, 20, 28, 29, 30, 31, 39, 40] {
        let size = LINUX.elf().len() as u32;
        let (bytes, _) = memory_of(&xz_bomb(property), size);
        assert!(bytes <= MEMORY_LIMIT, "xz, {property}: {bytes}");
    }
}
