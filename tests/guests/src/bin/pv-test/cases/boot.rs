//! What a kernel finds at entry.

use crate::test::Test;
use test_guests::boot::{VIRT_BASE, first_rsp, start_info, start_info_va};
use test_guests::memory::{Page, l4, m2p};

pub fn state(t: &mut Test) {
    let info = start_info();
    t.yes(info.magic.starts_with(b"xen-3.0-x86_64"));
    t.eq(info.flags & 3, 3);
    t.eq(start_info_va() & 0xfff, 0);
    t.eq(info.pt_base & 0xfff, 0);
    t.eq(first_rsp() & 0xfff, 0);
    t.eq(first_rsp(), info.pt_base + (info.nr_pt_frames + 1) * 4096);
    for page in [l4(), Page::of_pfn(0), Page::of_pfn(info.nr_pages - 1)] {
        t.eq(m2p(page.mfn()), page.pfn());
    }
    t.yes(info.mfn_list > VIRT_BASE);
}
