use super::*;
use crate::mm::frame_alloc::Request;
use crate::mm::frame_table::FrameType;
use crate::mm::shared_page::SharedPage;
use crate::mm::testing::{FakeMem, FakeTlb, machine};
use proptest::prelude::*;
use std::collections::HashMap;

const GRANTER: DomId = DomId(1);
const MAPPER: DomId = DomId(0);

const READ: Pin = Pin {
    user: Use::Host,
    readonly: true,
};
const WRITE: Pin = Pin {
    user: Use::Host,
    readonly: false,
};
const COPY_IN: Pin = Pin {
    user: Use::Copy,
    readonly: true,
};

type Host = Mm<FakeMem, FakeTlb>;

fn host() -> Host {
    let mm = machine(64, 0);
    mm.accounts.open(GRANTER).unwrap().set_max(32);
    mm
}

fn frame_of(mm: &Host, owner: DomId) -> Mfn {
    mm.alloc_for(owner, Request::anywhere(0)).unwrap()
}

fn grow(mm: &Host, table: &GrantTable, frames: u32) -> Result<(), GrantError> {
    table.grow(frames, || {
        let mfn = mm.alloc_shared(table.owner())?;
        Some(GrantFrame {
            page: SharedPage::new(&mm.mem, mfn),
            mfn,
        })
    })
}

fn granter(mm: &Host) -> GrantTable {
    let table = GrantTable::new(GRANTER, 4, 4);
    grow(mm, &table, 1).unwrap();
    table
}

fn write(table: &GrantTable, gref: u32, flags: u16, to: DomId, frame: Mfn) {
    let written = table.write_entry(
        gref,
        abi::GrantEntryV1 {
            flags,
            domid: to.0,
            frame: frame.raw() as u32,
        },
    );
    assert!(written);
}

fn flags(mm: &Host, table: &GrantTable, gref: u32) -> u16 {
    let mfn = table.frame(gref / 512).unwrap();
    let page = SharedPage::new(&mm.mem, mfn);
    page.u32_at(gref as usize % 512 * 8)
        .load(core::sync::atomic::Ordering::SeqCst) as u16
}

const PERMIT: u16 = abi::GTF_PERMIT_ACCESS;
const RO: u16 = abi::GTF_READONLY;
const R: u16 = abi::GTF_READING;
const W: u16 = abi::GTF_WRITING;

#[test]
fn pins_set_and_clear_the_marks() {
    let mm = host();
    let t = granter(&mm);
    let frame = frame_of(&mm, GRANTER);
    write(&t, 8, PERMIT, MAPPER, frame);
    assert_eq!(t.pin(8, MAPPER, READ, &mm), Ok(frame));
    assert_eq!(flags(&mm, &t, 8), PERMIT | R);
    assert_eq!(t.pin(8, MAPPER, WRITE, &mm), Ok(frame));
    assert_eq!(flags(&mm, &t, 8), PERMIT | R | W);
    assert_eq!(mm.record(frame).kind().ty(), FrameType::Writable);
    assert_eq!(t.pins(), 2);
    assert_eq!(t.pinned_frame(8), Ok(frame));
    mm.put(frame, false);
    t.unpin(8, READ);
    assert_eq!(flags(&mm, &t, 8), PERMIT | R | W);
    mm.put(frame, true);
    t.unpin(8, WRITE);
    assert_eq!(flags(&mm, &t, 8), PERMIT);
    assert_eq!(t.pinned_frame(8), Err(GrantError::General));
    assert_eq!(t.pins(), 0);
}

#[test]
fn what_is_not_granted_is_refused_and_leaves_no_mark() {
    let mm = host();
    let t = granter(&mm);
    let frame = frame_of(&mm, GRANTER);
    let pin = |gref, by, how| t.pin(gref, by, how, &mm);
    assert_eq!(pin(512, MAPPER, READ), Err(GrantError::BadRef));
    assert_eq!(pin(u32::MAX, MAPPER, READ), Err(GrantError::BadRef));
    assert_eq!(pin(8, MAPPER, READ), Err(GrantError::General));
    write(&t, 8, PERMIT | RO, MAPPER, frame);
    assert_eq!(pin(8, DomId(7), READ), Err(GrantError::General));
    assert_eq!(pin(8, MAPPER, WRITE), Err(GrantError::General));
    assert_eq!(flags(&mm, &t, 8), PERMIT | RO);
    write(&t, 8, PERMIT | abi::GTF_SUB_PAGE, MAPPER, frame);
    assert_eq!(pin(8, MAPPER, READ), Err(GrantError::General));
    assert_eq!(pin(8, MAPPER, COPY_IN), Ok(frame));
    mm.put(frame, false);
    t.unpin(8, COPY_IN);
    write(&t, 9, PERMIT, MAPPER, Mfn::new(0xffff_ffff));
    assert_eq!(pin(9, MAPPER, READ), Err(GrantError::BadPage));
    assert_eq!(flags(&mm, &t, 9), PERMIT);
    let hypervisors = mm.alloc_hypervisor(Request::anywhere(0)).unwrap();
    write(&t, 9, PERMIT, MAPPER, hypervisors);
    assert_eq!(pin(9, MAPPER, WRITE), Err(GrantError::BadPage));
    assert_eq!(t.pins(), 0);
}

#[test]
fn while_pinned_the_entry_keeps_its_frame_and_grantee() {
    let mm = host();
    let t = granter(&mm);
    let (one, two) = (frame_of(&mm, GRANTER), frame_of(&mm, GRANTER));
    write(&t, 8, PERMIT, MAPPER, one);
    t.pin(8, MAPPER, READ, &mm).unwrap();
    write(&t, 8, PERMIT, DomId(5), two);
    assert_eq!(t.pin(8, DomId(5), READ, &mm), Err(GrantError::General));
    assert_eq!(t.pin(8, MAPPER, READ, &mm), Ok(one));
    for _ in 0..2 {
        mm.put(one, false);
        t.unpin(8, READ);
    }
    assert_eq!(t.pin(8, MAPPER, READ, &mm), Err(GrantError::General));
    assert_eq!(t.pin(8, DomId(5), READ, &mm), Ok(two));
}

#[test]
fn pins_do_not_overflow() {
    let mm = host();
    let t = granter(&mm);
    let frame = frame_of(&mm, GRANTER);
    write(&t, 8, PERMIT, MAPPER, frame);
    for _ in 0..128 {
        t.pin(8, MAPPER, READ, &mm).unwrap();
    }
    assert_eq!(t.pin(8, MAPPER, READ, &mm), Err(GrantError::General));
    assert_eq!(t.pin(8, MAPPER, WRITE, &mm), Err(GrantError::General));
    for _ in 0..200 {
        t.unpin(8, READ);
    }
    assert_eq!(t.pins(), 0);
}

#[test]
fn a_mapped_frame_outlives_its_owner() {
    let mm = host();
    let t = granter(&mm);
    let frame = frame_of(&mm, GRANTER);
    write(&t, 8, PERMIT, MAPPER, frame);
    t.pin(8, MAPPER, WRITE, &mm).unwrap();
    // The granter dies: it gives up its memory, and its table cannot go yet.
    mm.release_frame(frame, GRANTER).unwrap();
    assert_eq!(mm.accounts.get(GRANTER).unwrap().total(), 1);
    assert_eq!(t.take_frames().err(), Some(1));
    mm.put(frame, true);
    t.unpin(8, WRITE);
    assert_eq!(mm.accounts.get(GRANTER).unwrap().total(), 0);
    let free = mm.alloc.free_frames();
    for shared in t.take_frames().unwrap() {
        mm.free_shared(shared.mfn);
    }
    assert_eq!(mm.alloc.free_frames(), free + 1);
    assert_eq!(t.pin(8, MAPPER, READ, &mm), Err(GrantError::BadRef));
}

#[test]
fn the_table_grows_to_its_limit() {
    let mm = host();
    let t = granter(&mm);
    assert_eq!(t.size(), (1, 4));
    assert_eq!(grow(&mm, &t, 5), Err(GrantError::General));
    assert_eq!(t.size(), (1, 4));
    grow(&mm, &t, 3).unwrap();
    grow(&mm, &t, 2).unwrap();
    assert_eq!(t.size(), (3, 4));
    assert!(t.frame(2).is_some() && t.frame(3).is_none());
    assert_eq!(t.grow(4, || None), Err(GrantError::General));
}

fn mapping(gref: u32) -> Mapping {
    Mapping {
        granter: GRANTER,
        gref,
        host: true,
        device: true,
        readonly: false,
        application: true,
        by_pte: false,
    }
}

#[test]
fn a_handle_lives_until_its_last_mapping_goes() {
    let t = GrantTable::new(MAPPER, 1, 1);
    let h = t.reserve().unwrap();
    assert_eq!(t.begin_unmap(h), Err(GrantError::BadHandle));
    t.commit(h, mapping(77));
    assert_eq!(t.begin_unmap(h), Ok(mapping(77)));
    assert_eq!(t.begin_unmap(h), Err(GrantError::BadHandle));
    t.finish_unmap(h, false, true);
    let host_only = Mapping {
        device: false,
        ..mapping(77)
    };
    assert_eq!(t.begin_unmap(h), Ok(host_only));
    t.finish_unmap(h, false, false);
    assert_eq!(t.begin_unmap(h), Ok(host_only));
    t.finish_unmap(h, true, false);
    assert_eq!(t.begin_unmap(h), Err(GrantError::BadHandle));
    assert_eq!(t.mappings(), 0);
    assert_eq!(t.begin_unmap(Handle(u32::MAX)), Err(GrantError::BadHandle));
}

#[test]
fn handles_run_out_and_come_back() {
    let t = GrantTable::new(MAPPER, 1, 2);
    let all: Vec<Handle> = (0..512).map(|_| t.reserve().unwrap()).collect();
    assert_eq!(all[0], Handle(0));
    assert_eq!(t.reserve(), Err(GrantError::NoSpace));
    t.cancel(all[300]);
    t.cancel(all[300]);
    assert_eq!(t.reserve(), Ok(all[300]));
    assert_eq!(t.reserve(), Err(GrantError::NoSpace));
}

#[test]
fn a_dying_mapper_drops_its_mappings_in_steps() {
    let t = GrantTable::new(MAPPER, 1, 2);
    for n in 0..300 {
        let h = t.reserve().unwrap();
        t.commit(h, mapping(n));
    }
    let mut seen = Vec::new();
    let mut next = Some(Handle(0));
    let mut steps = 0;
    while let Some(from) = next {
        next = t.drop_mappings(from, 100, |m| seen.push(m.gref));
        steps += 1;
    }
    assert_eq!(steps, 6);
    assert_eq!(seen, (0..300).collect::<Vec<_>>());
    assert_eq!(t.mappings(), 0);
}

#[derive(Clone, Debug)]
enum Act {
    Write(u32, u16, u16, u64),
    Pin(u32, u16, bool, bool),
    Unpin(usize),
}

fn act() -> impl Strategy<Value = Act> {
    let gref = 8..12u32;
    prop_oneof![
        (gref.clone(), 0..32u16, 0..2u16, 0..6u64).prop_map(|(g, f, d, n)| Act::Write(g, f, d, n)),
        (gref, 0..2u16, any::<bool>(), any::<bool>())
            .prop_map(|(g, d, ro, dev)| Act::Pin(g, d, ro, dev)),
        any::<usize>().prop_map(Act::Unpin),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 200 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever the granter writes, references and pins match; at the end nothing is
    /// left of them.
    #[test]
    fn references_match_pins(acts in prop::collection::vec(act(), 1..if cfg!(miri) { 12 } else { 80 })) {
        let mm = host();
        let t = granter(&mm);
        let frames: Vec<Mfn> = (0..4).map(|_| frame_of(&mm, GRANTER)).collect();
        let mut held: Vec<(u32, Pin, Mfn)> = Vec::new();
        for act in acts {
            match act {
                Act::Write(gref, flags, to, n) => {
                    let frame = frames.get(n as usize).copied().unwrap_or(Mfn::new(60 + n));
                    write(&t, gref, flags, DomId(to), frame);
                }
                Act::Pin(gref, by, readonly, device) => {
                    let user = if device { Use::Device } else { Use::Host };
                    let pin = Pin { user, readonly };
                    if let Ok(mfn) = t.pin(gref, DomId(by), pin, &mm) {
                        held.push((gref, pin, mfn));
                    }
                }
                Act::Unpin(n) => {
                    if !held.is_empty() {
                        let (gref, pin, mfn) = held.swap_remove(n % held.len());
                        mm.put(mfn, !pin.readonly);
                        t.unpin(gref, pin);
                    }
                }
            }
            prop_assert_eq!(t.pins(), held.len() as u64);
            let mut by_frame: HashMap<u64, u32> = HashMap::new();
            for (gref, _, mfn) in &held {
                prop_assert_eq!(t.pinned_frame(*gref), Ok(*mfn));
                *by_frame.entry(mfn.raw()).or_default() += 1;
            }
            for frame in &frames {
                let typed = held.iter().filter(|(_, p, m)| m == frame && !p.readonly).count();
                prop_assert_eq!(mm.record(*frame).kind().count() as usize, typed);
            }
        }
        for (gref, pin, mfn) in held {
            mm.put(mfn, !pin.readonly);
            t.unpin(gref, pin);
        }
        for frame in frames {
            prop_assert_eq!(mm.record(frame).count().refs(), 1);
        }
    }
}
