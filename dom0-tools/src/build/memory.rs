//! A new domain's memory, by PFN.

use std::fmt;

use crate::ctl::Xen;
use crate::sys::{Access, DomId, Mfn, PAGE_SIZE, Pfn, SharedPages};

use super::error::{Error, Result};

/// Frames of a large block, as a power of two: 2 MiB, so that the hypervisor keeps few.
const LARGE: u32 = 9;
/// Pages mapped at a time: 4 MiB.
pub(super) const WINDOW: u64 = 1024;

/// All memory of a domain: PFNs from 0 without gaps.
pub struct GuestMemory<'a> {
    xen: &'a Xen,
    domain: DomId,
    frames: Vec<Mfn>,
}

impl fmt::Debug for GuestMemory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuestMemory({} pages)", self.frames.len())
    }
}

impl<'a> GuestMemory<'a> {
    /// Gives a domain that has none `pages` pages.
    ///
    /// They are claimed first, so that a domain that cannot have them fails at once, and two made
    /// at a time do not both fail.
    ///
    /// # Errors
    /// [`Error::Memory`], and what the hypervisor says.
    pub fn allocate(xen: &'a Xen, domain: DomId, pages: u64) -> Result<Self> {
        let claimed = match xen.claim(domain, pages) {
            Ok(()) => true,
            Err(e) if e.errno() == Some(libc::ENOMEM) => {
                let got = xen.host_info()?.free_pages;
                return Err(Error::Memory {
                    domain,
                    wanted: pages,
                    got,
                });
            }
            // A hypervisor without claims.
            Err(e) if matches!(e.errno(), Some(libc::ENOSYS | libc::EOPNOTSUPP)) => false,
            Err(e) => return Err(e.into()),
        };
        let mut memory = Self {
            xen,
            domain,
            frames: Vec::new(),
        };
        let filled = memory.fill(pages);
        if claimed {
            xen.claim(domain, 0)?;
        }
        filled?;
        Ok(memory)
    }

    /// Large blocks as long as there are some, then single pages.
    fn fill(&mut self, pages: u64) -> Result<()> {
        let large: Vec<Pfn> = (0..pages >> LARGE).map(|n| Pfn(n << LARGE)).collect();
        for first in self.xen.populate(self.domain, &large, LARGE)? {
            let block = (0..1 << LARGE).map(|n| Mfn(first.0 + n));
            self.frames.extend(block);
        }
        let single: Vec<Pfn> = (self.pages()..pages).map(Pfn).collect();
        let frames = self.xen.populate(self.domain, &single, 0)?;
        self.frames.extend(frames);
        if self.pages() == pages {
            Ok(())
        } else {
            Err(Error::Memory {
                domain: self.domain,
                wanted: pages,
                got: self.pages(),
            })
        }
    }

    /// Pages it has.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.frames.len() as u64
    }

    /// The frames, by PFN.
    #[must_use]
    pub fn frames(&self) -> &[Mfn] {
        &self.frames
    }

    /// The frame of a PFN.
    pub(super) fn mfn(&self, pfn: u64) -> Result<Mfn> {
        Ok(self.run(pfn, 1)?[0])
    }

    /// Frames of a run of PFNs. A plan has none beyond the domain's memory.
    fn run(&self, first: u64, count: u64) -> Result<&[Mfn]> {
        let start = usize::try_from(first).ok();
        let end = first
            .checked_add(count)
            .and_then(|end| usize::try_from(end).ok());
        start
            .zip(end)
            .and_then(|(start, end)| self.frames.get(start..end))
            .ok_or(Error::Kernel(pv_image::Error::TooLittleMemory))
    }

    /// Maps a run of PFNs.
    pub(super) fn map(&self, first: u64, count: u64) -> Result<SharedPages> {
        let frames = self.run(first, count)?;
        Ok(self.xen.map_all(self.domain, frames, Access::Write)?)
    }

    /// Maps the bytes from pseudo-physical address `start` to `end` piece by piece. The visitor is
    /// given each piece: the mapping, the offset of the piece in it, and its length in bytes.
    pub(super) fn visit(
        &self,
        start: u64,
        end: u64,
        mut piece: impl FnMut(&SharedPages, usize, usize) -> Result<()>,
    ) -> Result<()> {
        const PAGE: u64 = PAGE_SIZE as u64;
        let mut at = start;
        while at < end {
            let first = at / PAGE;
            let last = end.div_ceil(PAGE).min(first + WINDOW);
            let until = end.min(last * PAGE);
            let window = self.map(first, last - first)?;
            piece(&window, (at % PAGE) as usize, (until - at) as usize)?;
            at = until;
        }
        Ok(())
    }
}
