//! A new domain's frames, by PFN.
#![allow(clippy::disallowed_methods, reason = "at boot only")]

use super::BuildError;
use crate::addr::{DomId, Mfn, PAGE_SIZE, Pfn};
use crate::arch::FrameMem;
use crate::mm::frame_alloc::Request;
use crate::mm::{HostMm, frame_io};
use alloc::vec::Vec;
use core::sync::atomic::Ordering;
use pv_image::Plan;

/// A run of PFNs with consecutive MFNs.
#[derive(Debug)]
struct Extent {
    pfn: u64,
    mfn: Mfn,
    count: u64,
}

/// All frames of the domain, ascending by PFN, without gaps.
#[derive(Debug)]
pub struct Memory(Vec<Extent>);

/// Largest block asked for, as a power of two of frames (1 GiB).
const MAX_ORDER: u32 = 18;

impl Memory {
    /// Takes `count` frames for `owner`, in blocks as large as there are, and tells
    /// the machine-to-physical table.
    ///
    /// # Errors
    /// [`BuildError::NoMemory`].
    pub fn allocate(mm: &HostMm, owner: DomId, count: u64) -> Result<Self, BuildError> {
        let mut extents = Vec::new();
        let mut pfn = 0;
        let mut order = MAX_ORDER;
        while pfn < count {
            while 1 << order > count - pfn {
                order -= 1;
            }
            match mm.alloc_for(owner, Request::anywhere(order)) {
                Ok(mfn) => {
                    for n in 0..1 << order {
                        mm.m2p.set(mfn.offset(n), Pfn(pfn + n));
                    }
                    extents.push(Extent {
                        pfn,
                        mfn,
                        count: 1 << order,
                    });
                    pfn += 1 << order;
                }
                Err(_) if order > 0 => order -= 1,
                Err(_) => return Err(BuildError::NoMemory),
            }
        }
        Ok(Self(extents))
    }

    /// The machine frame of `pfn`.
    ///
    /// # Panics
    /// If the domain has no such frame; plans name only those it has.
    pub fn mfn(&self, pfn: Pfn) -> Mfn {
        let after = self.0.partition_point(|e| e.pfn <= pfn.0);
        let extent = &self.0[after - 1];
        let offset = pfn.0 - extent.pfn;
        assert!(offset < extent.count);
        extent.mfn.offset(offset)
    }

    /// Copies `bytes` to pseudo-physical address `at`.
    pub fn write(&self, mm: &HostMm, mut at: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let offset = at % PAGE_SIZE as usize;
            let n = bytes.len().min(PAGE_SIZE as usize - offset);
            let mfn = self.mfn(Pfn((at / PAGE_SIZE as usize) as u64));
            frame_io::write(&mm.mem, mfn, offset, &bytes[..n]);
            at += n;
            bytes = &bytes[n..];
        }
    }

    /// Writes the P2M list; what is left of its last frame is filled with ones.
    pub fn write_p2m(&self, mm: &HostMm, plan: &Plan) {
        const PER_FRAME: u64 = PAGE_SIZE / 8;
        for extent in &self.0 {
            for n in 0..extent.count {
                let pfn = extent.pfn + n;
                let frame = self.mfn(Pfn(plan.p2m.frames.first + pfn / PER_FRAME));
                let slot = (pfn % PER_FRAME) as usize;
                mm.mem.words(frame)[slot].store(extent.mfn.raw() + n, Ordering::Relaxed);
            }
        }
        for pfn in plan.nr_pages..plan.nr_pages.next_multiple_of(PER_FRAME) {
            let frame = self.mfn(Pfn(plan.p2m.frames.first + pfn / PER_FRAME));
            mm.mem.words(frame)[(pfn % PER_FRAME) as usize].store(u64::MAX, Ordering::Relaxed);
        }
    }
}
