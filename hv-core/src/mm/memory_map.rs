//! What firmware says is where in the machine's address space.
//!
//! Does not know who said it (BIOS, EFI, which loader). Regions may overlap and be
//! in any order; whoever asks "is this RAM" gets the cautious answer.

use super::ranges::RangeSet;
use crate::addr::PAGE_SIZE;

/// What a region holds, as the e820 types 1 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionKind {
    /// Free memory.
    Ram,
    /// Firmware's own, devices, unknown.
    Reserved,
    /// ACPI tables; RAM once they have been read.
    AcpiReclaim,
    /// ACPI's non-volatile storage: keep.
    AcpiNvs,
    /// Broken memory.
    Unusable,
    /// A type this hypervisor has no word for; treated as reserved.
    Other(u32),
}

impl RegionKind {
    /// From an e820 type. Source: ACPI 6.4, table 15-14.
    #[must_use]
    pub const fn from_e820(kind: u32) -> Self {
        match kind {
            1 => Self::Ram,
            2 => Self::Reserved,
            3 => Self::AcpiReclaim,
            4 => Self::AcpiNvs,
            5 => Self::Unusable,
            other => Self::Other(other),
        }
    }

    /// The e820 type, as dom0's memory map wants it.
    #[must_use]
    pub const fn to_e820(self) -> u32 {
        match self {
            Self::Ram => 1,
            // What we have no word for, dom0 shall leave alone as well.
            Self::Reserved | Self::Other(_) => 2,
            Self::AcpiReclaim => 3,
            Self::AcpiNvs => 4,
            Self::Unusable => 5,
        }
    }
}

/// One region of machine addresses. Bytes, not necessarily whole frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
    /// What it holds.
    pub kind: RegionKind,
}

impl Region {
    /// First address after the region.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// Most regions kept.
pub const MAX_REGIONS: usize = 256;

/// The machine's memory map.
#[derive(Clone, Debug, Default)]
pub struct MemoryMap {
    regions: heapless::Vec<Region, MAX_REGIONS>,
    dropped: usize,
}

impl MemoryMap {
    /// A map without regions.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            regions: heapless::Vec::new(),
            dropped: 0,
        }
    }

    /// Adds a region; empty ones vanish, one that continues the last one of its
    /// kind extends it. When the map is full a region of RAM gives way to any
    /// other, so that nothing reserved is ever forgotten before RAM is.
    pub fn push(&mut self, region: Region) {
        if region.len == 0 {
            return;
        }
        if let Some(last) = self.regions.last_mut()
            && last.kind == region.kind
            && last.end() == region.start
        {
            last.len = last.len.saturating_add(region.len);
            return;
        }
        if self.regions.push(region).is_ok() {
            return;
        }
        self.dropped += 1;
        if region.kind == RegionKind::Ram {
            return;
        }
        if let Some(ram) = self.regions.iter().rposition(|r| r.kind == RegionKind::Ram) {
            self.regions[ram] = region;
        }
    }

    /// The regions in firmware's order.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// How many regions found no place.
    #[must_use]
    pub const fn dropped(&self) -> usize {
        self.dropped
    }

    /// Addresses of whole frames that are RAM and nothing else.
    #[must_use]
    pub fn ram(&self) -> RangeSet {
        let mut set = RangeSet::new();
        for r in &self.regions {
            if r.kind == RegionKind::Ram {
                let end = r.end() & !(PAGE_SIZE - 1);
                // A region in the last frame there can be has no whole one.
                let start = r.start.checked_next_multiple_of(PAGE_SIZE);
                set.insert(start.unwrap_or(end)..end);
            }
        }
        for r in &self.regions {
            if r.kind != RegionKind::Ram {
                set.remove(outward(r));
            }
        }
        set
    }

    /// Addresses of frames that hold ACPI's tables or storage: memory, not free.
    #[must_use]
    pub fn acpi(&self) -> RangeSet {
        let mut set = RangeSet::new();
        for r in &self.regions {
            if matches!(r.kind, RegionKind::AcpiReclaim | RegionKind::AcpiNvs) {
                set.insert(outward(r));
            }
        }
        for r in &self.regions {
            if matches!(
                r.kind,
                RegionKind::Reserved | RegionKind::Unusable | RegionKind::Other(_)
            ) {
                set.remove(outward(r));
            }
        }
        set
    }

    /// First address above all RAM.
    #[must_use]
    pub fn ram_end(&self) -> u64 {
        self.ram().iter().last().map_or(0, |r| r.end)
    }
}

/// The whole frames that a region touches.
fn outward(r: &Region) -> core::ops::Range<u64> {
    let start = r.start & !(PAGE_SIZE - 1);
    let end = r
        .end()
        .checked_next_multiple_of(PAGE_SIZE)
        .unwrap_or(!(PAGE_SIZE - 1));
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(start: u64, end: u64, kind: RegionKind) -> Region {
        Region {
            start,
            len: end - start,
            kind,
        }
    }

    #[test]
    fn ram_is_whole_frames_without_what_overlaps() {
        let mut map = MemoryMap::new();
        map.push(region(0, 0x9_fc00, RegionKind::Ram));
        map.push(region(0x9_fc00, 0xa_0000, RegionKind::Reserved));
        map.push(region(0x10_0000, 0x80_0000, RegionKind::Ram));
        map.push(region(0x20_0800, 0x20_0900, RegionKind::AcpiNvs));
        let ram: std::vec::Vec<_> = map.ram().iter().collect();
        assert_eq!(
            ram,
            [0..0x9_f000, 0x10_0000..0x20_0000, 0x20_1000..0x80_0000]
        );
        assert!(map.acpi().iter().eq(core::iter::once(0x20_0000..0x20_1000)));
        assert_eq!(map.ram_end(), 0x80_0000);
    }

    #[test]
    fn a_full_map_forgets_ram_first() {
        let mut map = MemoryMap::new();
        for i in 0..MAX_REGIONS as u64 {
            map.push(region(i * 0x2000, i * 0x2000 + 0x1000, RegionKind::Ram));
        }
        map.push(region(u64::MAX - 5, u64::MAX, RegionKind::Reserved));
        assert_eq!(map.dropped(), 1);
        assert!(map.regions().iter().any(|r| r.kind == RegionKind::Reserved));
        let _ = map.ram();
    }

    /// Found by fuzzing: rounding its start up overflowed.
    #[test]
    fn ram_at_the_very_end_of_addresses_is_none() {
        let mut map = MemoryMap::new();
        map.push(region(0, 0x1000, RegionKind::Ram));
        map.push(region(u64::MAX - 5, u64::MAX, RegionKind::Ram));
        assert!(map.ram().iter().eq(core::iter::once(0..0x1000)));
    }
}
