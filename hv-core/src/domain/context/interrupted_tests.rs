//! First contexts that are given in stretches, interrupted as often as can be, accepted and
//! refused; after each stretch every reference is recounted.

use super::*;
use crate::mm::frame_table::FrameType;
use crate::pv_mm::audit::{self, Held};
use crate::pv_mm::pte;
use crate::pv_mm::testing::Guest;
use core::cell::Cell;
use std::vec::Vec;

const TABLE: u64 = pte::P | pte::RW | pte::US;

/// A root with tables of `writable` pages below it, so many that they take several stretches.
fn large_space(g: &Guest) -> Mfn {
    let (root, l3, l2) = (g.page(), g.page(), g.page());
    g.poke(root, 0, pte::make(l3, TABLE));
    g.poke(l3, 0, pte::make(l2, TABLE));
    for n in 0..8 {
        let l1 = g.page();
        g.poke(l2, n, pte::make(l1, TABLE));
        let page = g.page();
        for entry in 0..512 {
            g.poke(l1, entry, pte::make(page, TABLE));
        }
    }
    root
}

fn context(kernel: Mfn, user: Mfn, gdt: Mfn) -> Box<VcpuGuestContext> {
    let mut c = VcpuGuestContext::new_box_zeroed().unwrap();
    c.flags = VGCF_IN_KERNEL;
    c.user_regs.rip = 0xffff_ffff_8100_0000;
    c.ctrlreg[3] = kernel.addr().raw();
    c.ctrlreg[1] = user.addr().raw();
    c.gdt_frames[0] = gdt.raw();
    c.gdt_ents = 100;
    c
}

fn verify(g: &Guest, state: &VcpuState) {
    let mut held: Vec<_> = [state.kernel_root, state.user_root]
        .into_iter()
        .flatten()
        .map(|mfn| (mfn, Held::Type(FrameType::L4)))
        .collect();
    let gdt = state.gdt_frames.iter().flatten();
    held.extend(gdt.map(|mfn| (*mfn, Held::Type(FrameType::Descriptors))));
    let left = state.unfinished.iter();
    held.extend(left.map(|l| (l.mfn, Held::Type(FrameType::table(l.level)))));
    let name = |f: &mut dyn FnMut(Mfn, Held)| held.iter().for_each(|&(m, h)| f(m, h));
    let summary = audit::audit(&g.mm, &name, |finding| panic!("{finding:?}"));
    assert_eq!(summary.findings, 0);
}

/// Repeats the call as a guest does, interrupted at every point at which it can be; the answer,
/// and how often it was interrupted.
fn repeat(g: &Guest, state: &mut VcpuState, c: &VcpuGuestContext) -> (Result<(), Refused>, u32) {
    let rights = g.rights_beside_leaks();
    for interrupted in 0..1000 {
        let questions = Cell::new(0);
        let pause = || {
            questions.set(questions.get() + 1);
            true
        };
        let end = first(&g.mm, &rights, state, c, &pause);
        // Once more for what a mistake leaves behind.
        assert!(questions.get() <= 2, "went on though it was interrupted");
        if !cfg!(miri) || interrupted == 2 {
            verify(g, state);
        }
        if end != Err(Refused::Interrupted) {
            return (end, interrupted);
        }
    }
    panic!("no end");
}

#[test]
fn a_context_with_many_tables_is_given_and_taken_in_stretches() {
    let g = Guest::new(128, 0);
    let (kernel, user, gdt) = (large_space(&g), large_space(&g), g.page());
    let mut state = VcpuState::new().unwrap();
    let (end, interrupted) = repeat(&g, &mut state, &context(kernel, user, gdt));
    assert_eq!(end, Ok(()));
    assert!(interrupted > 4, "{interrupted}");
    assert_eq!(
        (state.kernel_root, state.user_root),
        (Some(kernel), Some(user))
    );
    assert_eq!((state.gdt_frames[0], state.gdt_entries), (Some(gdt), 100));
    assert!(state.unfinished.is_empty());
}

#[test]
fn a_refused_context_leaves_nothing_behind() {
    let spoil: [fn(&Guest, Mfn, &mut VcpuGuestContext); 5] = [
        // An absent entry that names RAM (L1TF), in the last table.
        |g, user, _| {
            let l3 = pte::frame(g.peek(user, 0));
            let l2 = pte::frame(g.peek(l3, 0));
            g.poke(pte::frame(g.peek(l2, 7)), 511, 0x5000);
        },
        |g, user, _| g.poke(user, 511, 0x5000),
        |g, user, _| g.poke(user, 3, pte::make(user, TABLE)),
        |_, _, c| c.ctrlreg[1] = 1 << 50,
        |_, _, c| c.gdt_frames[0] = 0,
    ];
    for spoil in spoil {
        let g = Guest::new(128, 0);
        let (kernel, user, gdt) = (large_space(&g), large_space(&g), g.page());
        let mut c = context(kernel, user, gdt);
        spoil(&g, user, &mut c);
        let mut state = VcpuState::new().unwrap();
        assert_eq!(repeat(&g, &mut state, &c).0, Err(Refused::Bad));
        assert_eq!((state.kernel_root, state.user_root), (None, None));
        assert!(state.unfinished.is_empty() && !state.context_refused);
        for mfn in [kernel, user, gdt] {
            assert_eq!(g.mm.record(mfn).kind().count(), 0);
        }
    }
}

#[test]
fn another_context_in_the_middle_replaces_the_first() {
    let g = Guest::new(128, 0);
    let (one, two, gdt) = (large_space(&g), large_space(&g), g.page());
    let mut state = VcpuState::new().unwrap();
    let rights = g.rights_beside_leaks();
    for n in 0..9 {
        let c = if n % 3 == 0 {
            context(two, one, gdt)
        } else {
            context(one, two, gdt)
        };
        let _ = first(&g.mm, &rights, &mut state, &c, &|| true);
        verify(&g, &state);
    }
    assert_eq!(repeat(&g, &mut state, &context(two, one, gdt)).0, Ok(()));
    assert_eq!((state.kernel_root, state.user_root), (Some(two), Some(one)));
}
