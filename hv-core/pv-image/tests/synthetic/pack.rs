//! Packers: a kernel as each of the formats a bzImage may hold.
#![allow(dead_code, reason = "each user uses a part of it")]

use pv_image::file::Compression;

/// All formats.
pub const FORMATS: [Compression; 4] = [
    Compression::Xz,
    Compression::Gzip,
    Compression::Zstd,
    Compression::Lz4,
];

/// A bzImage of these contents.
pub fn bzimage(plain: &[u8], compression: Compression) -> Vec<u8> {
    let size = plain.len() as u32;
    let packed = pack(plain, compression);
    match compression {
        // It ends in the size by itself.
        Compression::Gzip => super::synthetic::bzimage(&packed[..packed.len() - 4], size),
        _ => super::synthetic::bzimage(&packed, size),
    }
}

/// Packed contents, without the size that a bzImage adds.
pub fn pack(plain: &[u8], compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Xz => xz(plain),
        Compression::Gzip => gzip(plain),
        Compression::Zstd => {
            let level = ruzstd::encoding::CompressionLevel::Fastest;
            ruzstd::encoding::compress_to_vec(plain, level)
        }
        Compression::Lz4 => lz4(plain),
    }
}

fn xz(plain: &[u8]) -> Vec<u8> {
    use lzma_rust2::Write;
    let mut options = lzma_rust2::XzOptions::with_preset(1);
    options.lzma_options.dict_size = 1 << 16;
    options.set_check_sum_type(lzma_rust2::CheckType::Crc32);
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), options).expect("options of xz");
    writer.write_all(plain).expect("memory");
    writer.finish().expect("memory")
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    file.extend(miniz_oxide::deflate::compress_to_vec(plain, 6));
    file.extend(crc32(plain).to_le_bytes());
    file.extend((plain.len() as u32).to_le_bytes());
    file
}

fn lz4(plain: &[u8]) -> Vec<u8> {
    let mut file = vec![0x02, 0x21, 0x4c, 0x18];
    for block in plain.chunks(8 << 20) {
        let packed = lz4_flex::block::compress(block);
        file.extend((packed.len() as u32).to_le_bytes());
        file.extend(packed);
    }
    file
}

/// CRC-32 as gzip and xz have it, bit by bit.
pub fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 }
        })
    })
}
