//! Tests of the page-table rules, one by one; after each, every reference is recounted.

mod absent;
mod cache;
mod chaos;

use super::audit::{self, Held};
use super::testing::Guest;
use super::update::{self, Store};
use super::walk::L1Slot;
use super::*;
use crate::addr::{DomId, GuestVa, MachAddr};
use crate::arch::FrameMem;

use super::demote::release_table;
use super::pin::{pin, unpin};
use super::promote::acquire_table;

const TABLE: u64 = pte::P | pte::RW | pte::US;

fn verify(g: &Guest, others: &[(Mfn, Held)]) {
    let mut findings = Vec::new();
    let summary = audit::audit(&g.mm, &|f| others.iter().for_each(|&(m, h)| f(m, h)), |x| {
        findings.push(x);
    });
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(summary.findings, 0);
}

fn slot(table: Mfn, index: usize) -> L1Slot {
    L1Slot { table, index }
}

fn entry_addr(table: Mfn, index: usize) -> MachAddr {
    MachAddr::new(table.addr().raw() + index as u64 * 8)
}

fn store(g: &Guest, table: Mfn, index: usize, new: u64) -> Result<u64, PtError> {
    match update::store(
        &g.mm,
        &g.rights(),
        entry_addr(table, index),
        new,
        Store::Set,
        &Budget::endless(),
    ) {
        Ok(u) => {
            assert!(u.leftover.is_none());
            Ok(u.old)
        }
        Err(Stop::Failed(e, leftover)) => {
            if let Some(l) = leftover {
                release_table(&g.mm, l.mfn, l.level, &Budget::endless()).unwrap();
            }
            Err(e)
        }
        Err(Stop::Interrupted(_)) => unreachable!(),
    }
}

#[test]
fn a_table_is_never_writable() {
    let g = Guest::new(64, 0);
    let (l1, page) = (g.page(), g.page());
    // It maps itself writable: refused. Read-only: fine.
    g.poke(l1, 0, pte::make(l1, pte::P | pte::RW));
    assert!(matches!(
        pin(&g.mm, &g.rights(), l1, 1, &Budget::endless()),
        Err(Stop::Failed(PtError::FrameBusy, None))
    ));
    verify(&g, &[]);
    g.poke(l1, 0, pte::make(l1, pte::P));
    g.poke(l1, 1, pte::make(page, pte::P | pte::RW));
    pin(&g.mm, &g.rights(), l1, 1, &Budget::endless()).unwrap();
    verify(&g, &[]);
    // What is mapped writable cannot become a table, and the other way round.
    assert!(matches!(
        pin(&g.mm, &g.rights(), page, 1, &Budget::endless()),
        Err(Stop::Failed(PtError::InUseAs(FrameType::Writable), None))
    ));
    assert_eq!(
        store(&g, l1, 2, pte::make(l1, pte::P | pte::RW)),
        Err(PtError::FrameBusy)
    );
    assert_eq!(
        store(&g, l1, 0, pte::make(l1, pte::P | pte::RW)),
        Err(PtError::FrameBusy)
    );
    assert_eq!(
        g.mm.get_writable(l1, g.id),
        Err(RefError::InUseAs(FrameType::L1))
    );
    verify(&g, &[]);
    // Unpinned it is plain again.
    assert_eq!(unpin(&g.mm, g.id, l1, &Budget::endless()), Ok(None));
    g.mm.get_writable(l1, g.id).unwrap();
    verify(&g, &[(l1, Held::Type(FrameType::Writable))]);
    g.mm.put_writable(l1);
    pin(&g.mm, &g.rights(), page, 1, &Budget::endless()).unwrap();
    verify(&g, &[]);
}

#[test]
fn entries_are_adjusted_as_the_interface_says() {
    let g = Guest::new(64, 64);
    let (l1, page) = (g.page(), g.page());
    g.poke(l1, 0, pte::make(page, pte::P | pte::RW | pte::G));
    g.poke(
        l1,
        1,
        pte::make(page, pte::P | pte::US | pte::NX | pte::AVAIL),
    );
    g.poke(l1, 2, 0xdead_beef_0000_1000);
    g.poke(l1, 3, pte::make(Mfn::new(64), pte::P | pte::RW));
    g.poke(l1, 4, pte::make(Mfn::new(65), pte::P | pte::RW | pte::PCD));
    pin(&g.mm, &g.rights_with_devices(), l1, 1, &Budget::endless()).unwrap();
    assert_eq!(
        g.peek(l1, 0),
        pte::make(page, pte::P | pte::RW | pte::US | pte::GUEST_KERNEL)
    );
    assert_eq!(
        g.peek(l1, 1),
        pte::make(page, pte::P | pte::US | pte::NX | pte::AVAIL)
    );
    assert_eq!(g.peek(l1, 2), 0xdead_beef_0000_1000);
    let kernel = pte::P | pte::US | pte::GUEST_KERNEL;
    assert_eq!(
        g.peek(l1, 3),
        pte::make(Mfn::new(64), kernel | pte::RW | pte::PWT | pte::PCD)
    );
    assert_eq!(g.peek(l1, 4), pte::make(Mfn::new(65), kernel | pte::PCD));
    verify(&g, &[]);
    // Without devices: no cache types, no device memory.
    assert_eq!(
        store(&g, l1, 5, pte::make(page, pte::P | pte::PCD)),
        Err(PtError::BadFlags)
    );
    assert_eq!(
        store(&g, l1, 5, pte::make(Mfn::new(64), pte::P)),
        Err(PtError::NoIoAccess)
    );
    // Somebody else's frame.
    let other =
        g.mm.alloc_hypervisor(crate::mm::frame_alloc::Request::anywhere(0));
    assert_eq!(
        store(&g, l1, 5, pte::make(other.unwrap(), pte::P)),
        Err(PtError::FrameBusy)
    );
    verify(&g, &[]);
}

#[test]
fn whole_spaces_and_their_slots() {
    let g = Guest::new(64, 0);
    g.mm.set_hypervisor_slot(3, 0x1234_5063);
    let page = g.page();
    let va = GuestVa(0xffff_8880_0000_5000);
    let root = g.space(&[(va, page, pte::RW)]);
    verify(&g, &[]);
    assert_eq!(g.peek(root, 259), 0x1234_5063);
    assert_eq!(
        store(&g, root, 259, 0),
        Err(PtError::ReservedSlot),
        "the hypervisor's slot"
    );
    // A clone of the whole table, garbage in the hypervisor's slots and all.
    let copy = g.page();
    for n in 0..512 {
        g.poke(copy, n, g.peek(root, n));
    }
    g.poke(copy, 270, 0x7fff_f067);
    pin(&g.mm, &g.rights(), copy, 4, &Budget::endless()).unwrap();
    assert_eq!(g.peek(copy, 270), 0);
    verify(&g, &[]);
    // No large pages, no entry that is its own kind of table.
    let l3 = pte::frame(g.peek(root, va.index(4)));
    let l2 = pte::frame(g.peek(l3, va.index(3)));
    assert_eq!(
        store(&g, l2, 7, pte::make(page, TABLE | pte::PSE)),
        Err(PtError::BadFlags)
    );
    assert_eq!(
        store(&g, l2, 7, pte::make(l2, TABLE)),
        Err(PtError::InUseAs(FrameType::L2))
    );
    assert_eq!(
        store(&g, l2, 7, pte::make(page, TABLE)),
        Err(PtError::InUseAs(FrameType::Writable))
    );
    verify(&g, &[]);
    // One pin less: the shared lower tables stay.
    assert_eq!(unpin(&g.mm, g.id, root, &Budget::endless()), Ok(None));
    assert_eq!(
        unpin(&g.mm, g.id, root, &Budget::endless()),
        Err(PtError::PinState)
    );
    verify(&g, &[]);
    assert_eq!(g.mm.record(l3).kind().count(), 1);
    assert_eq!(unpin(&g.mm, g.id, copy, &Budget::endless()), Ok(None));
    assert_eq!(g.mm.record(l2).kind().count(), 0);
    verify(&g, &[]);
}

#[test]
fn rights_change_without_losing_references() {
    let g = Guest::new(16, 0);
    let (l1, page) = (g.page(), g.page());
    pin(&g.mm, &g.rights(), l1, 1, &Budget::endless()).unwrap();
    let ro = pte::make(page, pte::P | pte::US);
    let steps = [
        (ro | pte::RW, 0),
        (ro | pte::A, pte::RW),
        (ro | pte::RW | pte::NX, 0),
        (ro | pte::RW | pte::D, 0),
        (0, 0),
        (ro, 0),
        (ro | pte::RW, 0),
    ];
    for (new, _) in steps {
        store(&g, l1, 9, new).unwrap();
        if !cfg!(miri) {
            verify(&g, &[]);
        }
    }
    // Compare and exchange; accessed and dirty kept.
    let wrong = update::write_l1(&g.mm, &g.rights(), slot(l1, 9), ro, Store::IfEquals(ro));
    assert_eq!(wrong, Err(PtError::Changed));
    verify(&g, &[]);
    let now = g.peek(l1, 9);
    update::write_l1(&g.mm, &g.rights(), slot(l1, 9), ro, Store::IfEquals(now)).unwrap();
    g.poke(l1, 9, g.peek(l1, 9) | pte::A | pte::D);
    update::write_l1(
        &g.mm,
        &g.rights(),
        slot(l1, 9),
        ro | pte::RW,
        Store::PreserveAd,
    )
    .unwrap();
    assert_eq!(g.peek(l1, 9), ro | pte::RW | pte::A | pte::D);
    verify(&g, &[]);
    // Gone for good only when the last mapping goes.
    g.mm.release_frame(page, g.id).unwrap();
    assert!(!g.mm.record(page).count().is_free());
    store(&g, l1, 9, 0).unwrap();
    assert!(g.mm.record(page).count().is_free());
    verify(&g, &[]);
}

#[test]
fn a_table_that_was_writable_is_flushed_first() {
    let g = Guest::new(64, 0);
    let (l1, page) = (g.page(), g.page());
    pin(&g.mm, &g.rights(), l1, 1, &Budget::endless()).unwrap();
    store(&g, l1, 0, pte::make(page, pte::P | pte::RW)).unwrap();
    store(&g, l1, 0, pte::make(page, pte::P)).unwrap();
    let before = g.mm.tlb.count();
    pin(&g.mm, &g.rights(), page, 1, &Budget::endless()).unwrap();
    assert_eq!(g.mm.tlb.count(), before + 1);
    // And before it is writable again.
    unpin(&g.mm, g.id, page, &Budget::endless()).unwrap();
    store(&g, l1, 0, pte::make(page, pte::P | pte::RW)).unwrap();
    assert_eq!(g.mm.tlb.count(), before + 2);
}

#[test]
fn mappings_of_other_domains_frames() {
    let g = Guest::new(64, 0);
    let other = DomId(2);
    g.mm.accounts.open(other).unwrap().set_max(8);
    let theirs =
        g.mm.alloc_for(other, crate::mm::frame_alloc::Request::anywhere(0))
            .unwrap();
    let l1 = g.page();
    pin(&g.mm, &g.rights(), l1, 1, &Budget::endless()).unwrap();
    let entry = pte::make(theirs, pte::P | pte::RW | pte::US);
    assert_eq!(store(&g, l1, 0, entry), Err(PtError::FrameBusy));
    let foreign = g.rights().mapping(other);
    update::write_l1(&g.mm, &foreign, slot(l1, 0), entry, Store::Set).unwrap();
    verify(&g, &[]);
    // Removed by the true owner's number, whatever rights the remover has.
    g.mm.release_frame(theirs, other).unwrap();
    assert_eq!(g.mm.accounts.get(other).unwrap().total(), 1);
    store(&g, l1, 0, 0).unwrap();
    assert_eq!(g.mm.accounts.get(other).unwrap().total(), 0);
    verify(&g, &[]);
}

#[test]
fn grant_mappings_bring_their_references() {
    let g = Guest::new(64, 0);
    let other = DomId(2);
    g.mm.accounts.open(other).unwrap().set_max(8);
    let theirs =
        g.mm.alloc_for(other, crate::mm::frame_alloc::Request::anywhere(0))
            .unwrap();
    let l1 = g.page();
    pin(&g.mm, &g.rights(), l1, 1, &Budget::endless()).unwrap();
    g.mm.get_writable(theirs, other).unwrap();
    let entry = pte::make(theirs, pte::P | pte::RW | pte::US);
    update::replace_l1(&g.mm, &g.rights(), slot(l1, 3), entry).unwrap();
    verify(&g, &[]);
    let clear = |mfn, w| update::clear_if_maps(&g.mm, g.id, slot(l1, 3), mfn, w, 0);
    assert_eq!(clear(theirs, false), Err(PtError::Changed));
    assert_eq!(clear(l1, true), Err(PtError::Changed));
    assert_eq!(clear(theirs, true), Ok(entry));
    verify(&g, &[(theirs, Held::Type(FrameType::Writable))]);
    g.mm.put_writable(theirs);
    verify(&g, &[]);
}

/// A space of 3 x 4 L1 tables under one L4.
fn bushy(g: &Guest) -> (Mfn, Vec<Mfn>) {
    let root = g.page();
    let l3 = g.page();
    let mut l1s = Vec::new();
    g.poke(root, 0, pte::make(l3, TABLE));
    for i in 0..3 {
        let l2 = g.page();
        g.poke(l3, i * 5, pte::make(l2, TABLE));
        for j in 0..4 {
            let l1 = g.page();
            g.poke(l1, j, pte::make(root, pte::P));
            g.poke(l2, j * 7, pte::make(l1, TABLE));
            l1s.push(l1);
        }
    }
    (root, l1s)
}

#[test]
fn long_work_is_interrupted_and_resumed() {
    let g = Guest::new(64, 0);
    let (root, l1s) = bushy(&g);
    let mut unfinished = Unfinished::new();
    let mut tries = 0;
    loop {
        let budget = Budget::new(1);
        match pin(&g.mm, &g.rights(), root, 4, &budget) {
            Ok(()) => break,
            Err(Stop::Interrupted(l)) => unfinished.resume_later(&g.mm, l),
            Err(Stop::Failed(..)) => panic!("no reason to fail"),
        }
        tries += 1;
        let others: Vec<_> = unfinished
            .iter()
            .map(|l| (l.mfn, Held::Type(FrameType::table(l.level))))
            .collect();
        if !cfg!(miri) || tries == 2 {
            verify(&g, &others);
        }
        assert!(tries < 100);
    }
    assert!(tries > 3);
    unfinished.finish(&g.mm, &Budget::endless()).unwrap();
    verify(&g, &[]);
    // And back.
    let budget = Budget::new(2);
    let left = unpin(&g.mm, g.id, root, &budget).unwrap().unwrap();
    unfinished.retire(&g.mm, left);
    tries = 0;
    loop {
        if !cfg!(miri) || tries == 2 {
            verify(&g, &[(root, Held::Type(FrameType::L4))]);
        }
        let budget = Budget::new(1);
        if unfinished.ready(&g.mm, &budget).is_ok() {
            break;
        }
        tries += 1;
        assert!(tries < 100);
    }
    assert!(tries > 3);
    verify(&g, &[]);
    for l1 in l1s {
        assert_eq!(g.mm.record(l1).kind().count(), 0);
    }
}

#[test]
fn interrupted_work_that_then_fails_or_is_abandoned() {
    for spoil in [false, true] {
        let g = Guest::new(64, 0);
        let (root, l1s) = bushy(&g);
        if spoil {
            g.poke(l1s[9], 3, pte::make(root, pte::P | pte::RW));
        }
        let mut unfinished = Unfinished::new();
        for _ in 0..if spoil { 8 } else { 3 } {
            let budget = Budget::new(1);
            match pin(&g.mm, &g.rights(), root, 4, &budget) {
                Err(Stop::Interrupted(l)) => unfinished.resume_later(&g.mm, l),
                Err(Stop::Failed(e, l)) => {
                    assert!(spoil && e == PtError::FrameBusy);
                    if let Some(l) = l {
                        unfinished.retire(&g.mm, l);
                    }
                    break;
                }
                Ok(()) => break,
            }
        }
        // A partial table cannot be used, nor become something else.
        if !spoil {
            assert!(g.mm.get_writable(root, g.id).is_err());
            assert!(store(&g, root, 0, 0).is_err());
        }
        unfinished.finish(&g.mm, &Budget::endless()).unwrap();
        verify(&g, &[]);
        assert_eq!(g.mm.record(root).kind().count(), 0);
    }
}
