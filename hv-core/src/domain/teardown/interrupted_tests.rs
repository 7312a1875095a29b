//! Whole address spaces taken apart, interrupted as often as can be.

use super::*;
use crate::addr::GuestVa;
use crate::mm::pte;
use crate::pv_mm::testing::Guest;

/// Gives up all frames of the guest, in steps of `instructions`.
fn release_all(g: &Guest, instructions: u32) {
    let mut from = Some(Mfn::new(0));
    let mut leftover: Option<Leftover> = None;
    while from.is_some() || leftover.is_some() {
        let budget = &Budget::new(instructions);
        if let Some(left) = leftover.take() {
            leftover = demote::release_table(&g.mm, left.mfn, left.level, budget).err();
        } else if let Some(at) = from {
            (from, leftover) = release_frames(&g.mm, g.id, at, budget);
        }
    }
}

/// Two pinned spaces that share a page, one of them mapping the other's root.
fn populated() -> Guest {
    let g = Guest::new(128, 0);
    let (shared, own) = (g.page(), g.page());
    let high = GuestVa(0xffff_8800_0000_0000);
    let first = g.space(&[
        (GuestVa(0x1000), shared, pte::RW | pte::US),
        (high, own, pte::RW | pte::US),
    ]);
    g.space(&[
        (GuestVa(0x2000), shared, pte::US),
        (GuestVa(0x3000), first, pte::US),
    ]);
    g
}

#[test]
fn a_dying_domain_returns_every_frame_however_often_it_is_interrupted() {
    for instructions in [0, 1, 3000, 9000, Budget::MOST] {
        let g = populated();
        let account = g.mm.accounts.get(g.id).unwrap();
        let all = g.mm.alloc.free_frames() + account.total();
        release_all(&g, instructions);
        assert!(account.is_empty(), "in steps of {instructions}");
        assert_eq!(g.mm.alloc.free_frames(), all);
        assert_eq!(g.mm.alloc.check(&g.mm.frames), Ok(all));
    }
}
