//! The 2-level interface: a pending and a mask bit a port in `shared_info`, and a
//! word of selectors in the `vcpu_info` of the vCPU the port notifies.
//!
//! Source: Xen `include/public/xen.h`, `struct shared_info`.

use super::deliver::{Delivery, Receiver};
use super::port::Port;
use crate::addr::VcpuId;
use crate::arch::index;
use crate::mm::shared_page::{InfoWindow, SharedPage};
use core::sync::atomic::{AtomicU64, Ordering};

/// Ports of this interface (64 words of 64 bits).
pub(super) const PORTS: u32 = 4096;

/// Offset of `evtchn_pending` in `shared_info`, bytes.
const PENDING_OFFSET: usize = 2048;
/// Offset of `evtchn_mask` in `shared_info`, bytes.
const MASK_OFFSET: usize = 2560;

#[inline]
fn word(page: &SharedPage, base: usize, port: u32) -> (Option<&AtomicU64>, u64) {
    let words = page.words_at::<64>(base);
    (index::get(words, (port / 64) as usize), 1 << (port % 64))
}

/// Sets `port` pending for `vcpu`.
#[inline]
pub(super) fn set_pending(port: u32, vcpu: VcpuId, to: &impl Receiver) -> Delivery {
    let page = to.shared_info();
    let (Some(pending), bit) = word(&page, PENDING_OFFSET, port) else {
        return Delivery::NONE;
    };
    if pending.fetch_or(bit, Ordering::SeqCst) & bit != 0 {
        return Delivery::NONE;
    }
    let mut kick = None;
    if let (Some(mask), _) = word(&page, MASK_OFFSET, port)
        && mask.load(Ordering::SeqCst) & bit == 0
    {
        kick = select(port, vcpu, to);
    }
    Delivery {
        kick,
        raised: Some(Port(port)),
    }
}

/// Clears `port`'s mask bit; notifies `vcpu` if the port is pending.
pub(super) fn unmask(port: u32, vcpu: VcpuId, to: &impl Receiver) -> Delivery {
    let page = to.shared_info();
    let (Some(mask), bit) = word(&page, MASK_OFFSET, port) else {
        return Delivery::NONE;
    };
    // Strictly in this order: a sender sets pending first and looks at the mask after.
    if mask.fetch_and(!bit, Ordering::SeqCst) & bit == 0 || !is_pending(port, &page) {
        return Delivery::NONE;
    }
    Delivery {
        kick: select(port, vcpu, to),
        raised: None,
    }
}

/// Whether `port`'s pending bit is set.
pub(super) fn is_pending(port: u32, page: &SharedPage) -> bool {
    let (pending, bit) = word(page, PENDING_OFFSET, port);
    pending.is_some_and(|w| w.load(Ordering::SeqCst) & bit != 0)
}

/// Whether `port`'s mask bit is set.
pub(super) fn is_masked(port: u32, page: &SharedPage) -> bool {
    let (mask, bit) = word(page, MASK_OFFSET, port);
    mask.is_some_and(|w| w.load(Ordering::SeqCst) & bit != 0)
}

/// Clears `port`'s pending bit.
pub(super) fn clear_pending(port: u32, page: &SharedPage) {
    if let (Some(pending), bit) = word(page, PENDING_OFFSET, port) {
        pending.fetch_and(!bit, Ordering::SeqCst);
    }
}

/// Tells `vcpu` in which word to look. A vCPU without `vcpu_info` is told when it
/// registers one: then all selectors are set.
#[inline]
fn select(port: u32, vcpu: VcpuId, to: &impl Receiver) -> Option<VcpuId> {
    let info = to.vcpu_info(vcpu)?;
    let bit = 1 << (port / 64 % 64);
    if info.pending_sel().fetch_or(bit, Ordering::SeqCst) & bit != 0 {
        return None;
    }
    mark(&info).then_some(vcpu)
}

/// Sets `evtchn_upcall_pending`; whether it was clear.
#[inline]
pub(super) fn mark(info: &InfoWindow) -> bool {
    info.upcall_pending().swap(1, Ordering::SeqCst) == 0
}
