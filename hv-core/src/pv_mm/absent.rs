//! Entries that are not present, on CPUs that do not stop at that (L1TF, CVE-2018-3646).
//!
//! Such a CPU takes the address in an absent entry for good while it speculates, and lets the guest
//! read what its L1 cache holds of that address, whoever owns it. So a guest that is not trusted
//! with all memory may store no absent entry that names any: zero, or an address beyond all RAM, and
//! nothing between. Kernels that know of the leak write no others (Linux since 4.18 inverts the
//! address of pages that are there but may not be touched, and of pages that are swapped out).
//!
//! How much of an address the cache looks at is not architectural: at least what CPUID says, 44 bits
//! or more on most. An address whose low bits, as few as any CPU looks at, are beyond RAM is beyond
//! RAM with more bits too.

use super::{PtError, pte};
use crate::addr::MachAddr;
use crate::sync::Once;

/// What absent entries may name in tables of guests.
static FOR_GUESTS: Once<Absent> = Once::new();

/// Sets it. Called once at boot, before there are domains.
pub fn restrict(absent: Absent) {
    FOR_GUESTS.call_once(|| absent);
}

/// What absent entries may name in tables of guests.
#[inline]
pub(super) fn for_guests() -> Absent {
    FOR_GUESTS.get().copied().unwrap_or(Absent::ANYTHING)
}

/// Address bits to look at, at most. Source: Intel, "Deep Dive: Intel Analysis of L1 Terminal Fault".
const LOOKED_AT: u32 = 44;

/// Which addresses absent entries may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Address bits to look at; none, when anything goes.
    mask: u64,
    /// Lowest address that may be named, beside zero.
    floor: u64,
}

impl Absent {
    /// Anything: the CPU does not look, or the guest may read all memory anyway.
    pub(super) const ANYTHING: Self = Self { mask: 0, floor: 0 };

    /// Nothing below `end` of RAM, on a CPU with addresses of so many bits.
    #[must_use]
    pub const fn beyond(end: MachAddr, physical_bits: u32) -> Self {
        let bits = if physical_bits < LOOKED_AT {
            physical_bits
        } else {
            LOOKED_AT
        };
        Self {
            mask: (1 << bits) - 1,
            floor: end.raw(),
        }
    }

    /// Whether there is nothing to check.
    #[inline]
    pub(super) const fn is_anything(self) -> bool {
        self.mask == 0
    }

    /// Checks an entry that is not present.
    ///
    /// # Errors
    /// [`PtError::NamesMemory`].
    #[inline]
    pub(super) const fn check(self, entry: u64) -> Result<(), PtError> {
        let address = entry & pte::FRAME;
        if address == 0 || address & self.mask >= self.floor {
            Ok(())
        } else {
            Err(PtError::NamesMemory)
        }
    }
}
