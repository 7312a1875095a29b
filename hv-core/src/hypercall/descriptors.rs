//! The guest's LDT: mapped page by page when the CPU first looks a selector up.

use super::Call;
use crate::addr::Mfn;
use crate::domain::VcpuState;
use crate::mm::{host, pte};
use crate::pv_mm::{descriptors, walk};
use core::sync::atomic::Ordering;

/// The frame of page `page` of the vCPU's LDT, checked and counted as a descriptor page.
/// `None` if the guest kernel does not map it, or maps something else there.
pub fn ldt_page(call: &mut Call<'_>, page: u16) -> Option<Mfn> {
    let n = usize::from(page);
    if let Some(frame) = *call.state.ldt_frames.get(n)? {
        return Some(frame);
    }
    let mm = host::get();
    let root = call.state.kernel_root?;
    let va = call.state.ldt_base.add(u64::from(page) << 12);
    let entry = walk::find_l1(&mm.mem, root, va)?
        .word(&mm.mem)
        .load(Ordering::Acquire);
    if entry & pte::P == 0 {
        return None;
    }
    let frame = pte::frame(entry);
    descriptors::acquire(mm, call.domain.id, frame).ok()?;
    call.state.ldt_frames[n] = Some(frame);
    Some(frame)
}

/// Gives back every page of the vCPU's LDT. The caller reloads the window.
pub fn release_ldt(state: &mut VcpuState) {
    for slot in &mut state.ldt_frames {
        if let Some(frame) = slot.take() {
            descriptors::release(host::get(), frame);
        }
    }
}
