//! Kernel files and what is planned from them.

use dom0_tools::build::Kernel;
use pv_image::plan::{Kind, Plan, Request};
use pv_image::{KernelImage, PAGE_SHIFT};

use pack::FORMATS;
use synthetic::{LINUX, Shape};

#[allow(missing_docs, reason = "shared with the tests of `pv-image`")]
#[path = "../../../../hv-core/pv-image/tests/synthetic/mod.rs"]
mod synthetic;

#[allow(missing_docs, reason = "shared with the tests of `pv-image`")]
#[path = "../../../../hv-core/pv-image/tests/synthetic/pack.rs"]
mod pack;

/// As the toolstack opens a kernel.
pub fn file(data: &[u8]) {
    if let Err(error) = Kernel::open(data.to_vec()) {
        assert!(!error.to_string().is_empty());
    }
}

/// As both builders plan a domain.
pub fn elf(data: &[u8]) {
    let Ok(image) = KernelImage::parse(data) else {
        return;
    };
    for segment in &image.segments {
        assert!(image.start <= segment.va && segment.data.len() as u64 <= segment.mem_size);
    }
    for (kind, nr_pages, initrd_size) in [
        (Kind::DomU, 0x2000, 10_000_000),
        (Kind::DomU, 16, 0),
        (Kind::Dom0, 0x4_0000, 1),
        (Kind::Dom0, u64::MAX, u64::MAX),
    ] {
        let request = Request {
            kind,
            nr_pages,
            initrd_size,
        };
        if let Ok(plan) = Plan::new(&image, &request) {
            check(&image, &plan);
        }
    }
}

/// Everything is inside the domain, and what must lie apart does.
fn check(image: &KernelImage<'_>, plan: &Plan) {
    assert!(plan.first_free_pfn <= plan.nr_pages);
    assert!(plan.v_start <= image.start && image.end <= plan.start_info.va);
    let last = plan.stack.va + (plan.stack.frames.count << PAGE_SHIFT);
    assert!(plan.start_info.va < plan.page_tables.va && last <= plan.v_end);
    for entry in plan.entries() {
        assert!(entry.index < 512 && entry.target < plan.nr_pages);
        assert!(entry.table.pfn < plan.nr_pages);
    }
}

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
        first_page: 1,
        pages: 9,
    },
];

pub fn files() -> Vec<Vec<u8>> {
    let elf = SHAPES[0].elf();
    let mut files: Vec<Vec<u8>> = FORMATS
        .into_iter()
        .map(|compression| pack::bzimage(&elf, compression))
        .collect();
    files.push(pack::pack(&elf, pv_image::file::Compression::Gzip));
    files.push(elf);
    files
}

pub fn elves() -> Vec<Vec<u8>> {
    let mut files: Vec<Vec<u8>> = SHAPES.iter().map(Shape::elf).collect();
    files.push(with_legacy_section());
    files
}

/// A kernel that says what it is in a `__xen_guest` section instead of notes.
fn with_legacy_section() -> Vec<u8> {
    const TEXT: &[u8] = b"GUEST_OS=x,XEN_VER=xen-3.0,VIRT_BASE=0x0,HYPERCALL_PAGE=0x1,\
                          FEATURES=!writable_page_tables|dom0,LOADER=generic\0";
    const NAMES: &[u8] = b"\0__xen_guest\0";
    let mut file = synthetic::elf(&[], &[(0x1000, vec![0xcc; 64], 0x9000)]);
    let text_at = file.len() as u64;
    file.extend(TEXT);
    let names_at = file.len() as u64;
    file.extend(NAMES);
    let headers_at = file.len().next_multiple_of(8);
    file.resize(headers_at + 3 * 64, 0);
    for (n, name, at, bytes) in [
        (1, 1_u32, text_at, TEXT.len()),
        (2, 0, names_at, NAMES.len()),
    ] {
        let header = headers_at + n * 64;
        file[header..header + 4].copy_from_slice(&name.to_le_bytes());
        synthetic::put64(&mut file, header + 24, at);
        synthetic::put64(&mut file, header + 32, bytes as u64);
    }
    synthetic::put64(&mut file, 40, headers_at as u64);
    synthetic::put16(&mut file, 60, 3);
    synthetic::put16(&mut file, 62, 2);
    file
}
