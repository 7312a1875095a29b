//! What a new domain's memory holds when it starts.

use std::io::Read;

use pv_image::plan::{Frames, Initrd, Plan};
use pv_image::{KernelImage, PAGE_SHIFT};
use xen_abi::xen::StartInfo;
use zerocopy::IntoBytes;

use crate::sys::{Mfn, PAGE_SIZE};

use super::error::{Error, Result};
use super::memory::GuestMemory;

/// Copies the kernel's segments, and zeroes what follows them.
pub(super) fn load_kernel(memory: &GuestMemory<'_>, image: &KernelImage<'_>) -> Result<()> {
    for segment in &image.segments {
        let start = segment.va - image.virt_base;
        let mut rest = segment.data;
        memory.visit(start, start + segment.mem_size, |window, offset, bytes| {
            let (now, later) = rest.split_at(bytes.min(rest.len()));
            window.write(offset, now);
            window.fill(offset + now.len(), bytes - now.len(), 0);
            rest = later;
            Ok(())
        })?;
    }
    Ok(())
}

/// Copies the initial RAM disk.
pub(super) fn load_initrd(
    memory: &GuestMemory<'_>,
    place: &Initrd,
    mut reader: impl Read,
) -> Result<()> {
    let start = place.frames.first << PAGE_SHIFT;
    let mut block = vec![0; 64 << 10];
    memory.visit(start, start + place.size, |window, offset, bytes| {
        let mut done = 0;
        while done < bytes {
            let now = block.len().min(bytes - done);
            reader
                .read_exact(&mut block[..now])
                .map_err(Error::Initrd)?;
            window.write(offset + done, &block[..now]);
            done += now;
        }
        Ok(())
    })
}

/// Writes the list of the domain's frames, its last page filled up with ones.
pub(super) fn write_p2m(memory: &GuestMemory<'_>, plan: &Plan) -> Result<()> {
    let Frames { first, count } = plan.p2m.frames;
    let start = first << PAGE_SHIFT;
    let mut frames = memory.frames();
    let mut block: Vec<u64> = Vec::with_capacity(PAGE_SIZE / 8);
    memory.visit(
        start,
        start + (count << PAGE_SHIFT),
        |window, offset, bytes| {
            for page in (0..bytes).step_by(PAGE_SIZE) {
                let (now, later) = frames.split_at(frames.len().min(PAGE_SIZE / 8));
                block.clear();
                block.extend(now.iter().map(|mfn| mfn.0));
                block.resize(PAGE_SIZE / 8, u64::MAX);
                window.write(offset + page, block.as_bytes());
                frames = later;
            }
            Ok(())
        },
    )
}

/// Writes the page tables.
pub(super) fn write_tables(memory: &GuestMemory<'_>, plan: &Plan) -> Result<()> {
    let mut runs = Vec::new();
    for run in [plan.page_tables.frames, plan.p2m_tables] {
        if run.count != 0 {
            let window = memory.map(run.first, run.count)?;
            window.fill(0, window.len(), 0);
            runs.push((run, window));
        }
    }
    for entry in plan.entries() {
        let Mfn(target) = memory.mfn(entry.target)?;
        let run = runs.iter().find(|(run, _)| run.contains(entry.table.pfn));
        if let Some((run, window)) = run {
            let page = (entry.table.pfn - run.first) as usize;
            let value = target << PAGE_SHIFT | entry.flags();
            window.put(page * PAGE_SIZE + entry.index * 8, &value);
        }
    }
    Ok(())
}

/// Writes the start info, and zeroes the rings and the stack.
pub(super) fn write_boot_pages(
    memory: &GuestMemory<'_>,
    plan: &Plan,
    start: &StartInfo,
) -> Result<()> {
    let rings = plan.xenstore.into_iter().chain(plan.console);
    for page in rings.chain([plan.stack, plan.start_info]) {
        let window = memory.map(page.frames.first, page.frames.count)?;
        window.fill(0, window.len(), 0);
    }
    memory.map(plan.start_info.frames.first, 1)?.put(0, start);
    Ok(())
}
