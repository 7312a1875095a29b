//! Kernel files cut anywhere and changed anywhere: an error or a layout that fits.

#[path = "synthetic/pack.rs"]
mod pack;
mod synthetic;

use pack::FORMATS;
use pv_image::file::Compression;
use pv_image::plan::Kind;
use pv_image::{Error, KernelFile, KernelImage, Plan, Request};
use synthetic::{LINUX, Shape};

/// A kernel of 4 MiB, as Linux's and as a unikernel's.
const SHAPES: [Shape; 2] = [
    Shape {
        first_page: 0x400,
        pages: 0x400,
        ..LINUX
    },
    Shape {
        virt_base: 0,
        init_p2m: None,
        mod_start_pfn: false,
        first_page: 0x400,
        pages: 0x400,
    },
];

fn unpack(file: &[u8]) -> Result<Vec<u8>, Error> {
    match KernelFile::open(file)? {
        KernelFile::Plain(elf) => Ok(elf.to_vec()),
        KernelFile::Packed(packed) => {
            let mut buffer = vec![0; packed.unpacked_size()];
            packed.unpack(&mut buffer).map(<[u8]>::to_vec)
        }
    }
}

/// From a file to a layout, whose parts are inside the domain; the unpacked file.
fn plan(file: &[u8]) -> Result<Vec<u8>, Error> {
    let elf = unpack(file)?;
    let image = KernelImage::parse(&elf)?;
    let request = Request {
        kind: Kind::DomU,
        nr_pages: 6144,
        initrd_size: 10_000,
    };
    let plan = Plan::new(&image, &request)?;
    assert!(plan.first_free_pfn <= plan.nr_pages);
    for segment in &image.segments {
        assert!(segment.data.len() as u64 <= segment.mem_size);
        assert!(plan.v_start <= segment.va && segment.va + segment.mem_size <= plan.start_info.va);
    }
    for entry in plan.entries() {
        assert!(entry.index < 512 && entry.target < plan.nr_pages);
    }
    Ok(elf)
}

/// A file with something wrong in it: refused, or it is what it was, as far as its format can tell.
fn check(file: &[u8], elf: &[u8], compression: Compression, what: &str) -> bool {
    match plan(file) {
        Ok(unpacked) => {
            // LZ4's legacy frames alone have no checksum.
            let same = unpacked == elf || compression == Compression::Lz4;
            assert!(same, "{compression:?}: {what}: another kernel");
            true
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "no unsafe code here, and very slow")]
fn a_packed_kernel_cut_anywhere_is_refused() {
    for shape in SHAPES {
        let elf = shape.elf();
        for compression in FORMATS {
            let file = pack::bzimage(&elf, compression);
            assert_eq!(plan(&file).as_deref(), Ok(&*elf), "{compression:?}");
            for at in 0..file.len() {
                let what = format!("cut at {at}");
                assert!(!check(&file[..at], &elf, compression, &what), "{what}");
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "no unsafe code here, and very slow")]
fn a_packed_kernel_with_any_bit_flipped_is_refused_or_the_same() {
    /// Where the payload begins, and the header's fields that count.
    const PAYLOAD: usize = 5 * 512 + 0x40;
    const FIELDS: std::ops::Range<usize> = 0x1f0..0x268;
    let elf = SHAPES[0].elf();
    for compression in FORMATS {
        let mut file = pack::bzimage(&elf, compression);
        for at in 0..file.len() {
            let counts = at >= PAYLOAD || FIELDS.contains(&at);
            let bits = if counts { 0..8 } else { at % 8..at % 8 + 1 };
            for bit in bits {
                file[at] ^= 1 << bit;
                let what = format!("bit {bit} of byte {at} flipped");
                let taken = check(&file, &elf, compression, &what);
                assert!(taken || counts, "{compression:?}: {what}: real-mode code");
                file[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "no unsafe code here, and very slow")]
fn a_plain_kernel_with_any_bit_flipped_is_refused_or_fits() {
    for shape in SHAPES {
        let mut elf = shape.elf();
        for at in 0..elf.len() {
            assert!(plan(&elf[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                elf[at] ^= 1 << bit;
                // What it asserts is what counts.
                let _ = plan(&elf);
                elf[at] ^= 1 << bit;
            }
        }
    }
}
