//! Kernel files: containers and compressions.

mod synthetic;

use pv_image::file::Compression;
use pv_image::{Error, KernelFile};
use synthetic::{bzimage, packed};

fn unpack(file: &[u8]) -> Result<Vec<u8>, Error> {
    match KernelFile::open(file)? {
        KernelFile::Plain(elf) => Ok(elf.to_vec()),
        KernelFile::Packed(packed) => {
            let mut buffer = vec![0; packed.unpacked_size() + 10];
            packed.unpack(&mut buffer).map(<[u8]>::to_vec)
        }
    }
}

fn formats() -> Vec<(Compression, Vec<u8>)> {
    let mut formats = vec![(Compression::Xz, packed::bytes(packed::XZ))];
    if cfg!(feature = "gzip") {
        formats.push((Compression::Gzip, packed::bytes(packed::GZIP)));
    }
    if cfg!(feature = "zstd") {
        formats.push((Compression::Zstd, packed::bytes(packed::ZSTD)));
    }
    if cfg!(feature = "lz4") {
        formats.push((Compression::Lz4, packed::bytes(packed::LZ4)));
    }
    formats
}

fn file_of(compression: Compression, data: &[u8], size: u32) -> Vec<u8> {
    if compression == Compression::Gzip {
        // Its last four bytes are the size already.
        let body = data.len() - 4;
        bzimage(&data[..body], size)
    } else {
        bzimage(data, size)
    }
}

#[test]
#[cfg_attr(miri, ignore = "no unsafe code here, and very slow")]
fn every_compression_in_a_bzimage() {
    let plain = packed::plain();
    for (compression, data) in formats() {
        assert_eq!(Compression::of(&data), Some(compression));
        let file = file_of(compression, &data, plain.len() as u32);
        assert_eq!(unpack(&file).as_deref(), Ok(&*plain), "{compression:?}");
    }
}

#[test]
fn a_gzipped_file_without_bzimage() {
    if cfg!(feature = "gzip") {
        let unpacked = unpack(&packed::bytes(packed::GZIP));
        assert_eq!(unpacked.as_deref(), Ok(&*packed::plain()));
    }
}

#[test]
#[cfg_attr(miri, ignore = "no unsafe code here, and very slow")]
fn a_wrong_size_is_noticed() {
    let size = packed::plain().len() as u32;
    for (compression, data) in formats() {
        for wrong in [0, size - 1, size + 1, u32::MAX] {
            let file = file_of(compression, &data, wrong);
            assert_eq!(unpack(&file), Err(Error::BadCompression), "{compression:?}");
        }
    }
}

#[test]
fn a_small_buffer_is_refused() {
    let plain = packed::plain();
    for (compression, data) in formats() {
        let file = file_of(compression, &data, plain.len() as u32);
        let Ok(KernelFile::Packed(packed)) = KernelFile::open(&file) else {
            panic!("not packed");
        };
        let mut buffer = vec![0; plain.len() - 1];
        assert_eq!(packed.unpack(&mut buffer), Err(Error::BufferTooSmall));
    }
}

#[test]
#[cfg_attr(miri, ignore = "no unsafe code here, and very slow")]
fn damage_is_noticed_or_harmless() {
    let plain = packed::plain();
    for (compression, data) in formats() {
        for at in 0..data.len() {
            for flip in [1, 0x80] {
                let mut data = data.clone();
                data[at] ^= flip;
                let file = file_of(compression, &data, plain.len() as u32);
                let result = unpack(&file);
                if compression == Compression::Xz {
                    assert_ne!(result.as_deref(), Ok(&plain[1..]), "byte {at}");
                    assert!(result.is_err() || result.as_deref() == Ok(&*plain));
                }
            }
            let cut = file_of(compression, &data[..at.max(4)], plain.len() as u32);
            assert!(unpack(&cut).is_err() || at + 8 >= data.len(), "byte {at}");
        }
    }
}

#[test]
fn a_huge_window_is_refused() {
    // xz: LZMA2 dictionary of 4 GiB. Block header: size, flags, filter 0x21, 1 property byte, CRC.
    let mut data = packed::bytes(packed::XZ);
    let start = data.windows(2).position(|w| w == [0x21, 1]).unwrap();
    data[start + 2] = 40;
    let header = 12..12 + (usize::from(data[12]) + 1) * 4;
    let crc = crc32(&data[header.start..header.end - 4]);
    data[header.end - 4..header.end].copy_from_slice(&crc.to_le_bytes());
    let file = bzimage(&data, packed::plain().len() as u32);
    assert_eq!(unpack(&file), Err(Error::BadCompression));
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 }
        })
    })
}

#[test]
#[cfg_attr(miri, ignore = "no unsafe code here, and very slow")]
fn bad_headers() {
    let good = bzimage(&packed::bytes(packed::XZ), 1222);
    let change = |at: usize, bytes: &[u8]| {
        let mut file = good.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        KernelFile::open(&file).map(|_| ())
    };
    assert_eq!(change(0x202, b"SrdH"), Err(Error::UnknownFile));
    assert_eq!(change(0x206, &[7, 2]), Err(Error::BadBzImage));
    assert_eq!(change(0x24c, &[0xff; 4]), Err(Error::BadBzImage));
    assert_eq!(change(0x248, &[0xff; 4]), Err(Error::BadBzImage));
    assert_eq!(change(0x248, &[0x41, 0, 0, 0]), Err(Error::BadBzImage));
    // Zero sectors mean four.
    assert_eq!(change(0x1f1, &[0]), Ok(()));
    for len in 0..good.len() {
        assert!(KernelFile::open(&good[..len]).is_err());
    }
}
