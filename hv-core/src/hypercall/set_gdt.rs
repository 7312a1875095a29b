//! `set_gdt` (2) and `update_descriptor` (10).
//! Source: Xen `include/public/xen.h`, `include/public/arch-x86/xen.h`.

use super::{Call, Error, HypercallResult, Reply};
use crate::addr::{DomId, GuestVa, MachAddr, Mfn};
use crate::arch::machine;
use crate::domain::VcpuState;
use crate::mm::{HostMm, host};
use crate::pv_mm::descriptors;

/// Entries a guest's GDT may have.
const MAX_ENTRIES: u32 = descriptors::FIRST_RESERVED_ENTRY as u32;
/// Entries in a frame.
const PER_FRAME: usize = 512;

/// Frames of a guest's GDT.
pub type GdtFrames = [Option<Mfn>; 14];

/// Handles `set_gdt(frame_list, entries)`.
///
/// # Errors
/// `EINVAL`: too many entries, or a frame that cannot be a descriptor page. `EFAULT`.
pub fn set_gdt(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let entries = args[1] as u32;
    if entries > MAX_ENTRIES {
        return Err(Error::Invalid);
    }
    let count = (entries as usize).div_ceil(PER_FRAME);
    let mut raw = [0_u64; 14];
    let list = raw.get_mut(..count).ok_or(Error::Invalid)?;
    call.guest().read_slice(GuestVa(args[0]), list)?;
    let frames = acquire(host::get(), call.domain.id, list)?;
    let old = core::mem::replace(&mut call.state.gdt_frames, frames);
    call.state.gdt_entries = entries as u16;
    // The CPU must not see the old frames any more when they may change.
    machine::load_gdt(call.state);
    give_back(old);
    Ok(Reply::Done(0))
}

/// Takes references to the frames of a GDT, checking them.
///
/// # Errors
/// `EINVAL`; nothing is taken.
pub fn acquire(mm: &HostMm, owner: DomId, raw: &[u64]) -> Result<GdtFrames, Error> {
    let mut frames: GdtFrames = [None; 14];
    for (n, (slot, raw)) in frames.iter_mut().zip(raw).enumerate() {
        let taken =
            Mfn::from_guest(*raw).filter(|mfn| descriptors::acquire(mm, owner, *mfn).is_ok());
        if taken.is_none() {
            for frame in frames[..n].iter().flatten() {
                descriptors::release(mm, *frame);
            }
            return Err(Error::Invalid);
        }
        *slot = taken;
    }
    Ok(frames)
}

/// Gives back the frames of the GDT of a vCPU that is not loaded on a CPU.
pub fn release(state: &mut VcpuState) {
    give_back(core::mem::take(&mut state.gdt_frames));
    state.gdt_entries = 0;
}

fn give_back(frames: GdtFrames) {
    for frame in frames.into_iter().flatten() {
        descriptors::release(host::get(), frame);
    }
}

/// Handles `update_descriptor(machine_address, descriptor)`.
///
/// # Errors
/// `EINVAL`: address, descriptor, or a frame in use as a page table.
pub fn update_descriptor(call: &mut Call<'_>, args: [u64; 6]) -> HypercallResult {
    let addr = MachAddr::from_guest(args[0]).ok_or(Error::Invalid)?;
    descriptors::update(host::get(), call.domain.id, addr, args[1])?;
    Ok(Reply::Done(0))
}
