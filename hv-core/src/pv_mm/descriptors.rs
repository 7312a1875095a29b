//! Segment-descriptor pages (GDT and LDT frames) and their checked updates.
//!
//! Only descriptors that cannot raise privilege may lie in such a page.
//! Source: Intel SDM volume 3A, sections 3.4.5 and 5.8.3; which are allowed: Xen's
//! interface for PV guests.

use super::PtError;
use crate::addr::{DomId, MachAddr, Mfn};
use crate::arch::{FrameMem, Tlb};
use crate::mm::Mm;
use crate::mm::frame_table::{Acquired, FrameType};
use core::sync::atomic::Ordering;

/// First GDT entry that is the hypervisor's.
/// Source: Xen `include/public/arch-x86/xen.h`, `FIRST_RESERVED_GDT_ENTRY`.
pub const FIRST_RESERVED_ENTRY: u16 = 14 * 512;

const PRESENT: u64 = 1 << 47;
const DPL_SHIFT: u32 = 45;
const DPL: u64 = 3 << DPL_SHIFT;
/// Code or data (as opposed to system).
const CODE_OR_DATA: u64 = 1 << 44;
const TYPE: u64 = 0xf << 40;
const CALL_GATE: u64 = 0xc << 40;
/// Bits of a 64-bit call gate that must be 0.
const GATE_RESERVED: u64 = 0xff << 32;

/// The descriptor as it will be stored, if a guest may have it.
#[must_use]
pub const fn check(descriptor: u64) -> Option<u64> {
    if descriptor & PRESENT == 0 {
        return Some(descriptor);
    }
    let dpl = descriptor >> DPL_SHIFT & 3;
    let raised = descriptor | DPL;
    if descriptor & CODE_OR_DATA != 0 || descriptor & TYPE == 0 {
        // Type 0 is also the second half of a call gate.
        return Some(raised);
    }
    if descriptor & TYPE != CALL_GATE || descriptor & GATE_RESERVED != 0 {
        return None;
    }
    let selector = (descriptor >> 16) as u16;
    if !gate_target(selector) {
        return None;
    }
    // With privilege level 0 the gate always faults, and its use can be emulated; the
    // guest's own level is kept in the selector.
    let selector = selector & !3 | dpl as u16;
    Some(descriptor & !DPL & !(0xffff << 16) | (selector as u64) << 16)
}

/// Whether a gate may lead to code by `selector`: the guest's entries, the LDT, or one
/// of the flat code segments.
const fn gate_target(selector: u16) -> bool {
    selector >> 3 < FIRST_RESERVED_ENTRY
        || selector & 4 != 0
        || matches!(selector & !3, 0xe020 | 0xe030)
}

/// Takes a reference to `owner`'s frame as descriptor page; every descriptor in it is
/// checked if it is not one yet. Give back with [`release`].
///
/// # Errors
/// [`PtError::BadDescriptor`], [`PtError::NotOwned`], [`PtError::InUseAs`].
pub fn acquire<M: FrameMem, T: Tlb>(mm: &Mm<M, T>, owner: DomId, mfn: Mfn) -> Result<(), PtError> {
    let frame = mm.frames.get(mfn).ok_or(PtError::NotOwned)?;
    if !frame.get_ref(owner) {
        return Err(PtError::NotOwned);
    }
    let failed = loop {
        match frame.get_type(FrameType::Descriptors, true) {
            Acquired::Held => {
                mm.put_ref(mfn, frame);
                return Ok(());
            }
            Acquired::Claimed(before) => {
                mm.flush_before_reuse(frame, before, FrameType::Descriptors);
                mm.make_coherent(mfn, frame);
                if check_page(mm, mfn) {
                    frame.publish_valid();
                    return Ok(());
                }
                frame.publish_dismantled(mm.stamp_now());
                break PtError::BadDescriptor;
            }
            Acquired::Wait | Acquired::Resume | Acquired::NeedsRef => {
                crate::arch::machine::relax();
            }
            Acquired::Conflict(other) => break PtError::InUseAs(other),
            Acquired::Overflow => break PtError::Overflow,
        }
    };
    mm.put_ref(mfn, frame);
    Err(failed)
}

fn check_page<M: FrameMem, T: Tlb>(mm: &Mm<M, T>, mfn: Mfn) -> bool {
    mm.mem.words(mfn).iter().all(|word| {
        let descriptor = word.load(Ordering::Relaxed);
        check(descriptor)
            .map(|stored| {
                if stored != descriptor {
                    word.store(stored, Ordering::Relaxed);
                }
            })
            .is_some()
    })
}

/// Gives a descriptor-page reference back.
///
/// # Panics
/// If the frame has no record.
pub fn release<M: FrameMem, T: Tlb>(mm: &Mm<M, T>, mfn: Mfn) {
    mm.put_simple_at(mfn, mm.record(mfn));
}

/// `update_descriptor`: a checked store of one descriptor into `owner`'s frame, which
/// is a descriptor page or a plain one.
///
/// # Errors
/// [`PtError::BadDescriptor`]; [`PtError::InUseAs`] a page table; [`PtError::NotOwned`].
pub fn update<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    owner: DomId,
    addr: MachAddr,
    descriptor: u64,
) -> Result<(), PtError> {
    if !addr.raw().is_multiple_of(8) {
        return Err(PtError::BadDescriptor);
    }
    let stored = check(descriptor).ok_or(PtError::BadDescriptor)?;
    let mfn = addr.frame();
    let frame = mm.frames.get(mfn).ok_or(PtError::NotOwned)?;
    let word = &|| &mm.mem.words(mfn)[(addr.page_offset() / 8) as usize];
    if frame.kind().ty() == FrameType::Descriptors && frame.kind().count() > 0 {
        acquire(mm, owner, mfn)?;
        word().store(stored, Ordering::Release);
        release(mm, mfn);
    } else {
        mm.get_writable_at(mfn, frame, owner)?;
        word().store(stored, Ordering::Release);
        mm.put_writable_at(mfn, frame);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::Mm;
    use crate::mm::frame_alloc::Request;
    use crate::mm::testing::{FakeMem, FakeTlb, machine};

    const DOM: DomId = DomId(1);

    fn guest() -> (Mm<FakeMem, FakeTlb>, Mfn) {
        let mm = machine(16, 0);
        mm.accounts.open(DOM).unwrap().set_max(8);
        let mfn = mm.alloc_for(DOM, Request::anywhere(0)).unwrap();
        (mm, mfn)
    }

    #[test]
    fn what_may_be_stored() {
        // Data, DPL 0: raised to 3. Not present: as it is.
        assert_eq!(check(0x00cf_9300_0000_ffff), Some(0x00cf_f300_0000_ffff));
        assert_eq!(check(0x00cf_1300_0000_ffff), Some(0x00cf_1300_0000_ffff));
        // Available TSS, LDT: refused.
        assert_eq!(check(0x0000_8900_0000_0067), None);
        assert_eq!(check(0x0000_8200_0000_0067), None);
        // A call gate with DPL 3 to selector 0x10: DPL 0, RPL 3.
        assert_eq!(check(0x1234_ec00_0010_5678), Some(0x1234_8c00_0013_5678));
        // To one of the hypervisor's selectors, or with reserved bits.
        assert_eq!(check(0x1234_ec00_e008_5678), None);
        assert_eq!(check(0x1234_ec01_0010_5678), None);
    }

    #[test]
    fn a_page_is_descriptors_or_writable() {
        let (mm, mfn) = guest();
        mm.mem.words(mfn)[2].store(0x00af_9b00_0000_ffff, Ordering::Relaxed);
        acquire(&mm, DOM, mfn).unwrap();
        assert_eq!(
            mm.mem.words(mfn)[2].load(Ordering::Relaxed),
            0x00af_fb00_0000_ffff
        );
        assert!(mm.get_writable(mfn, DOM).is_err());
        update(
            &mm,
            DOM,
            MachAddr::new(mfn.addr().raw() + 8),
            0x00cf_9300_0000_ffff,
        )
        .unwrap();
        assert_eq!(
            update(&mm, DOM, mfn.addr(), 0x0000_8900_0000_0067),
            Err(PtError::BadDescriptor)
        );
        release(&mm, mfn);
        mm.get_writable(mfn, DOM).unwrap();
        assert!(acquire(&mm, DOM, mfn).is_err());
        mm.put_writable(mfn);
    }

    #[test]
    fn a_bad_page_stays_plain() {
        let (mm, mfn) = guest();
        mm.mem.words(mfn)[9].store(0x0000_8900_0000_0067, Ordering::Relaxed);
        assert_eq!(acquire(&mm, DOM, mfn), Err(PtError::BadDescriptor));
        assert_eq!(mm.record(mfn).count().refs(), 1);
        assert_eq!(mm.record(mfn).kind().count(), 0);
    }
}
