//! Moving a vCPU's `vcpu_info` to where the guest wants it.

use crate::mm::shared_page::{InfoSlot, InfoWindow, SharedPage};
use core::sync::atomic::Ordering;

/// Makes `offset` of `page` the vCPU's `vcpu_info` (`VCPUOP_register_vcpu_info`).
/// `false`, and nothing changed, if it does not fit there. The caller holds a
/// writable reference to the frame and has checked that this is the first time.
///
/// The old contents move along. Then every selector and the upcall are marked
/// pending, as events may have come in between: the guest sees at worst a
/// spurious one.
#[must_use]
pub fn register(slot: &InfoSlot, page: SharedPage, offset: usize) -> bool {
    let place = InfoSlot::default();
    if !place.set(page, offset) {
        return false;
    }
    let Some(new) = place.get() else {
        return false;
    };
    carry_over(slot.get(), &new);
    let moved = slot.set(page, offset);
    mark_all_pending(&new);
    moved
}

/// Fills a new `vcpu_info` from the old one; without an old one it starts all zero
/// with events masked.
pub fn carry_over(old: Option<InfoWindow>, new: &InfoWindow) {
    match old {
        Some(old) => {
            for (to, from) in new.words().iter().zip(old.words()) {
                to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        None => {
            for word in new.words() {
                word.store(0, Ordering::Relaxed);
            }
            new.upcall_mask().store(1, Ordering::Relaxed);
        }
    }
}

/// Marks every selector and the upcall pending.
pub fn mark_all_pending(info: &InfoWindow) {
    info.pending_sel().store(u64::MAX, Ordering::SeqCst);
    info.upcall_pending().store(1, Ordering::SeqCst);
}
