//! Memory maps: the machine's for dom0, and the map a toolstack gives a guest.

use super::super::{Call, Error, HypercallResult, Reply};
use crate::access;
use crate::addr::GuestVa;
use crate::fallible;
use crate::mm::memory_map::{MemoryMap, RegionKind};
use crate::sync::Once;
use alloc::vec::Vec;
use core::ops::Range;
use xen_abi::memory as abi;
use zerocopy::IntoBytes;

/// The machine's map, as dom0 sees it.
static MACHINE: Once<Vec<abi::E820Entry>> = Once::new();

/// Most entries of a guest's map. Source: Xen `include/asm-x86/e820.h`, `E820MAX`.
pub const MAX_GUEST_ENTRIES: usize = 1024;

/// Sets the machine's map: the firmware's, and as reserved what of `devices` (frame
/// numbers) it does not mention. Called once at boot.
pub fn set_machine(map: &MemoryMap, devices: &[Range<u64>]) {
    MACHINE.call_once(|| machine_entries(map, devices));
}

#[allow(clippy::disallowed_methods, reason = "at boot")]
fn machine_entries(map: &MemoryMap, devices: &[Range<u64>]) -> Vec<abi::E820Entry> {
    let mut entries: Vec<_> = map
        .regions()
        .iter()
        .map(|r| abi::E820Entry::new(r.start, r.len, r.kind.to_e820()))
        .collect();
    for frames in devices {
        let (start, end) = (frames.start << 12, frames.end << 12);
        let mentioned = map
            .regions()
            .iter()
            .any(|r| r.start < end && r.end() > start);
        if !mentioned && start < end {
            let reserved = RegionKind::Reserved.to_e820();
            entries.push(abi::E820Entry::new(start, end - start, reserved));
        }
    }
    entries.sort_by_key(abi::E820Entry::addr);
    entries
}

/// Handles `machine_memory_map`.
///
/// # Errors
/// `EPERM`: not dom0. `EFAULT`. `EINVAL`: too little room.
pub(super) fn machine(call: &Call<'_>, arg: GuestVa) -> HypercallResult {
    if !access::may_see_host_memory(&call.domain.subject()) {
        return Err(Error::NotPermitted);
    }
    let entries = MACHINE.get().ok_or(Error::NotImplemented)?;
    let space = call.guest();
    let mut map: abi::XenMemoryMap = space.read(arg)?;
    if (map.nr_entries as usize) < entries.len() {
        return Err(Error::Invalid);
    }
    for (n, entry) in entries.iter().enumerate() {
        let at = GuestVa(map.buffer).add((n * size_of::<abi::E820Entry>()) as u64);
        space.write(at, entry)?;
    }
    map.nr_entries = entries.len() as u32;
    space.write(arg, &map)?;
    Ok(Reply::Done(0))
}

/// Handles `memory_map`: the map the toolstack gave the caller.
///
/// # Errors
/// `ENOSYS`: it gave none. `EFAULT`.
pub(super) fn own(call: &Call<'_>, arg: GuestVa) -> HypercallResult {
    /// Entries copied at a time: no guest's memory is written with the map locked.
    const CHUNK: usize = 32;
    let len = call.domain.memory_map.lock().len();
    if len == 0 {
        return Err(Error::NotImplemented);
    }
    let space = call.guest();
    let mut map: abi::XenMemoryMap = space.read(arg)?;
    let count = len.min(map.nr_entries as usize);
    let mut chunk = [abi::E820Entry::new(0, 0, 0); CHUNK];
    for first in (0..count).step_by(CHUNK) {
        let some = &mut chunk[..CHUNK.min(count - first)];
        // A tool that sets another one meanwhile makes a mix of both; that is its mistake.
        for (to, from) in some
            .iter_mut()
            .zip(call.domain.memory_map.lock()[..].iter().skip(first))
        {
            *to = *from;
        }
        let at = GuestVa(map.buffer).add((first * size_of::<abi::E820Entry>()) as u64);
        space.write_bytes(at, some.as_bytes())?;
    }
    map.nr_entries = count as u32;
    space.write(arg, &map)?;
    Ok(Reply::Done(0))
}

/// Handles `set_memory_map`.
///
/// # Errors
/// `EPERM`, `ESRCH`, `EFAULT`; `EINVAL`: too many entries; `ENOMEM`.
pub(super) fn set(call: &Call<'_>, arg: GuestVa) -> HypercallResult {
    let space = call.guest();
    let foreign: abi::XenForeignMemoryMap = space.read(arg)?;
    let count = foreign.map.nr_entries as usize;
    if count > MAX_GUEST_ENTRIES {
        return Err(Error::Invalid);
    }
    let subject = super::any_domain(call, foreign.domid).ok_or(Error::NoDomain)?;
    if !access::may_control(&call.domain.subject(), subject.id) {
        return Err(Error::NotPermitted);
    }
    let mut entries = fallible::boxed_slice(count, |_| abi::E820Entry::new(0, 0, 0))?;
    space.read_slice(GuestVa(foreign.map.buffer), &mut entries)?;
    *subject.memory_map.lock() = entries;
    Ok(Reply::Done(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::memory_map::Region;

    #[test]
    fn devices_nobody_mentions_are_reserved() {
        let mut map = MemoryMap::new();
        let mut add = |start, len, kind| map.push(Region { start, len, kind });
        add(0x10_0000, 0x10_0000, RegionKind::Ram);
        add(0, 0x9_f000, RegionKind::Ram);
        add(0xfee0_0000, 0x1000, RegionKind::Reserved);
        let entries = machine_entries(&map, &[0xfee00..0xfee01, 0xfec00..0xfec01]);
        let seen: Vec<_> = entries.iter().map(|e| (e.addr(), e.r#type)).collect();
        assert_eq!(
            seen,
            [(0, 1), (0x10_0000, 1), (0xfec0_0000, 2), (0xfee0_0000, 2)]
        );
    }
}
