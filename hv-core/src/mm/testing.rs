//! A small fake machine for tests: memory, TLB, records.

use super::Mm;
use super::frame_table::{Frame, FrameTable};
use super::m2p::M2p;
use crate::addr::{CpuMask, GuestVa, Mfn};
use crate::arch::{FlushStamp, FrameMem, Tlb};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

#[repr(C, align(4096))]
struct Page([AtomicU64; 512]);

/// Frames 0 to n-1, each on its own: Miri looks at every word of a slice of pages
/// whenever one of them is reached.
#[allow(clippy::vec_box, reason = "see above")]
pub struct FakeMem(Vec<Box<Page>>, AtomicUsize);

impl FakeMem {
    /// `frames` zeroed frames.
    pub fn new(frames: usize) -> Self {
        Self(
            (0..frames)
                .map(|_| Box::new(Page([const { AtomicU64::new(0) }; 512])))
                .collect(),
            AtomicUsize::new(0),
        )
    }

    /// Frames flushed from the cache so far.
    pub fn cache_flushes(&self) -> usize {
        self.1.load(Ordering::Relaxed)
    }
}

impl FrameMem for FakeMem {
    fn words(&self, mfn: Mfn) -> &[AtomicU64; 512] {
        &self.0[mfn.raw() as usize].0
    }
    fn bytes(&self, mfn: Mfn) -> *mut u8 {
        (&raw const *self.0[mfn.raw() as usize])
            .cast::<u8>()
            .cast_mut()
    }
    fn flush_cache(&self, _: Mfn) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts flushes.
#[derive(Default)]
pub struct FakeTlb {
    clock: AtomicU32,
    flushed: AtomicU32,
    flushes: AtomicUsize,
}

impl FakeTlb {
    /// Flushes so far.
    pub fn count(&self) -> usize {
        self.flushes.load(Ordering::Relaxed)
    }
}

impl Tlb for FakeTlb {
    fn now(&self) -> FlushStamp {
        FlushStamp(self.clock.load(Ordering::Relaxed) + 1)
    }
    fn flush_since(&self, stamp: FlushStamp, cpus: &CpuMask) {
        if stamp.0 > self.flushed.load(Ordering::Relaxed) {
            self.flush(cpus);
        }
    }
    fn flush(&self, _: &CpuMask) {
        let now = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        self.flushed.store(now, Ordering::Relaxed);
        self.flushes.fetch_add(1, Ordering::Relaxed);
    }
    fn flush_page(&self, _: GuestVa, _: &CpuMask) {}
}

fn presence(frames: usize) -> &'static [AtomicU64] {
    let words = frames.div_ceil(64 * 512);
    Box::leak((0..words).map(|_| AtomicU64::new(0)).collect())
}

/// Records of `frames` frames.
pub fn records(frames: usize) -> FrameTable {
    let records: Box<[Frame]> = (0..frames).map(|_| Frame::default()).collect();
    FrameTable::from_slice(Box::leak(records), presence(frames))
}

/// The tables of a machine with `ram` frames of RAM from 0, none of it free yet, and records
/// (but no RAM) for `holes` more.
pub fn mm_of<M: FrameMem, T: Tlb>(ram: usize, holes: usize, mem: M, tlb: T) -> Mm<M, T> {
    let frames = records(ram + holes);
    let entries: Box<[AtomicU64]> = (0..ram + holes).map(|_| AtomicU64::new(!0)).collect();
    let present = presence(ram + holes);
    for word in present {
        word.store(!0, Ordering::Relaxed);
    }
    let m2p = M2p::from_slice(Box::leak(entries), present);
    Mm::new(frames, m2p, mem, tlb)
}

/// A machine with `ram` frames of RAM from 0 and records (but no RAM) for `holes` more.
pub fn machine(ram: usize, holes: usize) -> Mm<FakeMem, FakeTlb> {
    let mm = mm_of(ram, holes, FakeMem::new(ram), FakeTlb::default());
    mm.add_ram(Mfn::new(0), ram as u64);
    mm
}
