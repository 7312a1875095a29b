//! Prints what the loader makes of a kernel file: `inspect FILE [MiB] [initrd bytes]`.

use pv_image::plan::Kind;
use pv_image::{KernelFile, KernelImage, Plan, Request};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("which file?")?;
    let mebibytes: u64 = args.next().map_or(Ok(512), |s| s.parse())?;
    let initrd_size = args.next().map_or(Ok(10_000_000), |s| s.parse())?;
    let file = std::fs::read(path)?;
    let mut buffer = Vec::new();
    let elf = match KernelFile::open(&file)? {
        KernelFile::Plain(elf) => elf,
        KernelFile::Packed(packed) => {
            println!(
                "{:?}, {} bytes",
                packed.compression(),
                packed.unpacked_size()
            );
            buffer.resize(packed.unpacked_size(), 0);
            packed.unpack(&mut buffer)?
        }
    };
    let image = KernelImage::parse(elf)?;
    println!("{:x?}", image.notes);
    println!(
        "entry {:x}, {:x}..{:x}",
        image.entry, image.start, image.end
    );
    for s in &image.segments {
        println!("  {:x}: {:x} of {:x} bytes", s.va, s.data.len(), s.mem_size);
    }
    for kind in [Kind::Dom0, Kind::DomU] {
        let nr_pages = mebibytes << 8;
        let plan = Plan::new(
            &image,
            &Request {
                kind,
                nr_pages,
                initrd_size,
            },
        )?;
        println!("{plan:#x?}");
        println!("{} entries", plan.entries().count());
    }
    Ok(())
}
