//! A suspended domain into a stream.

use std::io::Write;

use xen_abi::xen::SharedInfo;
use zerocopy::IntoBytes;

use super::error::{Error, Result};
use super::format::{
    REC_END, REC_PAGE_DATA, REC_SHARED_INFO, REC_STATIC_DATA_END, REC_X86_CPUID_POLICY,
    REC_X86_MSR_POLICY, REC_X86_PV_INFO, REC_X86_PV_P2M_FRAMES, REC_X86_TSC_INFO, write_heads,
    write_record, write_tail,
};
use super::guest::{GuestFrames, shared_info};
use super::records::{
    BATCH, P2mFrames, PTE_FRAME, PTE_PRESENT, PV_INFO, PageData, PageType, Tsc, is_hypervisor_slot,
    packed, with_frame,
};
use super::vcpus;
use crate::ctl::{ShutdownReason, Xen};
use crate::sys::{Access, DomId, Mfn, PAGE_SIZE};

/// Writes a suspended domain. `progress` is told pages written, of how many.
///
/// # Errors
/// [`Error::Domain`]: it has not suspended itself, or its kernel cannot be saved.
pub fn save(
    xen: &Xen,
    domain: DomId,
    to: &mut impl Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let info = xen.domain_info(domain)?;
    if info.shutdown != Some(ShutdownReason::SUSPEND) {
        return Err(Error::Domain(format!(
            "domain {domain} is not suspended: it cannot be saved"
        )));
    }
    let hypervisor = xen.hypervisor_info()?;
    write_heads(to, (hypervisor.major, hypervisor.minor))?;
    write_record(to, REC_X86_PV_INFO, &[PV_INFO.as_bytes()])?;
    let policy = xen.cpu_policy(domain)?;
    write_record(to, REC_X86_CPUID_POLICY, &[policy.leaves.as_bytes()])?;
    if !policy.msrs.is_empty() {
        write_record(to, REC_X86_MSR_POLICY, &[policy.msrs.as_bytes()])?;
    }
    write_record(to, REC_STATIC_DATA_END, &[])?;

    let (page, shared) = shared_info(xen, &info)?;
    let guest = GuestFrames::read(xen, &info, &shared)?;
    let range = P2mFrames {
        first: 0,
        last: guest.p2m.len() as u32 - 1,
    };
    let list = guest.list_pfns.as_bytes();
    write_record(to, REC_X86_PV_P2M_FRAMES, &[range.as_bytes(), list])?;
    write_pages(xen, domain, &guest, to, progress)?;

    let tsc = xen.tsc_info(domain)?;
    let tsc = Tsc {
        mode: tsc.mode,
        khz: tsc.khz,
        nsec: tsc.elapsed,
        incarnation: tsc.incarnation,
        reserved: 0,
    };
    write_record(to, REC_X86_TSC_INFO, &[tsc.as_bytes()])?;
    let mut whole = vec![0; PAGE_SIZE];
    page.read(0, &mut whole);
    debug_assert!(size_of::<SharedInfo>() <= whole.len());
    write_record(to, REC_SHARED_INFO, &[&whole])?;
    vcpus::write(xen, &info, &guest, to)?;
    write_record(to, REC_END, &[])?;
    write_tail(to)
}

/// Writes all pages, batch by batch.
fn write_pages(
    xen: &Xen,
    domain: DomId,
    guest: &GuestFrames,
    to: &mut impl Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let all = guest.p2m.len() as u64;
    let mut content = Vec::new();
    for (number, batch) in guest.p2m.chunks(BATCH).enumerate() {
        let first = (number * BATCH) as u64;
        let types = types(xen, domain, guest, batch)?;
        let words: Vec<u64> = (first..)
            .zip(&types)
            .map(|(pfn, &kind)| packed(pfn, kind))
            .collect();
        let frames = batch.iter().zip(&types);
        let frames: Vec<(Mfn, PageType)> = frames
            .filter(|(_, kind)| kind.has_content())
            .map(|(&mfn, &kind)| (mfn, kind))
            .collect();
        read_content(xen, domain, guest, &frames, &mut content)?;
        let head = PageData {
            count: batch.len() as u32,
            reserved: 0,
        };
        let parts = [head.as_bytes(), words.as_bytes(), &content];
        write_record(to, REC_PAGE_DATA, &parts)?;
        progress(first + batch.len() as u64, all);
    }
    Ok(())
}

/// What the frames of a batch are.
fn types(xen: &Xen, domain: DomId, guest: &GuestFrames, batch: &[Mfn]) -> Result<Vec<PageType>> {
    let there: Vec<Mfn> = batch
        .iter()
        .copied()
        .filter(|&m| guest.is_frame(m))
        .collect();
    let mut known = if there.is_empty() {
        Vec::new().into_iter()
    } else {
        xen.frame_types(domain, &there)?.into_iter()
    };
    let types = batch.iter().map(|&mfn| {
        let info = guest.is_frame(mfn).then(|| known.next()).flatten();
        info.map_or(PageType::NONE, PageType::of)
    });
    Ok(types.collect())
}

/// Copies pages out, page tables with PFNs instead of frames.
fn read_content(
    xen: &Xen,
    domain: DomId,
    guest: &GuestFrames,
    frames: &[(Mfn, PageType)],
    content: &mut Vec<u8>,
) -> Result<()> {
    content.resize(frames.len() * PAGE_SIZE, 0);
    if frames.is_empty() {
        return Ok(());
    }
    let numbers: Vec<Mfn> = frames.iter().map(|&(mfn, _)| mfn).collect();
    xen.map_all(domain, &numbers, Access::Read)?
        .read(0, content);
    for ((mfn, kind), page) in frames.iter().zip(content.chunks_exact_mut(PAGE_SIZE)) {
        let Some(level) = kind.table_level() else {
            continue;
        };
        for (index, entry) in page.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            let value = u64::from_le_bytes(*entry);
            if is_hypervisor_slot(level, index) {
                *entry = [0; 8];
            } else if value & PTE_PRESENT != 0 {
                let target = Mfn((value & PTE_FRAME) >> 12);
                let pfn = guest.pfn(target).ok_or_else(|| {
                    Error::Domain(format!(
                        "domain {domain} maps frame {target}, which is not its own, in table {mfn}"
                    ))
                })?;
                *entry = with_frame(value, pfn).to_le_bytes();
            }
        }
    }
    Ok(())
}
