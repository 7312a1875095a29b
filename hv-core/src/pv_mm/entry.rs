//! The references an L1 entry stands for: taken, changed, given back.

use super::{IoAccess, PtError, Rights, pte};
use crate::addr::{DomId, Mfn};
use crate::arch::{FrameMem, Tlb};
use crate::mm::Mm;
use crate::mm::frame_table::Frame;
use crate::mm::pte::MemoryType;

/// Checks the bits of a present L1 entry and puts them as they will be stored.
#[inline]
pub(super) fn check_l1(rights: &Rights<'_>, entry: u64) -> Result<u64, PtError> {
    let bad = if rights.cache_control {
        pte::L1_BAD_CACHED
    } else {
        pte::L1_BAD
    };
    if entry & bad != 0 {
        return Err(PtError::BadFlags);
    }
    Ok(pte::adjust_l1(entry))
}

/// Takes what the present, checked L1 entry will hold. Answers the entry to store,
/// which for device memory may differ.
#[inline]
pub(super) fn acquire_l1<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    rights: &Rights<'_>,
    entry: u64,
) -> Result<u64, PtError> {
    let mfn = pte::frame(entry);
    if let Some(frame) = mm.frames.get(mfn) {
        let count = frame.count();
        if count.is_ram() {
            if count.is_hypervisor() && entry & pte::CACHE != 0 {
                return Err(PtError::CacheType);
            }
            let taken = if entry & pte::RW != 0 {
                mm.get_writable_at(mfn, frame, rights.frames).is_ok()
            } else {
                frame.get_ref(rights.frames)
            };
            if taken && entry & pte::CACHE != 0 && entry & pte::RW != 0 {
                frame.note_non_coherent();
            }
            return if taken {
                Ok(entry)
            } else {
                Err(PtError::FrameBusy)
            };
        }
    }
    device_l1(rights, mfn, entry)
}

/// The entry to store for device memory.
#[cold]
fn device_l1(rights: &Rights<'_>, mfn: Mfn, entry: u64) -> Result<u64, PtError> {
    // Who maps with another domain's frames may name device memory only as such.
    if rights.frames != rights.tables && rights.frames != DomId::IO {
        return Err(PtError::NoIoAccess);
    }
    let access = rights.io.may_map(mfn).ok_or(PtError::NoIoAccess)?;
    let mut entry = entry;
    if access == IoAccess::ReadOnly {
        entry &= !pte::RW;
    }
    Ok(uncached_device(entry))
}

/// The entry with a type that does not cache. Device memory is never cached: a cache line would
/// be fetched when nobody asked for it, and read where the device has changed. Xen leaves the
/// types that do not cache, and makes the others "uncached".
///
/// Source: Xen 4.17's answer to each of the eight types; Intel SDM vol. 3, 12.12.1 (which combines
/// them with the MTRRs: only UC of the page attribute table is UC whatever those say).
const fn uncached_device(entry: u64) -> u64 {
    match MemoryType::of(entry) {
        MemoryType::WriteBack | MemoryType::WriteThrough | MemoryType::WriteProtected => {
            entry & !pte::CACHE | pte::PWT | pte::PCD
        }
        MemoryType::Uncached | MemoryType::UncachedMinus | MemoryType::WriteCombining => entry,
    }
}

/// Gives back what a present L1 entry that is no longer stored held.
#[inline]
pub(super) fn release_l1<M: FrameMem, T: Tlb>(mm: &Mm<M, T>, entry: u64) {
    let mfn = pte::frame(entry);
    if let Some(frame) = mm.frames.get(mfn)
        && frame.count().is_ram()
    {
        if entry & pte::RW != 0 {
            mm.put_writable_at(mfn, frame);
        } else {
            mm.put_ref(mfn, frame);
        }
    }
}

/// The RAM frame that two present entries both name, if they do and no more than the
/// right to write differs (beside what concerns no reference), and both are cached.
#[inline]
pub(super) fn same_ram<M: FrameMem, T: Tlb>(mm: &Mm<M, T>, old: u64, new: u64) -> Option<&Frame> {
    if ((old ^ new) & !(pte::L1_HARMLESS | pte::RW)) | (new & pte::CACHE) != 0 {
        return None;
    }
    mm.frames.ram(pte::frame(new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemoryType::{
        Uncached, UncachedMinus, WriteBack, WriteCombining, WriteProtected, WriteThrough,
    };

    #[test]
    fn device_memory_is_never_cached() {
        // PAT, PCD, PWT as a number, the type that is, and what becomes of it on Xen 4.17.
        let types = [
            (0, WriteBack, 3),
            (1, WriteThrough, 3),
            (2, UncachedMinus, 2),
            (3, Uncached, 3),
            (4, WriteCombining, 4),
            (5, WriteProtected, 3),
            (6, Uncached, 6),
            (7, Uncached, 7),
        ];
        let bits = |index: u64| ((index & 3) * pte::PWT) | ((index >> 2) * pte::PAT);
        let rest = pte::make(Mfn::new(0xfe000), pte::P | pte::RW | pte::US | pte::NX);
        for (index, kind, becomes) in types {
            assert_eq!(MemoryType::of(rest | bits(index)), kind);
            let stored = uncached_device(rest | bits(index));
            assert_eq!(stored, rest | bits(becomes), "type {index}");
            assert_eq!(uncached_device(stored), stored);
        }
    }
}
