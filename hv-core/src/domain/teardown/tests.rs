//! Memory that domains have of each other, and what becomes of it when they die: dom0 maps
//! frames and grants of two others in any order, they are destroyed at any moment, and after
//! each step every reference is recounted.

use super::*;
use crate::grant::{GrantFrame, GrantTable, Mapping, Pages, Pin, Use};
use crate::mm::frame_alloc::Request;
use crate::mm::frame_table::FrameType;
use crate::mm::shared_page::SharedPage;
use crate::mm::testing::{FakeMem, FakeTlb, machine};
use crate::pv_mm::audit::{self, Held};
use crate::pv_mm::testing::plain_rights;
use crate::pv_mm::update::{self, Store};
use crate::pv_mm::walk::L1Slot;
use crate::pv_mm::{pin, pte};
use proptest::prelude::*;

const RAM: usize = 96;
const PAGES: usize = 4;
const SLOTS: usize = 6;
const GREFS: u32 = 3;

/// A domain that others have memory of.
struct Guest {
    id: DomId,
    /// Its pages; the first is its pinned L1 table.
    pages: [Mfn; PAGES],
    grants: GrantTable,
    alive: bool,
}

struct World {
    mm: Mm<FakeMem, FakeTlb>,
    /// dom0's L1 table.
    table: Mfn,
    /// dom0's own side of the grants it has mapped.
    mapper: GrantTable,
    guests: [Guest; 2],
    /// Grants that dom0 has mapped: where, whose, and the frame.
    mapped: Vec<(Handle, usize, usize, Mfn)>,
}

#[derive(Clone, Copy, Debug)]
enum Action {
    /// dom0 maps a page of a guest by its number.
    Map(usize, usize, usize, bool),
    /// dom0 clears an entry as its own.
    Unmap(usize),
    /// A guest maps a page of its own.
    Own(usize, usize, usize, bool),
    /// A guest grants a page to dom0.
    Grant(usize, u32, usize, bool),
    /// dom0 maps a grant.
    MapGrant(usize, u32, usize, bool),
    /// dom0 unmaps one of the grants it has mapped.
    UnmapGrant(usize),
    /// dom0 pins a page of a guest as an L1 table.
    Pin(usize, usize),
    /// dom0 unpins it.
    Unpin(usize, usize),
    /// A guest gives a page up and gets another.
    Balloon(usize, usize),
    /// A guest is destroyed.
    Kill(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let (guest, page, slot) = (0..2usize, 0..PAGES, 0..SLOTS);
    let gref = 8..8 + GREFS;
    let rw = any::<bool>();
    prop_oneof![
        4 => (slot.clone(), guest.clone(), page.clone(), rw).prop_map(|(s, g, p, w)| Action::Map(s, g, p, w)),
        3 => slot.clone().prop_map(Action::Unmap),
        3 => (guest.clone(), slot.clone(), page.clone(), rw).prop_map(|(g, s, p, w)| Action::Own(g, s, p, w)),
        4 => (guest.clone(), gref.clone(), page.clone(), rw).prop_map(|(g, r, p, w)| Action::Grant(g, r, p, w)),
        5 => (guest.clone(), gref, slot, rw).prop_map(|(g, r, s, w)| Action::MapGrant(g, r, s, w)),
        4 => any::<usize>().prop_map(Action::UnmapGrant),
        2 => (guest.clone(), page.clone()).prop_map(|(g, p)| Action::Pin(g, p)),
        2 => (guest.clone(), page.clone()).prop_map(|(g, p)| Action::Unpin(g, p)),
        2 => (guest.clone(), page).prop_map(|(g, p)| Action::Balloon(g, p)),
        1 => guest.prop_map(Action::Kill),
    ]
}

const DOM0: DomId = DomId::DOM0;

fn writable(readonly: bool) -> u64 {
    if readonly { 0 } else { pte::RW }
}

impl World {
    fn new() -> Self {
        let mm = machine(RAM, 0);
        mm.accounts.open(DOM0).unwrap().set_max(RAM as u64);
        let page = |id| mm.alloc_for(id, Request::anywhere(0)).unwrap();
        let table = page(DOM0);
        pin::pin(&mm, &plain_rights(DOM0), table, 1, &Budget::endless()).unwrap();
        let guests = [1, 2].map(|n| {
            let id = DomId(n);
            mm.accounts.open(id).unwrap().set_max(PAGES as u64);
            let pages = [(); PAGES].map(|()| page(id));
            pin::pin(&mm, &plain_rights(id), pages[0], 1, &Budget::endless()).unwrap();
            let grants = GrantTable::new(id, 1, 1);
            grants
                .grow(1, || {
                    let mfn = mm.alloc_shared(id)?;
                    let page = SharedPage::new(&mm.mem, mfn);
                    Some(GrantFrame { page, mfn })
                })
                .unwrap();
            let alive = true;
            Guest {
                id,
                pages,
                grants,
                alive,
            }
        });
        Self {
            mm,
            table,
            mapper: GrantTable::new(DOM0, 1, 4),
            guests,
            mapped: Vec::new(),
        }
    }

    fn slot(&self, index: usize) -> L1Slot {
        L1Slot {
            table: self.table,
            index,
        }
    }

    fn step(&mut self, action: Action) {
        let mm = &self.mm;
        match action {
            Action::Map(slot, g, p, readonly) => {
                let guest = &self.guests[g];
                let rights = plain_rights(DOM0).mapping(guest.id);
                let entry = pte::make(guest.pages[p], pte::P | writable(readonly));
                let _ = update::write_l1(mm, &rights, self.slot(slot), entry, Store::Set);
            }
            Action::Unmap(slot) => {
                let rights = plain_rights(DOM0);
                update::write_l1(mm, &rights, self.slot(slot), 0, Store::Set).unwrap();
            }
            Action::Own(g, index, p, readonly) => {
                let guest = &self.guests[g];
                let table = guest.pages[0];
                let entry = pte::make(guest.pages[p], pte::P | writable(readonly));
                let slot = L1Slot { table, index };
                if guest.alive {
                    let rights = plain_rights(guest.id);
                    let _ = update::write_l1(mm, &rights, slot, entry, Store::Set);
                }
            }
            Action::Grant(g, gref, p, readonly) => {
                let guest = &self.guests[g];
                let mut flags = xen_abi::grant_table::GTF_PERMIT_ACCESS;
                if readonly {
                    flags |= xen_abi::grant_table::GTF_READONLY;
                }
                let entry = xen_abi::grant_table::GrantEntryV1 {
                    flags,
                    domid: DOM0.0,
                    frame: guest.pages[p].raw() as u32,
                };
                if guest.alive {
                    guest.grants.write_entry(gref, entry);
                }
            }
            Action::MapGrant(g, gref, slot, readonly) => self.map_grant(g, gref, slot, readonly),
            Action::UnmapGrant(n) => {
                if !self.mapped.is_empty() {
                    self.unmap_grant(n % self.mapped.len());
                }
            }
            Action::Pin(g, p) => {
                let guest = &self.guests[g];
                // What a hypercall does where the domain turns out to be dying.
                if guest.alive {
                    let rights = plain_rights(guest.id);
                    let _ = pin::pin(mm, &rights, guest.pages[p], 1, &Budget::endless());
                }
            }
            Action::Unpin(g, p) => {
                let guest = &self.guests[g];
                let _ = pin::unpin(mm, guest.id, guest.pages[p], &Budget::endless());
            }
            Action::Balloon(g, p) => {
                let guest = &mut self.guests[g];
                let _ = mm.release_frame(guest.pages[p], guest.id);
                if let Ok(new) = mm.alloc_for(guest.id, Request::anywhere(0)) {
                    assert!(guest.alive, "memory for a dying domain");
                    guest.pages[p] = new;
                }
            }
            Action::Kill(g) => self.kill(g),
        }
    }

    fn map_grant(&mut self, g: usize, gref: u32, index: usize, readonly: bool) {
        let (mm, guest) = (&self.mm, &self.guests[g]);
        let pin = Pin {
            user: Use::Host,
            readonly,
        };
        let Ok(handle) = self.mapper.reserve() else {
            return;
        };
        let Ok(mfn) = guest.grants.pin(gref, DOM0, pin, mm) else {
            self.mapper.cancel(handle);
            return;
        };
        let entry = pte::make(mfn, pte::P | pte::US | writable(readonly));
        update::replace_l1(mm, &plain_rights(DOM0), self.slot(index), entry).unwrap();
        let mapping = Mapping {
            granter: guest.id,
            gref,
            host: true,
            device: false,
            readonly,
            application: false,
            by_pte: false,
        };
        self.mapper.commit(handle, mapping);
        self.mapped.push((handle, g, index, mfn));
    }

    /// Unmaps one if it is still where it was put, as the hypercall does.
    fn unmap_grant(&mut self, n: usize) {
        let (handle, g, index, mfn) = self.mapped[n];
        let mm = &self.mm;
        let mapping = self.mapper.begin_unmap(handle).unwrap();
        let writable = !mapping.readonly;
        let cleared = update::clear_if_maps(mm, DOM0, self.slot(index), mfn, writable, 0);
        self.mapper.finish_unmap(handle, cleared.is_ok(), false);
        if cleared.is_ok() {
            mm.put(mfn, writable);
            self.unpin(g, &mapping);
            self.mapped.swap_remove(n);
        }
    }

    fn unpin(&self, g: usize, mapping: &Mapping) {
        let pin = Pin {
            user: Use::Host,
            readonly: mapping.readonly,
        };
        self.guests[g].grants.unpin(mapping.gref, pin);
    }

    fn kill(&mut self, g: usize) {
        let guest = &mut self.guests[g];
        guest.alive = false;
        self.mm.accounts.get(guest.id).unwrap().set_dying();
        let mut from = Some(Mfn::new(0));
        while let Some(at) = from {
            let (next, leftover) = release_frames(&self.mm, guest.id, at, &Budget::new(0));
            assert_eq!(leftover, None, "an L1 table takes less than a stretch");
            from = next;
        }
        self.free_grants(g);
    }

    fn free_grants(&self, g: usize) {
        if let Ok(frames) = self.guests[g].grants.take_frames() {
            for frame in frames {
                self.mm.free_shared(frame.mfn);
            }
        }
    }

    fn verify(&self) {
        let mut findings = Vec::new();
        let others = |each: &mut dyn FnMut(Mfn, Held)| {
            for guest in &self.guests {
                guest.grants.for_each_frame(|mfn| {
                    each(mfn, Held::Ref);
                    each(mfn, Held::Type(FrameType::Writable));
                });
            }
        };
        audit::audit(&self.mm, &others, |finding| findings.push(finding));
        assert!(findings.is_empty(), "{findings:?}");
        for (_, g, _, mfn) in &self.mapped {
            // Whatever became of the entry: the granter is not told it is free to use.
            assert!(self.guests[*g].grants.pins() > 0, "{mfn:?}");
        }
    }

    /// dom0 lets go of everything, and the guests die.
    fn end(&mut self) {
        for index in 0..SLOTS {
            self.step(Action::Unmap(index));
        }
        // What is left of handles goes as when the mapper dies.
        self.mapped.clear();
        let mut pinned = Vec::new();
        let mut from = Some(Handle(0));
        while let Some(at) = from {
            from = self.mapper.drop_mappings(at, 3, |m| pinned.push(m));
        }
        for mapping in &pinned {
            let g = usize::from(mapping.granter.0) - 1;
            self.unpin(g, mapping);
        }
        for g in 0..self.guests.len() {
            if self.guests[g].alive {
                self.kill(g);
            }
            self.free_grants(g);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 300 }))]
    #[test]
    fn what_domains_have_of_each_other_is_counted_and_comes_back(
        actions in prop::collection::vec(action(), 1..if cfg!(miri) { 12 } else { 120 })
    ) {
        let mut world = World::new();
        for action in actions {
            world.step(action);
            if !cfg!(miri) {
                world.verify();
            }
        }
        world.end();
        world.verify();
        for guest in &world.guests {
            prop_assert!(world.mm.accounts.get(guest.id).unwrap().is_empty());
        }
        // All that is left is dom0's table (frame 0 is never given out).
        prop_assert_eq!(world.mm.alloc.free_frames(), RAM as u64 - 2);
    }
}

#[test]
fn a_dead_domains_frame_stays_as_it_was_until_it_is_unmapped() {
    let mut world = World::new();
    let page = world.guests[0].pages[1];
    world.mm.mem.words(page)[3].store(77, Ordering::Relaxed);
    world.step(Action::Map(0, 0, 1, false));
    world.step(Action::Kill(0));
    let id = world.guests[0].id;
    assert!(!world.mm.accounts.get(id).unwrap().is_empty());
    assert_eq!(world.mm.mem.words(page)[3].load(Ordering::Relaxed), 77);
    world.verify();
    // A second mapping of what is left may be made, and counts too.
    world.step(Action::Map(1, 0, 1, true));
    world.step(Action::Unmap(0));
    assert!(!world.mm.accounts.get(id).unwrap().is_empty());
    world.step(Action::Unmap(1));
    assert!(world.mm.accounts.get(id).unwrap().is_empty());
    assert!(world.mm.record(page).count().is_free());
    world.verify();
}

#[test]
fn a_dying_domain_is_given_no_memory() {
    let mut world = World::new();
    world.step(Action::Balloon(1, 1));
    world.step(Action::Kill(1));
    let id = world.guests[1].id;
    world.mm.accounts.get(id).unwrap().set_max(50);
    let none = world.mm.alloc_for(id, Request::anywhere(2));
    assert_eq!(none, Err(crate::mm::AllocError::NoDomain));
    assert_eq!(world.mm.accounts.get(id).unwrap().total(), 0);
    world.verify();
}

/// Unmapping flushes only where the accessed bit is set: a guest that clears the bit
/// would keep its TLB's way to a frame that its granter uses anew.
#[test]
fn a_mapped_grant_stays_accessed_whatever_its_mapper_writes() {
    let mut world = World::new();
    world.step(Action::Grant(0, 8, 1, false));
    world.step(Action::MapGrant(0, 8, 2, false));
    let slot = world.slot(2);
    let word = slot.word(&world.mm.mem);
    let unused = word.load(Ordering::Relaxed);
    assert_eq!(unused & pte::A, 0);
    word.fetch_or(pte::A, Ordering::Relaxed);
    let rights = plain_rights(DOM0);
    for how in [
        Store::Set,
        Store::PreserveAd,
        Store::IfEquals(unused | pte::A),
    ] {
        update::write_l1(&world.mm, &rights, slot, unused, how).unwrap();
        assert_ne!(word.load(Ordering::Relaxed) & pte::A, 0, "{how:?}");
    }
    world.unmap_grant(0);
    world.verify();
}
