//! A stream into a new domain.

use std::fmt;
use std::io::Read;
use std::mem::offset_of;

use xen_abi::domctl::{XenCpuidLeaf, XenMsrEntry};
use xen_abi::xen::{SharedInfo, StartInfo};
use zerocopy::{FromBytes, IntoBytes};

use super::error::{Result, bad};
use super::format::{
    REC_END, REC_OPTIONAL, REC_PAGE_DATA, REC_SHARED_INFO, REC_STATIC_DATA_END, REC_VERIFY,
    REC_X86_CPUID_POLICY, REC_X86_MSR_POLICY, REC_X86_PV_INFO, REC_X86_PV_P2M_FRAMES,
    REC_X86_PV_VCPU_BASIC, REC_X86_PV_VCPU_EXTENDED, REC_X86_PV_VCPU_MSRS, REC_X86_PV_VCPU_XSAVE,
    REC_X86_TSC_INFO, read_heads, read_record, read_tail,
};
use super::place::Reader;
use super::records::{
    BATCH, P2mFrames, PFNS_PER_PAGE, PTE_FRAME, PTE_PRESENT, PV_INFO, PageData, PageType, Tsc,
    is_hypervisor_slot, unpacked, with_frame,
};
use super::vcpus::Vcpus;
use crate::build::{self, Built, Link, NewDomain};
use crate::ctl::{CpuPolicy, TscInfo, Xen};
use crate::sys::{Access, DomId, Mfn, PAGE_SIZE, Pfn};

/// What a domain gets that its stream does not say.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// Memory it may have now, pages.
    pub pages: u64,
    /// Memory it may grow to, pages.
    pub max_pages: u64,
    /// vCPUs, as it was made for.
    pub vcpus: u32,
    /// Who serves its xenstore ring.
    pub store: DomId,
    /// Who serves its console.
    pub console: DomId,
    /// Where in its file the stream begins, bytes: errors say where they are.
    pub begins: u64,
}

/// Fills a new domain with what a stream holds; it is ready to go on, and still paused.
/// `progress` is told pages read, of how many.
///
/// # Errors
/// [`crate::stream::Error`]; the domain is then good for nothing but being dropped.
pub fn restore(
    domain: &NewDomain,
    from: &mut impl Read,
    wanted: &Restored,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Built> {
    let mut from = Reader::new(from, wanted.begins);
    let done = take_all(domain, &mut from, wanted, progress);
    done.map_err(|error| error.at(from.place()))
}

fn take_all(
    domain: &NewDomain,
    from: &mut Reader<impl Read>,
    wanted: &Restored,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Built> {
    let (xen, id) = (domain.xen(), domain.id());
    read_heads(from)?;
    build::prepare(xen, id, wanted.vcpus, wanted.pages, wanted.max_pages)?;
    let mut restoring = Restoring::new(xen, id, wanted);
    let mut body = Vec::new();
    loop {
        match read_record(from, &mut body)? {
            REC_END => break,
            kind => restoring.take(kind, &body)?,
        }
        progress(restoring.read, restoring.frames.len() as u64);
    }
    read_tail(from)?;
    restoring.finish()
}

/// No frame.
const NOWHERE: Mfn = Mfn(u64::MAX);

/// A domain half restored.
struct Restoring<'a> {
    xen: &'a Xen,
    domain: DomId,
    wanted: &'a Restored,
    /// By PFN.
    frames: Vec<Mfn>,
    types: Vec<PageType>,
    list_pfns: Vec<u64>,
    policy: CpuPolicy,
    vcpus: Vcpus,
    shared: Option<Box<SharedInfo>>,
    /// Pages that came.
    read: u64,
}

impl fmt::Debug for Restoring<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Restoring({})", self.domain)
    }
}

/// The head of a body, and the rest of it as 64-bit words.
fn head_and_rest<T: FromBytes>(body: &[u8]) -> Result<(T, &[u8])> {
    T::read_from_prefix(body).or_else(|_| bad("a record too short"))
}

fn values<T: FromBytes>(body: &[u8]) -> Result<Vec<T>> {
    let chunks = body.chunks_exact(size_of::<T>());
    if !chunks.remainder().is_empty() {
        return bad("a record of a list does not end with an entry");
    }
    Ok(chunks.filter_map(|c| T::read_from_bytes(c).ok()).collect())
}

impl<'a> Restoring<'a> {
    fn new(xen: &'a Xen, domain: DomId, wanted: &'a Restored) -> Self {
        Self {
            xen,
            domain,
            wanted,
            frames: Vec::new(),
            types: Vec::new(),
            list_pfns: Vec::new(),
            policy: CpuPolicy::default(),
            vcpus: Vcpus::default(),
            shared: None,
            read: 0,
        }
    }

    fn take(&mut self, kind: u32, body: &[u8]) -> Result<()> {
        match kind {
            REC_X86_PV_INFO if body == PV_INFO.as_bytes() => Ok(()),
            REC_X86_PV_INFO => bad("a guest that is not 64-bit"),
            REC_X86_CPUID_POLICY => {
                self.policy.leaves = values::<XenCpuidLeaf>(body)?;
                Ok(())
            }
            REC_X86_MSR_POLICY => {
                self.policy.msrs = values::<XenMsrEntry>(body)?;
                Ok(())
            }
            REC_STATIC_DATA_END => self.apply_policy(),
            REC_X86_PV_P2M_FRAMES => self.take_list(body),
            REC_PAGE_DATA => self.take_pages(body),
            REC_X86_TSC_INFO => self.take_tsc(body),
            REC_SHARED_INFO => {
                let (shared, _) = head_and_rest::<SharedInfo>(body)?;
                self.shared = Some(Box::new(shared));
                Ok(())
            }
            REC_X86_PV_VCPU_BASIC
            | REC_X86_PV_VCPU_EXTENDED
            | REC_X86_PV_VCPU_XSAVE
            | REC_X86_PV_VCPU_MSRS => self.vcpus.take(kind, body),
            // What follows repeats pages, for who wants to compare.
            REC_VERIFY => Ok(()),
            kind if kind & REC_OPTIONAL != 0 => Ok(()),
            kind => bad(format!("record {kind:#x}")),
        }
    }

    fn apply_policy(&self) -> Result<()> {
        if self.policy.leaves.is_empty() {
            return Ok(());
        }
        match self.xen.set_cpu_policy(self.domain, &self.policy) {
            Err(e) if matches!(e.errno(), Some(libc::ENOSYS | libc::EOPNOTSUPP)) => Ok(()),
            done => Ok(done?),
        }
    }

    fn take_tsc(&self, body: &[u8]) -> Result<()> {
        let (tsc, _) = head_and_rest::<Tsc>(body)?;
        let info = TscInfo {
            mode: tsc.mode,
            khz: tsc.khz,
            incarnation: tsc.incarnation,
            elapsed: tsc.nsec,
        };
        Ok(self.xen.set_tsc_info(self.domain, &info)?)
    }

    fn take_list(&mut self, body: &[u8]) -> Result<()> {
        let (range, rest) = head_and_rest::<P2mFrames>(body)?;
        let count = u64::from(range.last) + 1;
        let most = self
            .wanted
            .max_pages
            .saturating_mul(16)
            .saturating_add(1 << 20);
        let pfns = values::<u64>(rest)?;
        if range.first != 0
            || count > most
            || !self.frames.is_empty()
            || pfns.len() as u64 != count.div_ceil(PFNS_PER_PAGE)
            || pfns.iter().any(|&pfn| pfn >= count)
        {
            return bad(format!("a P2M list of {count} entries"));
        }
        self.frames = vec![NOWHERE; count as usize];
        self.types = vec![PageType::NONE; count as usize];
        self.list_pfns = pfns;
        Ok(())
    }

    fn take_pages(&mut self, body: &[u8]) -> Result<()> {
        let (head, rest) = head_and_rest::<PageData>(body)?;
        let count = head.count as usize;
        if count == 0 || count > BATCH || rest.len() < count * 8 {
            return bad(format!("{count} pages in a record"));
        }
        let (words, content) = rest.split_at(count * 8);
        let mut missing = Vec::new();
        let mut full = Vec::new();
        for word in values::<u64>(words)? {
            let (pfn, kind) = unpacked(word);
            let Some(index) = self.index(pfn).filter(|_| kind.is_known()) else {
                return bad(format!("page {pfn} of type {:#x}", kind.0));
            };
            self.types[index] = kind;
            if kind.is_memory() {
                missing.push(pfn);
            }
            if kind.has_content() {
                full.push((index, kind));
            }
        }
        if content.len() != full.len() * PAGE_SIZE {
            return bad("a record without all its pages");
        }
        self.read += count as u64;
        self.populate(missing)?;
        self.write_pages(&full, content)
    }

    /// The place of a PFN, if the domain has one such.
    fn index(&self, pfn: u64) -> Option<usize> {
        let index = usize::try_from(pfn).ok()?;
        (index < self.frames.len()).then_some(index)
    }

    /// Gives the domain memory at those of the PFNs where it has none. They are in range.
    fn populate(&mut self, mut pfns: Vec<u64>) -> Result<()> {
        pfns.retain(|&pfn| self.frames[pfn as usize] == NOWHERE);
        pfns.sort_unstable();
        pfns.dedup();
        if pfns.is_empty() {
            return Ok(());
        }
        let at: Vec<Pfn> = pfns.iter().map(|&pfn| Pfn(pfn)).collect();
        let got = self.xen.populate(self.domain, &at, 0)?;
        if got.len() < at.len() {
            return Err(build::Error::Memory {
                domain: self.domain,
                wanted: self.wanted.pages,
                got: self.frames.iter().filter(|&&m| m != NOWHERE).count() as u64,
            }
            .into());
        }
        for (pfn, mfn) in pfns.into_iter().zip(got) {
            self.frames[pfn as usize] = mfn;
        }
        Ok(())
    }

    /// Writes pages, page tables with frames instead of PFNs.
    fn write_pages(&mut self, full: &[(usize, PageType)], content: &[u8]) -> Result<()> {
        if full.is_empty() {
            return Ok(());
        }
        let frames: Vec<Mfn> = full.iter().map(|&(index, _)| self.frames[index]).collect();
        let window = self.xen.map_all(self.domain, &frames, Access::Write)?;
        for (n, (&(_, kind), page)) in full.iter().zip(content.chunks(PAGE_SIZE)).enumerate() {
            match kind.table_level() {
                None => window.write(n * PAGE_SIZE, page),
                Some(level) => window.write(n * PAGE_SIZE, &self.localised(level, page)?),
            }
        }
        Ok(())
    }

    /// A page table with frames instead of PFNs. Pages it maps that have not come get their memory
    /// now.
    fn localised(&mut self, level: u32, page: &[u8]) -> Result<Vec<u8>> {
        let mut entries = values::<u64>(page)?;
        let mut targets = Vec::new();
        for (index, entry) in entries.iter_mut().enumerate() {
            if is_hypervisor_slot(level, index) {
                *entry = 0;
            } else if *entry & PTE_PRESENT != 0 {
                let pfn = (*entry & PTE_FRAME) >> 12;
                if self.index(pfn).is_none() {
                    return bad(format!("a page table that maps page {pfn}"));
                }
                targets.push(pfn);
            }
        }
        self.populate(targets)?;
        for entry in entries.iter_mut().filter(|e| **e & PTE_PRESENT != 0) {
            let pfn = (*entry & PTE_FRAME) >> 12;
            *entry = with_frame(*entry, self.frames[pfn as usize].0);
        }
        Ok(entries.as_bytes().to_vec())
    }

    /// The frame of a page that must be there, and be plain memory or a table of a level.
    fn frame(&self, pfn: u64, level: Option<u32>) -> Result<Mfn> {
        let index = self.index(pfn).filter(|&i| {
            self.types[i].has_content()
                && self.types[i].table_level() == level
                && self.frames[i] != NOWHERE
        });
        match index {
            Some(index) => Ok(self.frames[index]),
            None => bad(format!("page {pfn} is not what it is used for")),
        }
    }

    /// All pages have come.
    fn finish(mut self) -> Result<Built> {
        let (xen, id) = (self.xen, self.domain);
        let shared_info = xen.domain_info(id)?.shared_info;
        let built = self.write_start_info(shared_info)?;
        self.write_list()?;
        self.write_shared_info(shared_info)?;
        let pinned = self.frames.iter().zip(&self.types);
        let pinned: Vec<(Mfn, u32)> = pinned
            .filter(|(_, kind)| kind.is_pinned())
            .filter_map(|(&mfn, kind)| Some((mfn, kind.table_level()?)))
            .collect();
        xen.pin_tables(id, &pinned)?;
        let vcpus = std::mem::take(&mut self.vcpus);
        // Whether a page is a table of the right kind is for the hypervisor to say.
        vcpus.apply(xen, id, |pfn| {
            let index = self.index(pfn).filter(|&i| self.frames[i] != NOWHERE);
            match index {
                Some(index) => Ok(self.frames[index].0),
                None => bad(format!("a vCPU that uses page {pfn}")),
            }
        })?;
        build::grant_rings(xen, id, &built, self.wanted.store, self.wanted.console)?;
        Ok(built)
    }

    /// Tells the kernel, where it looks when it goes on, its rings and its shared info.
    fn write_start_info(&self, shared_info: Mfn) -> Result<Built> {
        let (xen, id) = (self.xen, self.domain);
        let frame = self.frame(self.vcpus.start_info()?, None)?;
        let page = xen.map_all(id, &[frame], Access::Write)?;
        let mut info: StartInfo = page.get(0);
        let built = Built {
            store: Link {
                mfn: self.frame(info.store_mfn, None)?,
                port: xen.alloc_unbound(id, self.wanted.store)?,
            },
            console: Link {
                mfn: self.frame(info.console_mfn, None)?,
                port: xen.alloc_unbound(id, self.wanted.console)?,
            },
        };
        info.nr_pages = self.frames.len() as u64;
        info.shared_info = shared_info.0 * PAGE_SIZE as u64;
        info.flags = 0;
        info.store_mfn = built.store.mfn.0;
        info.store_evtchn = built.store.port.0;
        info.console_mfn = built.console.mfn.0;
        info.console_evtchn = built.console.port.0;
        page.put(0, &info);
        Ok(built)
    }

    /// Writes the P2M list anew.
    fn write_list(&self) -> Result<()> {
        let mut entries = self.frames.iter().map(|mfn| mfn.0);
        for pages in self.list_pfns.chunks(BATCH) {
            let frames: Result<Vec<Mfn>> = pages.iter().map(|&p| self.frame(p, None)).collect();
            let window = self.xen.map_all(self.domain, &frames?, Access::Write)?;
            let room = window.len() / 8;
            let mut words: Vec<u64> = entries.by_ref().take(room).collect();
            words.resize(room, u64::MAX);
            window.write(0, words.as_bytes());
        }
        Ok(())
    }

    /// Restores what the guest keeps in its shared info page; event channels are new.
    fn write_shared_info(&self, shared_info: Mfn) -> Result<()> {
        let Some(saved) = &self.shared else {
            return bad("no shared info page");
        };
        let page = self
            .xen
            .map_all(self.domain, &[shared_info], Access::Write)?;
        let mut vcpu_info = saved.vcpu_info;
        for vcpu in &mut vcpu_info {
            vcpu.evtchn_pending_sel = 0;
        }
        let mut arch = saved.arch;
        arch.pfn_to_mfn_frame_list_list = 0;
        page.put(offset_of!(SharedInfo, vcpu_info), &vcpu_info);
        page.put(offset_of!(SharedInfo, arch), &arch);
        page.put(offset_of!(SharedInfo, evtchn_pending), &[0_u64; 64]);
        page.put(offset_of!(SharedInfo, evtchn_mask), &[u64::MAX; 64]);
        Ok(())
    }
}
