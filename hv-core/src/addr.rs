//! Frame numbers, addresses and CPU numbers as distinct types; the only place that
//! converts between frames and addresses.
//!
//! Words, as Xen's public headers use them for PV guests: a *machine frame* (MFN)
//! is a 4 KiB frame of host memory; a *pseudo-physical frame* (PFN) is a guest's
//! own contiguous numbering. For a PV guest the GFN is the MFN.

mod cpu_mask;

pub use cpu_mask::{
    AtomicCpuMask, CPUS_PER_WORD, CpuId, CpuMask, MASK_WORDS, MAX_CPUS, cpus_of_word, nearest,
};

/// log2 of the frame size in bytes.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a frame.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// First address of the range Xen's PV interface reserves for the hypervisor
/// (L4 slot 256). Source: Xen `include/public/arch-x86/xen-x86_64.h`.
pub const HYPERVISOR_START: u64 = 0xffff_8000_0000_0000;
/// First address above the hypervisor's range (after L4 slot 271).
pub const HYPERVISOR_END: u64 = 0xffff_8800_0000_0000;

/// Machine frame number: host physical address / 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Mfn(u64);

impl Mfn {
    /// First number no x86-64 machine can have (52-bit addresses, 4 KiB frames).
    pub const LIMIT: u64 = 1 << 40;

    /// A frame number this hypervisor computed itself.
    ///
    /// # Panics
    /// If no machine could have that frame: an error of ours, never a guest's.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        assert!(raw < Self::LIMIT);
        Self(raw)
    }

    /// Accepts a frame number a guest wrote; `None` if no machine could have it.
    #[must_use]
    pub const fn from_guest(raw: u64) -> Option<Self> {
        if raw < Self::LIMIT {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// The number itself.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The frame's first byte.
    #[must_use]
    pub const fn addr(self) -> MachAddr {
        MachAddr(self.0 << PAGE_SHIFT)
    }

    /// The frame `n` after this one.
    ///
    /// # Panics
    /// As [`Mfn::new`].
    #[must_use]
    pub const fn offset(self, n: u64) -> Self {
        Self::new(self.0 + n)
    }
}

/// Pseudo-physical frame number: a guest's own numbering of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Pfn(pub u64);

/// Machine (host physical) address in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct MachAddr(u64);

impl MachAddr {
    /// An address this hypervisor or the firmware computed.
    ///
    /// # Panics
    /// If it has more than 52 bits.
    #[must_use]
    pub const fn new(raw: u64) -> Self {
        assert!(raw < Mfn::LIMIT << PAGE_SHIFT);
        Self(raw)
    }

    /// Accepts an address a guest wrote; `None` if no machine could have it.
    #[must_use]
    pub const fn from_guest(raw: u64) -> Option<Self> {
        if raw < Mfn::LIMIT << PAGE_SHIFT {
            Some(Self(raw))
        } else {
            None
        }
    }

    /// The number itself.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// The frame that holds this byte.
    #[must_use]
    pub const fn frame(self) -> Mfn {
        Mfn(self.0 >> PAGE_SHIFT)
    }

    /// Offset within the frame, in bytes.
    #[must_use]
    pub const fn page_offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }
}

/// A virtual address a guest alleges. Nothing is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct GuestVa(pub u64);

impl GuestVa {
    /// Whether the address is canonical (48 bits, sign-extended).
    #[must_use]
    #[inline]
    pub const fn is_canonical(self) -> bool {
        let top = self.0.cast_signed() >> 47;
        top == 0 || top == -1
    }

    /// Whether it lies in the range reserved for the hypervisor.
    #[must_use]
    #[inline]
    pub const fn in_hypervisor(self) -> bool {
        self.0 >= HYPERVISOR_START && self.0 < HYPERVISOR_END
    }

    /// Whether a guest may own memory there: canonical and not the hypervisor's.
    #[must_use]
    #[inline]
    pub const fn is_guest(self) -> bool {
        // Turned by half the space, canonical addresses are those below 2^48, and the
        // hypervisor's the first 2^43 of them: slot 256 is the first of the upper half.
        const SLOTS: u32 = 43;
        let turned = self.0.wrapping_add((1 << 47) - (1 << SLOTS));
        turned >> SLOTS < (1 << (48 - SLOTS)) - 1
    }

    /// Index into the table of `level` (1 to 4) that translates this address.
    #[must_use]
    #[inline]
    pub const fn index(self, level: u32) -> usize {
        ((self.0 >> (PAGE_SHIFT + 9 * (level - 1))) & 0x1ff) as usize
    }

    /// Offset within the page, in bytes.
    #[must_use]
    #[inline]
    pub const fn page_offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }

    /// The address `n` bytes on, wrapping like the CPU does.
    #[must_use]
    #[inline]
    pub const fn add(self, n: u64) -> Self {
        Self(self.0.wrapping_add(n))
    }
}

/// Domain identifier, below [`DomId::FIRST_RESERVED`] for real domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct DomId(pub u16);

impl DomId {
    /// The hardware domain.
    pub const DOM0: Self = Self(0);
    /// First number that is not a domain. Source: Xen `include/public/xen.h`.
    pub const FIRST_RESERVED: u16 = 0x7ff0;
    /// "The caller."
    pub const SELF: Self = Self(0x7ff0);
    /// Owner of device memory (MMIO).
    pub const IO: Self = Self(0x7ff1);
    /// Owner of the hypervisor's own frames.
    pub const XEN: Self = Self(0x7ff2);
    /// Nobody.
    pub const INVALID: Self = Self(0x7ff4);
    /// The idle domain.
    pub const IDLE: Self = Self(0x7fff);
}

/// Index of a virtual CPU within its domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct VcpuId(pub u16);

/// System time: nanoseconds since the hypervisor started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Nanos(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_guests() {
        let cases = [
            (0, true),
            (0x7fff_ffff_ffff, true),
            (0x8000_0000_0000, false),
            (0xffff_7fff_ffff_ffff, false),
            (HYPERVISOR_START, false),
            (HYPERVISOR_END - 1, false),
            (HYPERVISOR_END, true),
            (u64::MAX, true),
        ];
        for (va, guest) in cases {
            let va = GuestVa(va);
            assert_eq!(va.is_guest(), guest, "{va:x?}");
            assert_eq!(va.is_guest(), va.is_canonical() && !va.in_hypervisor());
        }
    }
}
