//! A suspended guest's memory as its own kernel numbers it: the P2M list, and the
//! machine-to-physical table that answers it.

use std::mem::offset_of;

use xen_abi::xen::SharedInfo;

use super::error::{Error, Result};
use super::records::{PFNS_PER_PAGE, PTE_FRAME, PTE_PRESENT};
use crate::ctl::{DomainInfo, Xen};
use crate::sys::{Access, DomId, Mfn, PAGE_SIZE, SharedPages};

/// The machine-to-physical table.
struct M2p {
    pages: SharedPages,
    entries: u64,
}

impl M2p {
    fn map(xen: &Xen) -> Result<Self> {
        /// Frames of a piece of the table, 2 MiB.
        const PIECE: u64 = 512;
        let entries = xen.max_mfn()?.0 + 1;
        let pieces = (entries * 8).div_ceil(PIECE * PAGE_SIZE as u64);
        let most = u32::try_from(pieces)
            .map_err(|_| Error::Domain("the host has too much memory".into()))?;
        let frames = xen.machphys_frames(most)?;
        let all: Vec<Mfn> = frames
            .iter()
            .flat_map(|first| (0..PIECE).map(|n| Mfn(first.0 + n)))
            .collect();
        let wanted = ((entries * 8).div_ceil(PAGE_SIZE as u64) as usize).min(all.len());
        let pages = xen.map_all(DomId::XEN, &all[..wanted], Access::Read)?;
        let entries = entries.min(pages.len() as u64 / 8);
        Ok(Self { pages, entries })
    }

    fn pfn(&self, mfn: Mfn) -> Option<u64> {
        let there = mfn.0 < self.entries;
        there.then(|| self.pages.get(mfn.0 as usize * 8))
    }
}

/// A guest's memory.
pub(super) struct GuestFrames {
    m2p: M2p,
    /// Frames by PFN, as the guest has them: any number.
    pub p2m: Vec<Mfn>,
    /// PFNs of the list's own pages.
    pub list_pfns: Vec<u64>,
}

impl GuestFrames {
    /// Reads the list of a suspended guest.
    pub fn read(xen: &Xen, info: &DomainInfo, shared: &SharedInfo) -> Result<Self> {
        let domain = info.domain;
        let count = shared.arch.max_pfn;
        // A guest's list may have holes, but far from as many as this.
        let most = info.max_pages.saturating_mul(16).saturating_add(1 << 20);
        if count == 0 || count > most {
            return Err(Error::Domain(format!(
                "domain {domain} says it has {count} pages: its kernel cannot be saved"
            )));
        }
        let pages = count.div_ceil(PFNS_PER_PAGE);
        let list = if shared.arch.p2m_cr3 != 0 {
            linear_list(xen, domain, shared, pages)?
        } else {
            tree_list(xen, domain, shared, pages)?
        };
        let mut p2m = Vec::with_capacity(count as usize);
        for window in list.chunks(PFNS_PER_PAGE as usize) {
            let mapped = xen.map_all(domain, window, Access::Read)?;
            let entries = (mapped.len() / 8).min(count as usize - p2m.len());
            p2m.extend((0..entries).map(|n| Mfn(mapped.get(n * 8))));
        }
        let mut guest = Self {
            m2p: M2p::map(xen)?,
            p2m,
            list_pfns: Vec::new(),
        };
        for &mfn in &list {
            let pfn = guest.pfn(mfn);
            let pfn = pfn.ok_or_else(|| {
                Error::Domain(format!("domain {domain}'s P2M list is not its own memory"))
            })?;
            guest.list_pfns.push(pfn);
        }
        Ok(guest)
    }

    /// The PFN of one of the guest's frames.
    pub fn pfn(&self, mfn: Mfn) -> Option<u64> {
        let pfn = self.m2p.pfn(mfn)?;
        let own = self.p2m.get(usize::try_from(pfn).ok()?)?;
        (*own == mfn).then_some(pfn)
    }

    /// Whether a host could have the frame.
    pub fn is_frame(&self, mfn: Mfn) -> bool {
        mfn.0 < self.m2p.entries
    }
}

/// Frames of a list that lies at one address of the guest, from the page tables of that address.
fn linear_list(xen: &Xen, domain: DomId, shared: &SharedInfo, pages: u64) -> Result<Vec<Mfn>> {
    let unmapped = || Error::Domain(format!("domain {domain}'s P2M list is not mapped"));
    let table = |mfn: Mfn| -> Result<Vec<u64>> {
        let page = xen.map_all(domain, &[mfn], Access::Read)?;
        Ok((0..512).map(|n| page.get(n * 8)).collect())
    };
    let follow = |table: &[u64], va: u64, level: u32| -> Result<Mfn> {
        let entry = table[(va >> (3 + 9 * level) & 511) as usize];
        if entry & PTE_PRESENT == 0 {
            return Err(unmapped());
        }
        Ok(Mfn((entry & PTE_FRAME) >> 12))
    };
    let root = table(Mfn(shared.arch.p2m_cr3 >> 12))?;
    let mut frames = Vec::with_capacity(pages as usize);
    // The table of level 1 in use, and the first address it translates.
    let mut leaf: Option<(u64, Vec<u64>)> = None;
    for n in 0..pages {
        let va = shared.arch.p2m_vaddr.wrapping_add(n << 12);
        let covers = va & !((1 << 21) - 1);
        if leaf.as_ref().is_none_or(|(first, _)| *first != covers) {
            let l3 = table(follow(&root, va, 4)?)?;
            let l2 = table(follow(&l3, va, 3)?)?;
            leaf = Some((covers, table(follow(&l2, va, 2)?)?));
        }
        let (_, l1) = leaf.as_ref().ok_or_else(unmapped)?;
        frames.push(follow(l1, va, 1)?);
    }
    Ok(frames)
}

/// Frames of a list that a tree of three levels leads to, as older kernels have it.
fn tree_list(xen: &Xen, domain: DomId, shared: &SharedInfo, pages: u64) -> Result<Vec<Mfn>> {
    let root = shared.arch.pfn_to_mfn_frame_list_list;
    if matches!(root, 0 | u64::MAX) {
        return Err(Error::Domain(format!(
            "domain {domain}'s kernel does not say where its P2M list is: it cannot be saved"
        )));
    }
    let top = xen.map_all(domain, &[Mfn(root)], Access::Read)?;
    let mut frames = Vec::with_capacity(pages as usize);
    for n in 0..pages.div_ceil(PFNS_PER_PAGE).min(PFNS_PER_PAGE) {
        let middle = xen.map_all(domain, &[Mfn(top.get(n as usize * 8))], Access::Read)?;
        let here = (pages - n * PFNS_PER_PAGE).min(PFNS_PER_PAGE);
        frames.extend((0..here as usize).map(|at| Mfn(middle.get(at * 8))));
    }
    Ok(frames)
}

/// A domain's shared info page.
pub(super) fn shared_info(xen: &Xen, info: &DomainInfo) -> Result<(SharedPages, Box<SharedInfo>)> {
    let page = xen.map_all(info.domain, &[info.shared_info], Access::Read)?;
    let copy = Box::new(page.get(offset_of!(SharedInfo, vcpu_info)));
    Ok((page, copy))
}
