//! Random sequences of what a guest can do with its page tables, after each step of which every
//! reference is recounted.

use super::*;
use proptest::prelude::*;

/// One step of a guest that does what it likes.
#[derive(Clone, Debug)]
enum Action {
    /// Writes an entry: as the guest if the frame is plain, else by hypercall.
    Write(u8, u8, u8, u8),
    Pin(u8, u8, u32),
    Unpin(u8, u32),
    Root(u8),
    DropRoot(u8),
    Release(u8),
    Descriptors(u8),
    Finish(u32),
}

fn action() -> impl Strategy<Value = Action> {
    let page = 0u8..12;
    prop_oneof![
        8 => (page.clone(), 0u8..4, page.clone(), any::<u8>()).prop_map(|(t, i, m, f)| Action::Write(t, i, m, f)),
        4 => (page.clone(), 1u8..5, 0u32..4).prop_map(|(p, l, b)| Action::Pin(p, l, b)),
        2 => (page.clone(), 0u32..3).prop_map(|(p, b)| Action::Unpin(p, b)),
        1 => page.clone().prop_map(Action::Root),
        1 => page.clone().prop_map(Action::DropRoot),
        1 => page.clone().prop_map(Action::Release),
        1 => page.prop_map(Action::Descriptors),
        2 => (0u32..3).prop_map(Action::Finish),
    ]
}

/// The random guest: 12 pages, a vCPU's unfinished work, and roots it holds.
struct Chaos {
    g: Guest,
    pages: Vec<Mfn>,
    unfinished: Unfinished,
    roots: Vec<Mfn>,
    descriptors: Vec<Mfn>,
}

impl Chaos {
    fn new() -> Self {
        let g = Guest::new(32, 0);
        let pages = (0..12).map(|_| g.page()).collect();
        Self {
            g,
            pages,
            unfinished: Unfinished::new(),
            roots: Vec::new(),
            descriptors: Vec::new(),
        }
    }

    fn keep(&mut self, stop: Stop) {
        match stop {
            Stop::Interrupted(l) => self.unfinished.resume_later(&self.g.mm, l),
            Stop::Failed(_, Some(l)) => self.unfinished.retire(&self.g.mm, l),
            Stop::Failed(_, None) => {}
        }
    }

    fn write(&mut self, table: u8, index: u8, target: u8, flags: u8) {
        let (table, target) = (self.pages[table as usize], self.pages[target as usize]);
        let index = [0, 1, 255, 260][index as usize];
        let mut entry = pte::make(target, u64::from(flags & 0b110));
        if flags & 0x18 != 0 {
            entry |= pte::P;
        }
        if flags & 0xe0 == 0xe0 {
            entry |= pte::PSE;
        }
        let g = &self.g;
        // What the guest can do without a hypercall, it may do at any time.
        if g.mm.get_writable(table, g.id).is_ok() {
            g.poke(table, index, entry);
            g.mm.put_writable(table);
            return;
        }
        let how = if flags & 0x20 != 0 {
            Store::PreserveAd
        } else {
            Store::Set
        };
        let addr = entry_addr(table, index);
        match update::store(&g.mm, &g.rights(), addr, entry, how, &Budget::endless()) {
            Ok(u) => {
                if let Some(l) = u.leftover {
                    self.unfinished.retire(&self.g.mm, l);
                }
            }
            Err(stop) => self.keep(stop),
        }
    }

    fn step(&mut self, action: &Action) {
        let patience = |n: u32| Budget::new(n * 2_000);
        let rights = self.g.rights();
        if !matches!(action, Action::Finish(_))
            && self
                .unfinished
                .ready(&self.g.mm, &Budget::endless())
                .is_err()
        {
            return;
        }
        match *action {
            Action::Write(t, i, m, f) => self.write(t, i, m, f),
            Action::Pin(p, level, n) => {
                let b = patience(n);
                let page = self.pages[p as usize];
                if let Err(stop) = pin(&self.g.mm, &rights, page, level, &b) {
                    self.keep(stop);
                }
            }
            Action::Unpin(p, n) => {
                let b = patience(n);
                let page = self.pages[p as usize];
                if let Ok(Some(l)) = unpin(&self.g.mm, self.g.id, page, &b) {
                    self.unfinished.retire(&self.g.mm, l);
                }
            }
            Action::Root(p) => {
                let page = self.pages[p as usize];
                match acquire_table(&self.g.mm, &rights, page, 4, &Budget::endless()) {
                    Ok(()) => self.roots.push(page),
                    Err(stop) => self.keep(stop),
                }
            }
            Action::DropRoot(n) => {
                if !self.roots.is_empty() {
                    let root = self.roots.swap_remove(n as usize % self.roots.len());
                    release_table(&self.g.mm, root, 4, &Budget::endless()).unwrap();
                }
            }
            Action::Release(p) => {
                let page = self.pages[p as usize];
                // A frame given up comes back as another, when there is one.
                let _ = self.g.mm.release_frame(page, self.g.id);
                let room = crate::mm::frame_alloc::Request::anywhere(0);
                if let Ok(new) = self.g.mm.alloc_for(self.g.id, room) {
                    self.pages[p as usize] = new;
                }
            }
            Action::Descriptors(p) => {
                let page = self.pages[p as usize];
                if let Some(n) = self.descriptors.iter().position(|d| *d == page) {
                    descriptors::release(&self.g.mm, page);
                    self.descriptors.swap_remove(n);
                } else if descriptors::acquire(&self.g.mm, self.g.id, page).is_ok() {
                    self.descriptors.push(page);
                }
            }
            Action::Finish(n) => {
                let b = patience(n);
                let _ = self.unfinished.finish(&self.g.mm, &b);
            }
        }
    }

    fn verify(&self) {
        let types = |l: Leftover| (l.mfn, Held::Type(FrameType::table(l.level)));
        let mut others: Vec<_> = self.unfinished.iter().map(types).collect();
        others.extend(self.roots.iter().map(|r| (*r, Held::Type(FrameType::L4))));
        let seg = FrameType::Descriptors;
        others.extend(self.descriptors.iter().map(|d| (*d, Held::Type(seg))));
        verify(&self.g, &others);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 1 } else { 400 }))]
    #[test]
    fn every_reference_is_counted(actions in prop::collection::vec(action(), 1..if cfg!(miri) { 12 } else { 150 })) {
        let mut chaos = Chaos::new();
        for action in &actions {
            chaos.step(action);
            if !cfg!(miri) {
                chaos.verify();
            }
        }
        chaos.verify();
        // Everything can be taken apart again.
        chaos.unfinished.finish(&chaos.g.mm, &Budget::endless()).unwrap();
        while let Some(root) = chaos.roots.pop() {
            release_table(&chaos.g.mm, root, 4, &Budget::endless()).unwrap();
        }
        while let Some(page) = chaos.descriptors.pop() {
            descriptors::release(&chaos.g.mm, page);
        }
        let ram: Vec<Mfn> = (0..32).map(Mfn::new).collect();
        for &mfn in &ram {
            let _ = unpin(&chaos.g.mm, chaos.g.id, mfn, &Budget::endless());
        }
        for &mfn in &ram {
            let _ = chaos.g.mm.release_frame(mfn, chaos.g.id);
        }
        prop_assert_eq!(chaos.g.mm.accounts.get(chaos.g.id).unwrap().total(), 0);
        prop_assert_eq!(chaos.g.mm.alloc.free_frames(), 31);
        chaos.verify();
        let _ = chaos.g.mm.mem.words(Mfn::new(1));
    }
}
