//! The table against a peer that maps and lets go whenever it likes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::hypercall::fake::{Domain, Frame, Host};
use crate::hypercall::{Access, CopySide, DomId, GrantError, GrantRef, Hypervisor, Share};
use crate::ring::Page;

struct Bench {
    one: Domain,
    two: Domain,
    table: GrantTable<Frame>,
    alive: Arc<AtomicU64>,
}

impl Bench {
    fn new() -> Self {
        let host = Host::default();
        let one = host.domain(1);
        let source: &'static Domain = Box::leak(Box::new(one.clone()));
        Self {
            two: host.domain(2),
            table: GrantTable::new(source),
            alive: Arc::default(),
            one,
        }
    }

    fn grant(&self, access: Access) -> Grant<'_, Frame> {
        let page = self.one.page(&self.alive);
        self.table.grant(DomId(2), page, access).unwrap()
    }

    fn slots(&self) -> &'static Slots {
        let slots = Box::leak(Box::new(Slots::new()));
        slots.put(self.two.slot(1));
        slots
    }

    fn alive(&self) -> u64 {
        self.alive.load(Ordering::SeqCst)
    }
}

#[test]
fn a_peer_maps_what_it_is_granted_and_sees_the_same_bytes() {
    let bench = Bench::new();
    let grant = bench.grant(Access::Write);
    grant.write(100, b"hello");
    let map = |reference, access| {
        Mapping::new(
            bench.two.clone(),
            bench.slots(),
            DomId(1),
            reference,
            access,
        )
    };
    let mapping = map(grant.reference(), Access::Write).unwrap();
    let mut bytes = [0; 5];
    mapping.read(100, &mut bytes);
    assert_eq!(&bytes, b"hello");
    mapping.store(0, 7);
    assert_eq!(grant.load(0), 7);
    drop(mapping);
    assert!(grant.end().is_ok());
    assert_eq!(bench.alive(), 0);
    let read_only = bench.grant(Access::Read);
    let refused = map(read_only.reference(), Access::Write);
    assert_eq!(refused.err(), Some(GrantError::Status(-8)));
    let refused = map(GrantRef(7000), Access::Read);
    assert_eq!(refused.err(), Some(GrantError::Status(-3)));
}

#[test]
fn a_page_is_not_used_again_while_the_peer_maps_it() {
    let bench = Bench::new();
    let grant = bench.grant(Access::Write);
    let reference = grant.reference();
    let mapping = Mapping::new(
        bench.two.clone(),
        bench.slots(),
        DomId(1),
        reference,
        Access::Write,
    )
    .unwrap();
    let grant = grant.end().unwrap_err();
    drop(grant);
    assert_eq!((bench.alive(), bench.table.reap()), (1, 1));
    assert_ne!(bench.grant(Access::Read).reference(), reference);
    drop(mapping);
    assert_eq!((bench.table.reap(), bench.alive()), (0, 0));
}

#[test]
fn a_slot_serves_again_after_a_mapping_and_after_a_refusal() {
    let bench = Bench::new();
    let slots = bench.slots();
    let grant = bench.grant(Access::Read);
    let map = |reference| Mapping::new(bench.two.clone(), slots, DomId(1), reference, Access::Read);
    for _ in 0..3 {
        assert!(map(GrantRef(500)).is_err());
        let mapping = map(grant.reference()).unwrap();
        // ENOSPC: the only slot is taken.
        let why = map(grant.reference()).err();
        assert!(matches!(why, Some(GrantError::Call(errno)) if errno.0 == 28));
        drop(mapping);
    }
}

#[test]
fn the_hypervisor_copies_within_pages_only() {
    let bench = Bench::new();
    let grant = bench.grant(Access::Read);
    grant.write(4090, b"abcdef");
    let own = bench.two.page(&bench.alive);
    let from = |offset| CopySide::Granted {
        domain: DomId(1),
        reference: grant.reference(),
        offset,
    };
    let to = CopySide::Own {
        frame: own.frame(),
        offset: 0,
    };
    assert_eq!(bench.two.copy_grant(from(4090), to, 6), Ok(()));
    let mut bytes = [0; 6];
    own.read(0, &mut bytes);
    assert_eq!(&bytes, b"abcdef");
    let why = bench.two.copy_grant(from(4091), to, 6);
    assert_eq!(why, Err(GrantError::Status(-10)));
    let why = bench.two.copy_grant(to, from(0), 6);
    assert_eq!(why, Err(GrantError::Status(-8)));
}

#[test]
fn an_exhausted_table_gives_the_page_back() {
    let bench = Bench::new();
    let mut grants: Vec<_> = (8..1024).map(|_| bench.grant(Access::Read)).collect();
    let numbers: BTreeSet<_> = grants.iter().map(Grant::reference).collect();
    assert_eq!(numbers.len(), 1016);
    assert_eq!(numbers.first(), Some(&GrantRef(8)));
    let page = bench.one.page(&bench.alive);
    let refused = bench.table.grant(DomId(2), page, Access::Read);
    drop(refused.unwrap_err().0);
    assert_eq!(bench.alive(), 1016);
    grants.pop();
    grants.push(bench.grant(Access::Read));
}

/// What the two sides do in turn, each with one of the grants.
#[derive(Clone, Debug)]
enum Step {
    Grant(bool),
    Drop(usize),
    End(usize),
    PeerMaps(usize),
    PeerUnmaps(usize),
    /// Any flags at all, as only a broken hypervisor writes them.
    Scribble(u32, u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<bool>().prop_map(Step::Grant),
        2 => (0_usize..16).prop_map(Step::Drop),
        2 => (0_usize..16).prop_map(Step::End),
        3 => (0_usize..16).prop_map(Step::PeerMaps),
        3 => (0_usize..16).prop_map(Step::PeerUnmaps),
        1 => (8_u32..24, any::<u16>()).prop_map(|(n, flags)| Step::Scribble(n, flags)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_page_or_entry_has_two_users(steps in proptest::collection::vec(step(), 1..if cfg!(miri) { 20 } else { 80 })) {
        let bench = Bench::new();
        let slots: &'static Slots = Box::leak(Box::new(Slots::new()));
        for number in 0..64 {
            slots.put(bench.two.slot(number));
        }
        let mut grants: Vec<Grant<'_, Frame>> = Vec::new();
        let mut mapped: Vec<(GrantRef, u64, Mapping<Domain>)> = Vec::new();
        let mut value = 0_u32;
        for step in steps {
            match step {
                Step::Grant(write) => {
                    let access = if write { Access::Write } else { Access::Read };
                    let grant = bench.grant(access);
                    value += 1;
                    grant.store(0, value);
                    // Neither granted nor mapped already.
                    prop_assert!(grants.iter().all(|g| g.reference() != grant.reference()));
                    prop_assert!(mapped.iter().all(|m| m.0 != grant.reference()));
                    grants.push(grant);
                }
                Step::Drop(at) if at < grants.len() => drop(grants.swap_remove(at)),
                Step::End(at) if at < grants.len() => {
                    let grant = grants.swap_remove(at);
                    let reference = grant.reference();
                    if let Err(grant) = grant.end() {
                        grants.push(grant);
                    } else {
                        prop_assert!(mapped.iter().all(|m| m.0 != reference));
                    }
                }
                Step::PeerMaps(at) if at < grants.len() => {
                    let reference = grants[at].reference();
                    let mapping = Mapping::new(
                        bench.two.clone(), slots, DomId(1), reference, Access::Read,
                    );
                    if let Ok(mapping) = mapping {
                        let value = u64::from(mapping.load(0));
                        mapped.push((reference, value, mapping));
                    }
                }
                Step::PeerUnmaps(at) if at < mapped.len() => drop(mapped.swap_remove(at)),
                Step::Scribble(number, flags) => {
                    let in_use = mapped.iter().any(|m| m.0.0 == number);
                    if !in_use {
                        bench.one.entry(GrantRef(number)).change(flags & !24, !flags & !24);
                    }
                }
                _ => {}
            }
            // What a peer maps is what was granted, whatever has happened to the grant.
            for (_, value, mapping) in &mapped {
                prop_assert_eq!(u64::from(mapping.load(0)), *value);
            }
        }
        drop(grants);
        drop(mapped);
        bench.table.reap();
        prop_assert_eq!(bench.alive(), 0);
    }
}

#[test]
fn grants_of_before_a_restore_do_nothing_to_those_of_after() {
    let bench = Bench::new();
    let (old, held) = (bench.grant(Access::Write), bench.grant(Access::Write));
    let mapped = Mapping::new(
        bench.two.clone(),
        bench.slots(),
        DomId(1),
        held.reference(),
        Access::Write,
    );
    drop(held);
    assert_eq!((bench.table.reap(), bench.alive()), (1, 2));
    bench.one.restore();
    bench.table.renew();
    assert_eq!((bench.table.reap(), bench.alive()), (0, 1));
    let new = bench.grant(Access::Write);
    let entry = bench.one.entry(new.reference());
    let whole = entry.get();
    assert_eq!(new.reference(), old.reference());
    assert!(old.end().is_ok());
    assert_eq!(entry.get(), whole, "the new grant is as it was");
    assert!(new.end().is_ok());
    assert_eq!(bench.alive(), 0);
    drop(mapped);
}
