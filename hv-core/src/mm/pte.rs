//! Bits of a page-table entry, and which of them a guest may set.
//!
//! Source: Intel SDM volume 3A, section 4.5 (tables 4-15 to 4-20); which are allowed,
//! and the marker bit: Xen `include/public/xen.h` and its documented behaviour.

use crate::addr::Mfn;

/// Present.
pub const P: u64 = 1 << 0;
/// Writable.
pub const RW: u64 = 1 << 1;
/// User mode may use it.
pub const US: u64 = 1 << 2;
/// Write-through: low bit of the cache type.
pub const PWT: u64 = 1 << 3;
/// Cache disable: middle bit of the cache type.
pub const PCD: u64 = 1 << 4;
/// Accessed.
pub const A: u64 = 1 << 5;
/// Dirty.
pub const D: u64 = 1 << 6;
/// L1: high bit of the cache type.
pub const PAT: u64 = 1 << 7;
/// L2 and L3: a large page.
pub const PSE: u64 = 1 << 7;
/// Global.
pub const G: u64 = 1 << 8;
/// For software.
pub const AVAIL: u64 = 0xe00;
/// For software: Xen's mark of a guest-kernel page, whose user bit the hypervisor set.
pub const GUEST_KERNEL: u64 = 1 << 52;
/// For software.
pub const AVAIL_HIGH: u64 = 0x7ff << 52;
/// No execution.
pub const NX: u64 = 1 << 63;
/// Frame number, in place.
pub const FRAME: u64 = 0x000f_ffff_ffff_f000;

/// Cache type bits of an L1 entry.
pub const CACHE: u64 = PWT | PCD | PAT;

/// What any entry may have.
const ALLOWED: u64 = P | RW | US | A | D | AVAIL | AVAIL_HIGH | NX | FRAME;
/// What an L1 entry may not have, for a domain without devices.
pub const L1_BAD: u64 = !(ALLOWED | G);
/// What an L1 entry may not have, for a domain that controls caching.
pub const L1_BAD_CACHED: u64 = L1_BAD & !CACHE;
/// What an entry of a higher table may not have.
pub const UPPER_BAD: u64 = !ALLOWED;

/// Changes of an L1 entry that concern no reference.
pub const L1_HARMLESS: u64 = A | D | AVAIL | AVAIL_HIGH | NX | US | G;
/// Changes of a higher entry that concern no reference. Not the right to write: an entry
/// that shows a table of its own level must not gain it.
pub const UPPER_HARMLESS: u64 = A | D | AVAIL | AVAIL_HIGH | NX | US;

/// The frame an entry names.
#[must_use]
#[inline]
pub const fn frame(entry: u64) -> Mfn {
    Mfn::new((entry & FRAME) >> 12)
}

/// The entry that maps `mfn` with `flags`.
#[must_use]
#[inline]
pub const fn make(mfn: Mfn, flags: u64) -> u64 {
    mfn.raw() << 12 | flags
}

/// How the hypervisor stores a guest's L1 entry: reachable in user mode (guest
/// kernels run there), with a mark where the guest did not say so, and not global.
#[must_use]
#[inline]
pub const fn adjust_l1(entry: u64) -> u64 {
    let entry = entry & !G;
    if entry & US == 0 {
        entry | US | GUEST_KERNEL
    } else {
        entry
    }
}

/// How the hypervisor stores a guest's entry of a table of `level` 2 to 4.
#[must_use]
#[inline]
pub const fn adjust_upper(entry: u64, level: u8) -> u64 {
    if level == 4 {
        entry | US | A
    } else {
        entry | US
    }
}

/// How the CPU caches what an entry maps, as far as the entry decides.
/// Source: Intel SDM vol. 3, 12.12 (page attribute table).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryType {
    /// Each access goes to memory.
    Uncached,
    /// The same, unless MTRRs say write-combining.
    UncachedMinus,
    /// Reads go to memory, writes may be put together.
    WriteCombining,
    /// Reads are cached, writes go through.
    WriteThrough,
    /// Reads are cached, writes go to memory.
    WriteProtected,
    /// Reads and writes are cached.
    WriteBack,
}

impl MemoryType {
    /// That of an L1 entry, which chooses one of eight of [`crate::arch::PAT`].
    #[must_use]
    pub const fn of(entry: u64) -> Self {
        let low = entry >> PWT.trailing_zeros() & 3;
        let high = entry >> PAT.trailing_zeros() & 1;
        match crate::arch::PAT >> (8 * (high << 2 | low)) & 0xff {
            1 => Self::WriteCombining,
            4 => Self::WriteThrough,
            5 => Self::WriteProtected,
            6 => Self::WriteBack,
            7 => Self::UncachedMinus,
            _ => Self::Uncached,
        }
    }
}
