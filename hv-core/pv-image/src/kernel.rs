//! A PV kernel: what to load where, and what it asks for.

use crate::elf::{Elf, PT_LOAD, PT_NOTE, SHT_NOTE};
use crate::notes::Notes;
use crate::{Error, PAGE_SIZE};
use alloc::vec::Vec;
use xen_abi::arch_x86::HYPERVISOR_VIRT_END;

/// Bytes to place at a virtual address, zero-filled to `mem_size`.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// First virtual address; its PFN is [`KernelImage::pfn`].
    pub va: u64,
    /// Contents.
    pub data: &'a [u8],
    /// Bytes in memory, at least the contents' length.
    pub mem_size: u64,
}

/// A checked kernel image.
#[derive(Clone, Debug)]
pub struct KernelImage<'a> {
    /// What to load, by ascending address, without overlaps.
    pub segments: Vec<Segment<'a>>,
    /// What the kernel says about itself.
    pub notes: Notes,
    /// Address of PFN 0, page-aligned.
    pub virt_base: u64,
    /// Initial rip, inside the kernel.
    pub entry: u64,
    /// First address of the first segment.
    pub start: u64,
    /// First address after the last segment.
    pub end: u64,
}

impl<'a> KernelImage<'a> {
    /// Reads an ELF file.
    ///
    /// # Errors
    /// Any [`Error`] but those of [`crate::file`] and [`Error::TooLittleMemory`].
    pub fn parse(file: &'a [u8]) -> Result<Self, Error> {
        let elf = Elf::parse(file)?;
        let notes = find_notes(&elf)?;
        notes.check()?;
        let virt_base = notes.virt_base.unwrap_or(0);
        // Not a difference of checked numbers: the sum below may wrap on the way.
        let offset = virt_base.wrapping_sub(notes.paddr_offset.unwrap_or(0));
        let segments = load_segments(&elf, offset)?;
        let (first, last) = match (segments.first(), segments.last()) {
            (Some(first), Some(last)) => (first, last),
            _ => return Err(Error::NoSegments),
        };
        let (start, end) = (first.va, last.va + last.mem_size);
        let image = Self {
            notes,
            virt_base,
            entry: notes.entry.unwrap_or_else(|| elf.entry()),
            start,
            end,
            segments,
        };
        image.check_addresses()?;
        Ok(image)
    }

    fn check_addresses(&self) -> Result<(), Error> {
        let inside = |va: u64, size: u64| self.start <= va && va <= self.end.saturating_sub(size);
        let hypercall_page = self.notes.hypercall_page;
        let good = self.virt_base.is_multiple_of(PAGE_SIZE)
            && self.virt_base <= self.start
            && is_guest_range(self.virt_base, self.end)
            && inside(self.entry, 1)
            && hypercall_page
                .is_none_or(|va| va.is_multiple_of(PAGE_SIZE) && inside(va, PAGE_SIZE))
            && self
                .notes
                .init_p2m
                .is_none_or(|va| va.is_multiple_of(PAGE_SIZE));
        if good { Ok(()) } else { Err(Error::BadAddress) }
    }

    /// Pseudo-physical frame of an address of the kernel.
    #[must_use]
    pub const fn pfn(&self, va: u64) -> u64 {
        va.wrapping_sub(self.virt_base) / PAGE_SIZE
    }
}

/// Whether a guest may own all of `[start, end)`: canonical, not the hypervisor's, not empty.
pub(crate) const fn is_guest_range(start: u64, end: u64) -> bool {
    const LOW_END: u64 = 1 << 47;
    // The hypervisor's range begins where the upper half does.
    start < end && (end <= LOW_END || start >= HYPERVISOR_VIRT_END)
}

/// Notes of the segments; failing that of the sections; failing that `__xen_guest`.
fn find_notes(elf: &Elf<'_>) -> Result<Notes, Error> {
    let mut notes = Notes::default();
    let mut found = 0;
    for segment in elf.segments() {
        let segment = segment?;
        if segment.kind == PT_NOTE {
            found += notes.add(elf.bytes(segment.offset, segment.filesz)?)?;
        }
    }
    if found == 0 {
        for section in elf.sections().filter_map(Result::ok) {
            if section.kind == SHT_NOTE {
                found += notes.add(elf.bytes(section.offset, section.size)?)?;
            }
        }
    }
    if found == 0 {
        let section = elf.section(b"__xen_guest").ok_or(Error::NoNotes)?;
        notes.add_legacy(section)?;
    }
    Ok(notes)
}

/// Loadable segments by address; `offset` turns physical addresses into virtual ones.
fn load_segments<'a>(elf: &Elf<'a>, offset: u64) -> Result<Vec<Segment<'a>>, Error> {
    let mut segments = Vec::new();
    for header in elf.segments() {
        let header = header?;
        if header.kind != PT_LOAD || header.memsz == 0 {
            continue;
        }
        if header.filesz > header.memsz {
            return Err(Error::BadElf);
        }
        let va = header.paddr.wrapping_add(offset);
        va.checked_add(header.memsz).ok_or(Error::BadElf)?;
        segments.push(Segment {
            va,
            data: elf.bytes(header.offset, header.filesz)?,
            mem_size: header.memsz,
        });
    }
    segments.sort_unstable_by_key(|s| s.va);
    let overlap = segments
        .windows(2)
        .any(|pair| pair[0].va + pair[0].mem_size > pair[1].va);
    if overlap {
        return Err(Error::OverlappingSegments);
    }
    Ok(segments)
}
