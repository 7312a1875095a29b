//! A disk in memory, which takes memory as it is written.

use alloc::vec::Vec;
use core::ops::Range;

use pv_drivers::block::SECTOR;
use pv_drivers::block::backend::{Medium, MediumError};

/// Bytes that are kept or not kept together.
const PAGE: usize = 4096;

/// Largest disk, in MiB.
pub const MOST_MIB: usize = 4096;

/// The disk.
#[derive(Debug)]
pub struct RamDisk {
    /// An empty page is all zeros.
    pages: Vec<Vec<u8>>,
    read_only: bool,
}

/// Parts of pages that lie in a range of bytes.
fn parts(start: usize, bytes: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let end = start + bytes;
    (start / PAGE..end.div_ceil(PAGE)).map(move |page| {
        let first = page * PAGE;
        let from = start.max(first) - first;
        (page, from..end.min(first + PAGE) - first)
    })
}

impl RamDisk {
    /// The disk that a target asks for: `ram16` has 16 MiB. None: it is no such target, or there is
    /// no memory for it.
    #[must_use]
    pub fn of(target: &str, read_only: bool) -> Option<Self> {
        let mib: usize = target.strip_prefix("ram")?.parse().ok()?;
        if !(1..=MOST_MIB).contains(&mib) {
            return None;
        }
        let count = (mib << 20) / PAGE;
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).ok()?;
        pages.resize_with(count, Vec::new);
        Some(Self { pages, read_only })
    }

    fn start(sector: u64) -> Result<usize, MediumError> {
        let sector = usize::try_from(sector).map_err(|_| MediumError::Failed)?;
        sector.checked_mul(SECTOR).ok_or(MediumError::Failed)
    }
}

impl Medium for RamDisk {
    fn sectors(&self) -> u64 {
        (self.pages.len() * (PAGE / SECTOR)) as u64
    }

    fn is_read_only(&self) -> bool {
        self.read_only
    }

    fn discards(&self) -> bool {
        true
    }

    fn read(&mut self, sector: u64, mut into: &mut [u8]) -> Result<(), MediumError> {
        for (page, range) in parts(Self::start(sector)?, into.len()) {
            let page = self.pages.get(page).ok_or(MediumError::Failed)?;
            let (part, rest) = into.split_at_mut(range.len());
            match page.get(range) {
                Some(bytes) => part.copy_from_slice(bytes),
                None => part.fill(0),
            }
            into = rest;
        }
        Ok(())
    }

    fn write(&mut self, sector: u64, mut from: &[u8]) -> Result<(), MediumError> {
        for (page, range) in parts(Self::start(sector)?, from.len()) {
            let page = self.pages.get_mut(page).ok_or(MediumError::Failed)?;
            if page.is_empty() {
                page.try_reserve_exact(PAGE)
                    .map_err(|_| MediumError::Failed)?;
                page.resize(PAGE, 0);
            }
            let (part, rest) = from.split_at(range.len());
            if let Some(bytes) = page.get_mut(range) {
                bytes.copy_from_slice(part);
            }
            from = rest;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MediumError> {
        Ok(())
    }

    fn discard(&mut self, sector: u64, count: u64) -> Result<(), MediumError> {
        let bytes = Self::start(count)?;
        for (page, range) in parts(Self::start(sector)?, bytes) {
            let page = self.pages.get_mut(page).ok_or(MediumError::Failed)?;
            if range.len() == PAGE {
                *page = Vec::new();
            } else if let Some(bytes) = page.get_mut(range) {
                bytes.fill(0);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_says_how_large_it_is() {
        assert_eq!(RamDisk::of("ram2", false).unwrap().sectors(), 4096);
        for none in ["", "ram", "ram0", "ram-1", "ram9999999", "/images/a.img"] {
            assert!(RamDisk::of(none, false).is_none(), "{none}");
        }
    }

    #[test]
    fn it_keeps_what_was_written_and_zeros_elsewhere() {
        let mut disk = RamDisk::of("ram1", false).unwrap();
        let bytes: Vec<u8> = (0..3 * PAGE).map(|n| (n / 7) as u8).collect();
        disk.write(5, &bytes).unwrap();
        let mut all = vec![1; 1 << 20];
        disk.read(0, &mut all).unwrap();
        let mut want = vec![0; 1 << 20];
        want[5 * SECTOR..][..bytes.len()].copy_from_slice(&bytes);
        assert_eq!(all, want);
        // Five sectors into the first page, and all of the second.
        disk.discard(3, 13).unwrap();
        want[3 * SECTOR..16 * SECTOR].fill(0);
        disk.read(0, &mut all).unwrap();
        assert_eq!(all, want);
        assert!(disk.pages[1].is_empty() && !disk.pages[0].is_empty());
    }

    #[test]
    fn beyond_its_end_there_is_nothing() {
        let mut disk = RamDisk::of("ram1", false).unwrap();
        assert!(disk.write(2047, &[0; 1024]).is_err());
        assert!(disk.read(u64::MAX, &mut [0; 512]).is_err());
        assert!(disk.discard(2048, 1).is_err());
    }
}
