//! Page tables of the hypervisor's own mappings: the walk, and nothing global.
//!
//! Source of all bits: Intel SDM volume 3, 4.5 (4-level paging) and 11.12 (PAT).

use crate::addr::{GuestVa, MachAddr, Mfn};
use crate::arch::FrameMem;
use crate::mm::pte::{A, D, FRAME, NX, P, PAT, PCD, PSE, PWT, RW, US};
use core::sync::atomic::Ordering::Relaxed;

/// Page attribute, high bit, in an L2 or L3 page. (In an L1 entry it is [`PAT`].)
const PAT_LARGE: u64 = 1 << 12;

/// How the CPU caches a mapping: the index into [`crate::arch::PAT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cache {
    /// Write back: memory.
    WriteBack = 0,
    /// Write through.
    WriteThrough = 1,
    /// Uncached, unless MTRRs say write-combining.
    UncachedMinus = 2,
    /// Uncached: device registers.
    Uncached = 3,
    /// Write combining: framebuffers.
    WriteCombining = 4,
    /// Write protected.
    WriteProtected = 5,
}

/// What a mapping allows. None but [`Prot::FIRMWARE`] is both writable and executable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prot(u64);

impl Prot {
    /// Constants.
    pub const RO: Self = Self(P | A | D | NX);
    /// Data.
    pub const RW: Self = Self(P | A | D | NX | RW);
    /// Code.
    pub const RX: Self = Self(P | A | D);
    /// Code with data among it, in a root that the hypervisor's own code does not run on.
    pub const FIRMWARE: Self = Self(P | A | D | RW);
    /// Readable by guests too.
    pub const USER_RO: Self = Self(P | A | D | NX | US);

    /// The same with a way of caching.
    #[must_use]
    pub const fn cached(self, cache: Cache) -> Self {
        let index = cache as u64;
        let attribute = ((index & 1) * PWT) | ((index >> 1 & 1) * PCD) | ((index >> 2 & 1) * PAT);
        Self(self.0 & !(PWT | PCD | PAT) | attribute)
    }

    /// The entry of a page of 4 KiB (`level` 1), 2 MiB (2) or 1 GiB (3).
    #[must_use]
    pub const fn entry(self, frame: Mfn, level: u32) -> u64 {
        let entry = frame.addr().raw() | self.0;
        if level == 1 {
            entry
        } else if entry & PAT != 0 {
            entry | PSE | PAT_LARGE
        } else {
            entry | PSE
        }
    }
}

/// Why a mapping could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapError {
    /// No frame left for a table.
    NoMemory,
    /// Something is mapped there already.
    InUse,
    /// The address is outside the room for such mappings, or not page aligned.
    BadAddress,
}

/// Where frames for new tables come from.
pub trait TableSource {
    /// A frame with any contents.
    fn table(&mut self) -> Option<Mfn>;
}

impl<F: FnMut() -> Option<Mfn>> TableSource for F {
    fn table(&mut self) -> Option<Mfn> {
        self()
    }
}

/// Frames that an entry of `level` translates.
pub const fn frames_at(level: u32) -> u64 {
    1 << (9 * (level - 1))
}

/// One tree of tables.
#[derive(Debug)]
pub struct Tables<'a, M> {
    mem: &'a M,
    root: Mfn,
    /// Largest page, as a level: 3 if the CPU has 1 GiB pages, else 2.
    max_level: u32,
}

impl<'a, M: FrameMem> Tables<'a, M> {
    /// The tree under `root`.
    pub const fn new(mem: &'a M, root: Mfn, max_level: u32) -> Self {
        Self {
            mem,
            root,
            max_level,
        }
    }

    /// Maps `pages` frames from `first` on at `va`, in the largest pages that fit.
    ///
    /// # Errors
    /// [`MapError`]; what was mapped before the error stays.
    pub fn map(
        &self,
        va: u64,
        first: Mfn,
        pages: u64,
        prot: Prot,
        source: &mut impl TableSource,
    ) -> Result<(), MapError> {
        let mut done = 0;
        while done < pages {
            let at = va + (done << 12);
            let frame = first.offset(done);
            let level = self.fitting_level(at, frame, pages - done);
            let table = self.table(at, level, prot, source)?;
            let slot = &self.mem.words(table)[GuestVa(at).index(level)];
            if slot.load(Relaxed) & P != 0 {
                return Err(MapError::InUse);
            }
            slot.store(prot.entry(frame, level), Relaxed);
            done += frames_at(level);
        }
        Ok(())
    }

    /// Takes `pages` pages at `va` away; holes are skipped. Calls `flush` with each
    /// address whose translation went.
    ///
    /// # Errors
    /// [`MapError::NoMemory`] if a large page must be split and there is no frame.
    pub fn unmap(
        &self,
        va: u64,
        pages: u64,
        source: &mut impl TableSource,
        mut flush: impl FnMut(u64),
    ) -> Result<(), MapError> {
        let mut done = 0;
        while done < pages {
            let at = va + (done << 12);
            let (level, table) = self.lowest_table(at);
            let size = frames_at(level);
            let offset = (at >> 12) & (size - 1);
            let slot = &self.mem.words(table)[GuestVa(at).index(level)];
            let entry = slot.load(Relaxed);
            if entry & P == 0 {
                done += size - offset;
            } else if offset != 0 || size > pages - done {
                self.split(table, GuestVa(at).index(level), level, source)?;
                flush(at);
            } else {
                slot.store(0, Relaxed);
                flush(at);
                done += size;
            }
        }
        Ok(())
    }

    /// Makes sure that all L1 tables for `pages` pages at `va` exist, so that single
    /// entries can be set without a lock.
    ///
    /// # Errors
    /// [`MapError::NoMemory`].
    pub fn reserve(
        &self,
        va: u64,
        pages: u64,
        source: &mut impl TableSource,
    ) -> Result<(), MapError> {
        let mut at = va & !0x1f_ffff;
        while at < va + (pages << 12) {
            self.table(at, 1, Prot::RW, source)?;
            at += 0x20_0000;
        }
        Ok(())
    }

    /// The entry that translates `va`, and its level.
    pub fn lookup(&self, va: u64) -> Option<(u64, u32)> {
        let (level, table) = self.lowest_table(va);
        let entry = self.mem.words(table)[GuestVa(va).index(level)].load(Relaxed);
        (entry & P != 0).then_some((entry, level))
    }

    /// The L1 table for `va`, if there is one.
    pub fn l1_table(&self, va: u64) -> Option<Mfn> {
        let (level, table) = self.lowest_table(va);
        (level == 1).then_some(table)
    }

    /// Largest page that can start at `at` and `frame` and spans at most `pages`.
    fn fitting_level(&self, at: u64, frame: Mfn, pages: u64) -> u32 {
        let fits = |level: &u32| {
            let size = frames_at(*level);
            size <= pages && ((at >> 12) | frame.raw()) & (size - 1) == 0
        };
        (2..=self.max_level).rev().find(fits).unwrap_or(1)
    }

    /// The table of `level` for `va`, made if there is none.
    fn table(
        &self,
        va: u64,
        level: u32,
        prot: Prot,
        source: &mut impl TableSource,
    ) -> Result<Mfn, MapError> {
        let mut table = self.root;
        for l in (level + 1..=4).rev() {
            let slot = &self.mem.words(table)[GuestVa(va).index(l)];
            let entry = slot.load(Relaxed);
            table = if entry & P == 0 {
                let new = source.table().ok_or(MapError::NoMemory)?;
                for word in self.mem.words(new) {
                    word.store(0, Relaxed);
                }
                slot.store(table_entry(new, prot), Relaxed);
                new
            } else if l < 4 && entry & PSE != 0 {
                return Err(MapError::InUse);
            } else {
                frame_of(entry)
            };
        }
        Ok(table)
    }

    /// The table whose entry ends the walk for `va`, and its level.
    fn lowest_table(&self, va: u64) -> (u32, Mfn) {
        let mut table = self.root;
        for level in (2..=4).rev() {
            let entry = self.mem.words(table)[GuestVa(va).index(level)].load(Relaxed);
            if entry & P == 0 || level < 4 && entry & PSE != 0 {
                return (level, table);
            }
            table = frame_of(entry);
        }
        (1, table)
    }

    /// Replaces a large page by a table of smaller ones with the same rights.
    fn split(
        &self,
        table: Mfn,
        index: usize,
        level: u32,
        source: &mut impl TableSource,
    ) -> Result<(), MapError> {
        let slot = &self.mem.words(table)[index];
        let entry = slot.load(Relaxed);
        let mut rights = entry & !(FRAME | PSE);
        if entry & PAT_LARGE != 0 {
            rights |= PAT;
        }
        let first = frame_of(entry & !PAT_LARGE);
        let new = source.table().ok_or(MapError::NoMemory)?;
        for (i, word) in self.mem.words(new).iter().enumerate() {
            let frame = first.offset(i as u64 * frames_at(level - 1));
            word.store(Prot(rights).entry(frame, level - 1), Relaxed);
        }
        slot.store(table_entry(new, Prot(rights)), Relaxed);
        Ok(())
    }
}

/// An entry that leads to a table; the leaves say what is allowed.
#[must_use]
pub const fn table_entry(table: Mfn, prot: Prot) -> u64 {
    table.addr().raw() | P | RW | A | prot.0 & US
}

/// The frame in a valid entry of ours.
#[must_use]
pub const fn frame_of(entry: u64) -> Mfn {
    MachAddr::new(entry & FRAME).frame()
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::AtomicU64;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Frames 0x100, 0x101, ... for tables.
    struct Fake(Vec<[AtomicU64; 512]>);
    const FIRST: u64 = 0x100;

    impl Fake {
        fn new() -> Self {
            Self(
                (0..16)
                    .map(|_| [const { AtomicU64::new(0x55) }; 512])
                    .collect(),
            )
        }
        fn source(&self) -> impl TableSource {
            let mut next = 1;
            let len = self.0.len() as u64;
            move || {
                next += 1;
                (next <= len).then(|| Mfn::new(FIRST + next - 1))
            }
        }
        fn tables(&self, max_level: u32) -> Tables<'_, Self> {
            for word in &self.0[0] {
                word.store(0, Relaxed);
            }
            Tables::new(self, Mfn::new(FIRST), max_level)
        }
    }

    impl FrameMem for Fake {
        fn words(&self, mfn: Mfn) -> &[AtomicU64; 512] {
            &self.0[(mfn.raw() - FIRST) as usize]
        }
        fn bytes(&self, _: Mfn) -> *mut u8 {
            unreachable!()
        }
    }

    /// The frame `va` leads to.
    fn translate(tables: &Tables<'_, Fake>, va: u64) -> Option<u64> {
        let (entry, level) = tables.lookup(va)?;
        let base = frame_of(entry & !if level > 1 { PAT_LARGE } else { 0 }).raw();
        Some(base + ((va >> 12) & (frames_at(level) - 1)))
    }

    const VA: u64 = 0xffff_8400_0000_0000;

    #[test]
    fn picks_the_largest_pages() {
        let fake = Fake::new();
        let tables = fake.tables(3);
        let mut source = fake.source();
        // 4 KiB up to 2 MiB, 2 MiB up to 1 GiB, then 1 GiB.
        let (first, pages) = (0x1ff, (3 << 18) - 0x1ff);
        let va = VA + (first << 12);
        tables
            .map(va, Mfn::new(first), pages, Prot::RW, &mut source)
            .unwrap();
        assert_eq!(tables.lookup(va).unwrap().1, 1);
        assert_eq!(tables.lookup(VA + 0x20_0000).unwrap().1, 2);
        assert_eq!(tables.lookup(VA + (1 << 30)).unwrap().1, 3);
        assert_eq!(
            translate(&tables, VA + (2 << 30) + 0x5000),
            Some((2 << 18) + 5)
        );
        assert_eq!(tables.lookup(VA), None);
        assert_eq!(
            tables.map(VA + (2 << 30), Mfn::new(7), 1, Prot::RW, &mut source),
            Err(MapError::InUse)
        );
    }

    #[test]
    fn cache_bits_land_where_each_size_has_them() {
        let prot = Prot::RW.cached(Cache::WriteCombining);
        assert_eq!(prot.entry(Mfn::new(0), 1) & (PAT | PWT | PCD), PAT);
        let large = prot.entry(Mfn::new(0), 2);
        assert_eq!(large & (PSE | PAT_LARGE), PSE | PAT_LARGE);
        let uc = Prot::RW.cached(Cache::Uncached).entry(Mfn::new(0), 2);
        assert_eq!(uc & (PAT_LARGE | PWT | PCD), PWT | PCD);
        for p in [Prot::RO, Prot::RW, Prot::RX, Prot::USER_RO] {
            assert!(p.0 & RW == 0 || p.0 & NX != 0);
        }
    }

    #[test]
    fn without_frames_there_is_an_error() {
        let fake = Fake::new();
        let tables = fake.tables(2);
        let r = tables.map(VA, Mfn::new(0), 1, Prot::RW, &mut || None);
        assert_eq!(r, Err(MapError::NoMemory));
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 2 } else { 64 },
            failure_persistence: None,
            ..ProptestConfig::default()
        })]
        #[test]
        fn unmapping_any_part_leaves_the_rest(at in 0u64..2048, len in 0u64..2048) {
            let fake = Fake::new();
            let tables = fake.tables(2);
            let mut source = fake.source();
            let prot = Prot::RW.cached(Cache::WriteCombining);
            tables.map(VA, Mfn::new(0x4000), 2048, prot, &mut source).unwrap();
            tables.unmap(VA + (at << 12), len, &mut source, |_| {}).unwrap();
            for page in (0..2048).step_by(if cfg!(miri) { 97 } else { 1 }) {
                let gone = (at..at + len).contains(&page);
                let want = (!gone).then_some(0x4000 + page);
                prop_assert_eq!(translate(&tables, VA + (page << 12)), want);
            }
        }
    }
}
