//! Images and the layouts planned from them.

mod synthetic;

use proptest::prelude::*;
use pv_image::plan::{Frames, Kind};
use pv_image::start_info::{Links, Ring, start_info};
use pv_image::table::Entry;
use pv_image::{Error, KernelImage, Plan, Request};
use std::collections::HashMap;
use synthetic::{LINUX, Shape, elf, note, put16};
use xen_abi::elfnote::*;

const DOM0: Request = Request {
    kind: Kind::Dom0,
    nr_pages: 0x2_0000,
    initrd_size: 10_000_000,
};

fn frames(first: u64, count: u64) -> Frames {
    Frames { first, count }
}

#[test]
fn debians_kernel_in_dom0() {
    let file = LINUX.elf();
    let image = KernelImage::parse(&file).unwrap();
    let plan = Plan::new(&image, &DOM0).unwrap();
    // As observed with Xen 4.17 and Debian's 6.1 kernel.
    assert_eq!(image.end, 0xffff_ffff_84a0_0000);
    assert_eq!(plan.start_info.va, 0xffff_ffff_84a0_0000);
    assert_eq!(plan.page_tables.va, 0xffff_ffff_84a0_1000);
    assert_eq!(plan.page_tables.frames.count, 0x29);
    assert_eq!(plan.stack.va, 0xffff_ffff_84a2_a000);
    assert_eq!(plan.v_end, 0xffff_ffff_84c0_0000);
    let initrd = plan.initrd.unwrap();
    assert_eq!(initrd.frames, frames(0x4c00, 2442));
    assert_eq!(initrd.va, None);
    // L3, L2, L1 and 0x20000 / 512 frames of the list.
    assert_eq!(plan.p2m_frames(), frames(0x4c00 + 2442, 3 + 0x100));
    assert_eq!(plan.p2m.va, 0x80_0000_0000);

    let info = start_info(
        &plan,
        0x1234_5000,
        Links::Dom0 { vga_info_size: 40 },
        b"a b",
    );
    assert_eq!(info.flags, 1 | 2 | 8);
    assert_eq!(info.dom0_console(), (1168, 40));
    assert_eq!((info.mod_start, info.mod_len), (0x4c00, 10_000_000));
    assert_eq!(&info.cmd_line[..4], b"a b\0");
    assert_eq!(
        (info.pt_base, info.nr_pt_frames),
        (plan.page_tables.va, 0x29)
    );
    assert_eq!(info.first_p2m_pfn, plan.p2m_tables.first);
}

#[test]
fn debians_kernel_in_a_domu() {
    let file = LINUX.elf();
    let image = KernelImage::parse(&file).unwrap();
    let request = Request {
        kind: Kind::DomU,
        ..DOM0
    };
    let plan = Plan::new(&image, &request).unwrap();
    assert_eq!(plan.start_info.frames.first, 0x4a00);
    assert_eq!(plan.xenstore.unwrap().frames.first, 0x4a01);
    assert_eq!(plan.console.unwrap().frames.first, 0x4a02);
    assert_eq!(plan.page_tables.frames.first, 0x4a03);
    let (store, console) = (Ring { mfn: 7, port: 1 }, Ring { mfn: 8, port: 2 });
    let info = start_info(&plan, 0, Links::DomU { store, console }, &[b'x'; 5000]);
    assert_eq!(info.flags, 0x10 | 8);
    assert_eq!((info.store_mfn, info.store_evtchn), (7, 1));
    assert_eq!((info.console_mfn, info.console_evtchn), (8, 2));
    assert_eq!(info.cmd_line[1022..], [b'x', 0]);
}

#[test]
fn an_old_kernel_has_all_in_the_boot_region() {
    let shape = Shape {
        init_p2m: None,
        mod_start_pfn: false,
        first_page: 1,
        pages: 9,
        virt_base: 0,
    };
    let file = shape.elf();
    let image = KernelImage::parse(&file).unwrap();
    let request = Request {
        kind: Kind::DomU,
        nr_pages: 0x1000,
        initrd_size: 5000,
    };
    let plan = Plan::new(&image, &request).unwrap();
    let initrd = plan.initrd.unwrap();
    assert_eq!((initrd.frames, initrd.va), (frames(10, 2), Some(0xa000)));
    assert_eq!(plan.p2m.frames, frames(12, 8));
    assert_eq!(plan.p2m_frames(), frames(0, 0));
    assert_eq!(plan.start_info.frames, frames(20, 1));
    assert_eq!(plan.v_end, 4 << 20);
    let rings = Ring { mfn: 0, port: 0 };
    let info = start_info(
        &plan,
        0,
        Links::DomU {
            store: rings,
            console: rings,
        },
        b"",
    );
    assert_eq!(
        (info.flags, info.mod_start, info.mod_len),
        (0x10, 0xa000, 5000)
    );
}

#[test]
fn slack_of_the_boot_region() {
    // The stack page ends 512 KiB before a multiple of 4 MiB: that is enough. One more is not.
    for (pages, v_end) in [(889, 4 << 20), (890, 8 << 20)] {
        let shape = Shape {
            virt_base: 0,
            first_page: 0,
            pages,
            ..LINUX
        };
        let file = shape.elf();
        let image = KernelImage::parse(&file).unwrap();
        let plan = Plan::new(&image, &DOM0).unwrap();
        // Start info, L4, L3, L2, two or four L1s, stack.
        assert_eq!(plan.v_end, v_end, "{pages} pages");
    }
}

/// The page an address translates to, and whether it may be written.
fn walk(entries: &HashMap<(u64, usize), Entry>, l4: u64, va: u64) -> Option<(u64, bool)> {
    let mut table = l4;
    let mut writable = true;
    for level in [4, 3, 2, 1] {
        let index = (va >> (12 + 9 * (level - 1)) & 511) as usize;
        let entry = entries.get(&(table, index))?;
        assert_eq!(entry.table.level, level as u32);
        table = entry.target;
        writable &= entry.writable;
    }
    Some((table, writable))
}

fn check_tables(plan: &Plan) {
    let tables: HashMap<u64, u32> = plan.tables().map(|t| (t.pfn, t.level)).collect();
    assert_eq!(tables.len(), plan.tables().count(), "a table twice");
    let l4 = plan.page_tables.frames.first;
    assert_eq!(
        plan.tables().next().map(|t| (t.pfn, t.level)),
        Some((l4, 4))
    );
    for &pfn in tables.keys() {
        let inside = plan.page_tables.frames.contains(pfn);
        assert!(inside != plan.p2m_tables.contains(pfn));
    }
    let entries: HashMap<_, _> = plan
        .entries()
        .map(|e| ((e.table.pfn, e.index), e))
        .collect();
    assert_eq!(entries.len(), plan.entries().count(), "an entry twice");
    for entry in entries.values() {
        assert_eq!(tables.get(&entry.table.pfn), Some(&entry.table.level));
        assert!(entry.index < 512 && entry.target < plan.nr_pages);
    }
    for pfn in 0..plan.boot_frames() {
        let writable = !tables.contains_key(&pfn);
        assert_eq!(walk(&entries, l4, plan.va(pfn)), Some((pfn, writable)));
    }
    for i in 0..plan.p2m.frames.count {
        let found = walk(&entries, l4, plan.p2m.va + (i << 12));
        assert_eq!(found, Some((plan.p2m.frames.first + i, true)));
    }
    let mut mapped = plan.boot_frames();
    if plan.p2m_tables.count != 0 {
        mapped += plan.p2m.frames.count;
    }
    let leaves = entries.values().filter(|e| e.table.level == 1).count();
    assert_eq!(leaves as u64, mapped);
}

/// Nothing overlaps, and everything is inside the domain.
fn check_frames(image: &KernelImage<'_>, plan: &Plan) {
    let kernel = frames(image.pfn(image.start), 0);
    let kernel = frames(kernel.first, (image.end - image.start).div_ceil(4096));
    let mut runs = vec![
        kernel,
        plan.start_info.frames,
        plan.page_tables.frames,
        plan.stack.frames,
        plan.p2m.frames,
        plan.p2m_tables,
    ];
    runs.extend(plan.initrd.map(|i| i.frames));
    runs.extend(plan.xenstore.map(|m| m.frames));
    runs.extend(plan.console.map(|m| m.frames));
    runs.retain(|r| r.count != 0);
    runs.sort_by_key(|r| r.first);
    for pair in runs.windows(2) {
        assert!(pair[0].end() <= pair[1].first, "{pair:?}");
    }
    assert!(runs.last().unwrap().end() <= plan.first_free_pfn);
    assert!(plan.first_free_pfn <= plan.nr_pages);
    assert!(plan.v_end - plan.stack_top() >= 512 << 10);
    assert!(plan.v_end.is_multiple_of(4 << 20));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 96 }))]

    #[test]
    #[cfg_attr(miri, ignore = "no unsafe code here, and very slow")]
    fn tables_map_what_the_plan_says(
        base in prop::sample::select(vec![
            0, 0x10_0000, 0x3fff_f000, 0x7f_ffe0_0000, 0xffff_ffff_8000_0000, 0xffff_8800_0000_0000,
        ]),
        p2m in prop::option::of(prop::sample::select(vec![
            0x80_0000_0000u64, 0x100_3fe0_0000, 0xffff_9000_0000_0000,
        ])),
        mod_start_pfn: bool,
        dom0: bool,
        first_page in 0u64..3000,
        pages in 1u64..3000,
        more in 0u64..20_000,
        initrd_size in prop_oneof![Just(0), 1u64..5_000_000],
    ) {
        let shape = Shape { virt_base: base, init_p2m: p2m, mod_start_pfn, first_page, pages };
        let file = shape.elf();
        let image = KernelImage::parse(&file).unwrap();
        let kind = if dom0 { Kind::Dom0 } else { Kind::DomU };
        let nr_pages = first_page + pages + more;
        match Plan::new(&image, &Request { kind, nr_pages, initrd_size }) {
            Ok(plan) => {
                check_frames(&image, &plan);
                check_tables(&plan);
            }
            Err(Error::TooLittleMemory) => prop_assert!(more < 5000),
            Err(Error::BadAddress) => prop_assert!(p2m.is_some() && base == 0x7f_ffe0_0000),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn any_request_is_answered(nr_pages: u64, initrd_size: u64, base: u64, p2m: u64) {
        let shape = Shape {
            virt_base: base & !0xfff,
            init_p2m: Some(p2m & !0xfff),
            first_page: 0,
            pages: 1,
            ..LINUX
        };
        if shape.virt_base.checked_add(0x1000).is_some()
            && let Ok(image) = KernelImage::parse(&shape.elf())
        {
            for nr_pages in [nr_pages, nr_pages >> 33] {
                for initrd_size in [initrd_size, initrd_size >> 40] {
                    for kind in [Kind::Dom0, Kind::DomU] {
                        let _ = Plan::new(&image, &Request { kind, nr_pages, initrd_size });
                    }
                }
            }
        }
    }

    #[test]
    fn damaged_images_are_answered(changes in prop::collection::vec((0usize..400, any::<u8>()), 1..6)) {
        let mut file = LINUX.elf();
        for (at, value) in changes {
            file[at] = value;
        }
        if let Ok(image) = KernelImage::parse(&file) {
            let _ = Plan::new(&image, &DOM0);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "no unsafe code here, and very slow")]
fn cut_off_images_are_refused_or_harmless() {
    let file = LINUX.elf();
    for len in 0..file.len() {
        assert!(KernelImage::parse(&file[..len]).is_err(), "{len} bytes");
    }
}

fn parse_with(extra: &[u8], loads: &[synthetic::Load]) -> Result<(), Error> {
    let mut notes = LINUX.notes();
    notes.extend_from_slice(extra);
    KernelImage::parse(&elf(&notes, loads)).map(|_| ())
}

#[test]
fn what_the_notes_may_say() {
    let load = vec![(0x100_0000, vec![1; 64], 0x1000)];
    let with = |kind, desc: &[u8]| parse_with(&note(kind, desc), &load);
    assert_eq!(
        with(XEN_ELFNOTE_XEN_VERSION, b"xen-4.0\0"),
        Err(Error::WrongXenVersion)
    );
    assert_eq!(
        with(XEN_ELFNOTE_LOADER, b"special\0"),
        Err(Error::WrongLoader)
    );
    assert_eq!(
        with(XEN_ELFNOTE_FEATURES, b"dom0|!supervisor_mode_kernel"),
        Err(Error::RequiresUnsupportedFeature)
    );
    assert_eq!(
        with(XEN_ELFNOTE_FEATURES, b"supervisor_mode_kernel|!unheard_of"),
        Ok(())
    );
    assert_eq!(with(XEN_ELFNOTE_ENTRY, &[0; 3]), Err(Error::BadNote));
    assert_eq!(with(XEN_ELFNOTE_ENTRY, &[0; 8]), Err(Error::BadAddress));
    let page = 0xffff_ffff_8100_0000u64;
    let hypercall_page = |va: u64| with(XEN_ELFNOTE_HYPERCALL_PAGE, &va.to_le_bytes());
    assert_eq!(hypercall_page(page), Ok(()));
    assert_eq!(hypercall_page(page + 8), Err(Error::BadAddress));
    assert_eq!(hypercall_page(page + 0x1000), Err(Error::BadAddress));
    // PHYS32_ENTRY and unknown notes do not matter.
    assert_eq!(with(XEN_ELFNOTE_PHYS32_ENTRY, &[1, 2, 3]), Ok(()));
    assert_eq!(with(0x1234, &[1, 2, 3]), Ok(()));
}

#[test]
fn segments_that_cannot_be() {
    let seg = |paddr, len: usize, memsz| (paddr, vec![0; len], memsz);
    assert_eq!(parse_with(&[], &[]), Err(Error::NoSegments));
    assert_eq!(
        parse_with(&[], &[seg(0x100_0000, 64, 0)]),
        Err(Error::NoSegments)
    );
    assert_eq!(
        parse_with(&[], &[seg(0x100_0000, 64, 63)]),
        Err(Error::BadElf)
    );
    assert_eq!(
        parse_with(&[], &[seg(0x100_0000, 64, u64::MAX)]),
        Err(Error::BadElf)
    );
    let twice = [seg(0x100_0000, 64, 0x2000), seg(0x100_1000, 64, 64)];
    assert_eq!(parse_with(&[], &twice), Err(Error::OverlappingSegments));
    let apart = [seg(0x100_2000, 64, 64), seg(0x100_0000, 64, 0x2000)];
    assert_eq!(parse_with(&[], &apart), Ok(()));
    // Below the base.
    assert_eq!(
        parse_with(&[], &[seg(0u64.wrapping_sub(0x1000), 1, 1)]),
        Err(Error::BadAddress)
    );
}

#[test]
fn only_x86_64_executables() {
    let good = LINUX.elf();
    for (at, value) in [(4, 1), (5, 2), (16, 1), (18, 3), (0, 0)] {
        let mut file = good.clone();
        file[at] = value;
        assert_eq!(KernelImage::parse(&file).unwrap_err(), Error::NotX86Elf);
    }
    let mut file = good.clone();
    put16(&mut file, 56, 0xffff);
    assert_eq!(
        KernelImage::parse(&file).unwrap_err(),
        Error::TooManyHeaders
    );
    let mut file = good;
    put16(&mut file, 54, 55);
    assert_eq!(KernelImage::parse(&file).unwrap_err(), Error::BadElf);
}

#[test]
fn no_notes_no_pv_kernel() {
    let file = elf(&[], &[(0x100_0000, vec![0; 8], 8)]);
    assert_eq!(KernelImage::parse(&file).unwrap_err(), Error::NoNotes);
}

#[test]
fn a_kernel_that_cannot_be_dom0() {
    let mut notes = LINUX.notes();
    notes.extend(note(XEN_ELFNOTE_SUPPORTED_FEATURES, &1u32.to_le_bytes()));
    let file = elf(&notes, &[(0x100_0000, vec![0; 8], 0x1000)]);
    let image = KernelImage::parse(&file).unwrap();
    assert_eq!(Plan::new(&image, &DOM0).unwrap_err(), Error::NotADom0Kernel);
    assert!(
        Plan::new(
            &image,
            &Request {
                kind: Kind::DomU,
                ..DOM0
            }
        )
        .is_ok()
    );
}

#[test]
fn the_oldest_way_to_say_it() {
    let text = b"GUEST_OS=x,XEN_VER=xen-3.0,VIRT_BASE=0xffffffff80000000,\
        ELF_PADDR_OFFSET=0,VIRT_ENTRY=0xffffffff80001000,HYPERCALL_PAGE=0x1,LOADER=generic\0";
    let mut file = elf(&[], &[(0x1000, vec![0; 8], 0x1000)]);
    // Two sections: the text and the names.
    let names = b"\0__xen_guest\0";
    let text_at = file.len();
    file.extend_from_slice(text);
    let names_at = file.len();
    file.extend_from_slice(names);
    let table = file.len();
    for (name, at, size) in [(1u32, text_at, text.len()), (0, names_at, names.len())] {
        let mut header = [0; 64];
        header[..4].copy_from_slice(&name.to_le_bytes());
        header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        file.extend_from_slice(&header);
    }
    synthetic::put64(&mut file, 40, table as u64);
    put16(&mut file, 60, 2);
    put16(&mut file, 62, 1);
    let image = KernelImage::parse(&file).unwrap();
    assert_eq!(image.virt_base, 0xffff_ffff_8000_0000);
    assert_eq!(image.entry, 0xffff_ffff_8000_1000);
    assert_eq!(image.notes.hypercall_page, Some(0xffff_ffff_8000_1000));
}

/// With `PV_IMAGE_KERNEL` set to the path of Debian 12's kernel: the values seen with real Xen.
#[test]
fn a_real_kernel() {
    let Ok(path) = std::env::var("PV_IMAGE_KERNEL") else {
        return;
    };
    let file = std::fs::read(path).unwrap();
    let Ok(pv_image::KernelFile::Packed(packed)) = pv_image::KernelFile::open(&file) else {
        panic!("not a compressed kernel");
    };
    let mut buffer = vec![0; packed.unpacked_size()];
    let image = KernelImage::parse(packed.unpack(&mut buffer).unwrap()).unwrap();
    let plan = Plan::new(&image, &DOM0).unwrap();
    check_frames(&image, &plan);
    check_tables(&plan);
    assert_eq!(plan.v_end, 0xffff_ffff_84c0_0000);
    assert_eq!(plan.page_tables.frames.count, 0x29);
}
