//! Segment descriptors of the hypervisor's own tables. Pure.
//!
//! The CPU sets the accessed bit of a code or data descriptor when it loads it, if it is not set,
//! and faults if the table cannot be written (Intel SDM vol. 3, 3.4.5.1). Tables here lie in
//! read-only pages. So a [`Descriptor`] of code or data has the bit from the start: there is no
//! way to make one without. A TSS descriptor the CPU writes whenever it is loaded (the busy bit,
//! Intel SDM vol. 3, 8.2.2), so its table must be writable.

/// An entry of a descriptor table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct Descriptor(u64);

// Source of all bits: Intel SDM vol. 3, 3.4.5 (figure 3-8, table 3-1) and 3.5.
const ACCESSED: u64 = 1 << 40;
const READ_OR_WRITE: u64 = 1 << 41;
const CODE: u64 = 1 << 43;
const NOT_SYSTEM: u64 = 1 << 44;
const DPL_SHIFT: u32 = 45;
const PRESENT: u64 = 1 << 47;
const LONG: u64 = 1 << 53;
const BITS_32: u64 = 1 << 54;
/// Base 0, limit 4 GiB in pages.
const FLAT: u64 = 0x008f_0000_0000_ffff;
const AVAILABLE_TSS: u64 = 9 << 40;
const LDT: u64 = 2 << 40;

impl Descriptor {
    /// The entry nobody can load.
    pub const NULL: Self = Self(0);

    const fn flat(ring: u8, kind: u64) -> Self {
        assert!(ring < 4);
        Self(
            FLAT | PRESENT
                | NOT_SYSTEM
                | ACCESSED
                | READ_OR_WRITE
                | kind
                | (ring as u64) << DPL_SHIFT,
        )
    }

    /// Flat 64-bit code of a ring.
    #[must_use]
    pub const fn code64(ring: u8) -> Self {
        Self::flat(ring, CODE | LONG)
    }

    /// Flat 32-bit code of a ring.
    #[must_use]
    pub const fn code32(ring: u8) -> Self {
        Self::flat(ring, CODE | BITS_32)
    }

    /// Flat data of a ring.
    #[must_use]
    pub const fn data(ring: u8) -> Self {
        Self::flat(ring, BITS_32)
    }

    /// The two entries of a TSS at `base`, `size` bytes long. The CPU writes the first.
    #[must_use]
    pub const fn tss(base: u64, size: u64) -> [Self; 2] {
        Self::system(base, size, AVAILABLE_TSS)
    }

    /// The two entries of an LDT at `base`, `size` bytes long.
    #[must_use]
    pub const fn ldt(base: u64, size: u64) -> [Self; 2] {
        Self::system(base, size, LDT)
    }

    const fn system(base: u64, size: u64, kind: u64) -> [Self; 2] {
        assert!(size > 0 && size <= 1 << 20);
        let limit = size - 1;
        let low = limit & 0xffff
            | (base & 0xff_ffff) << 16
            | kind
            | PRESENT
            | (limit >> 16 & 0xf) << 48
            | (base >> 24 & 0xff) << 56;
        [Self(low), Self(base >> 32)]
    }

    /// As the table holds it.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

/// The table on which the boot code enters 64-bit mode, in a read-only page.
pub const BOOT: [Descriptor; 3] = [
    Descriptor::NULL,
    Descriptor::code64(0), // 8
    Descriptor::data(0),   // 16
];

/// The table on which other CPUs start, in a page that becomes read-only when paging comes on.
pub const START_UP: [Descriptor; 4] = [
    Descriptor::NULL,
    Descriptor::code32(0), // 8
    Descriptor::data(0),   // 16
    Descriptor::code64(0), // 24
];

/// The reserved part of every CPU's GDT, up to the TSS. Source of the selectors: Xen
/// `include/public/arch-x86/xen-x86_64.h`.
pub const RESERVED: [Descriptor; 7] = [
    Descriptor::NULL,
    Descriptor::code64(0), // e008
    Descriptor::data(0),   // e010
    Descriptor::NULL,      // e018
    Descriptor::code32(3), // e020
    Descriptor::data(3),   // e028
    Descriptor::code64(3), // e030
];

#[cfg(test)]
mod tests {
    use super::*;

    /// In every table we load, no descriptor is left for the CPU to write.
    #[test]
    fn code_and_data_are_accessed_from_the_start() {
        let tables: [&[Descriptor]; 3] = [&BOOT, &START_UP, &RESERVED];
        for descriptor in tables
            .into_iter()
            .flatten()
            .filter(|d| **d != Descriptor::NULL)
        {
            let bits = descriptor.bits();
            assert_ne!(bits & PRESENT, 0, "{bits:#x} is not present");
            assert_ne!(bits & NOT_SYSTEM, 0, "{bits:#x} is neither code nor data");
            assert_ne!(bits & ACCESSED, 0, "{bits:#x} would be written by the CPU");
        }
    }

    #[test]
    fn bits_are_those_of_the_manual() {
        assert_eq!(Descriptor::code64(0).bits(), 0x00af_9b00_0000_ffff);
        assert_eq!(Descriptor::code64(3).bits(), 0x00af_fb00_0000_ffff);
        assert_eq!(Descriptor::code32(0).bits(), 0x00cf_9b00_0000_ffff);
        assert_eq!(Descriptor::code32(3).bits(), 0x00cf_fb00_0000_ffff);
        assert_eq!(Descriptor::data(0).bits(), 0x00cf_9300_0000_ffff);
        assert_eq!(Descriptor::data(3).bits(), 0x00cf_f300_0000_ffff);
    }

    #[test]
    fn system_descriptors_take_two_entries() {
        let tss = Descriptor::tss(0xffff_8180_1234_5678, 104).map(Descriptor::bits);
        assert_eq!(tss, [0x1200_8934_5678_0067, 0xffff_8180]);
        let ldt = Descriptor::ldt(0xffff_8180_0003_0000, 8 * 8192).map(Descriptor::bits);
        assert_eq!(ldt, [0x0000_8203_0000_ffff, 0xffff_8180]);
    }
}
