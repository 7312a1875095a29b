//! Making dom0 from the boot loader's modules.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "at boot only"
)]
#![allow(unsafe_code, reason = "reads the boot loader's modules in place")]

use super::boot_info::{BootInfo, Module};
use super::options::Options;
use crate::addr::{Mfn, PAGE_SHIFT, PAGE_SIZE};
use crate::arch::machine;
use crate::console;
use crate::domain::notify::SCHEDULER;
use crate::domain::{Domain, registry, rights};
use crate::fallible::Arc;
use crate::mm::{HostMm, frame_io, host};
use crate::{irq, pv_build};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use pv_image::KernelFile;

/// Frames left free beside the hypervisor's reserve when dom0 takes all it can get: its shared
/// pages, and those of later domains.
const KEPT_BACK: u64 = 1024;

/// Builds dom0 from the first module (its kernel) and the second (its initial
/// ramdisk), and makes its first vCPU runnable. Says what is wrong and stops the
/// machine if that cannot be done.
pub fn build(info: &BootInfo, options: &Options) {
    rights::reserve_device_frames(
        device_frames(),
        1 << (machine::physical_bits() - PAGE_SHIFT),
    );
    crate::hypercall::memory_op::maps::set_machine(&info.memory_map, &device_frames());
    match try_build(info, options) {
        Ok(domain) => start(&domain),
        Err(why) => {
            log::error!("no dom0: {why}");
            crate::power::after_crash("dom0 could not be built")
        }
    }
}

fn try_build(info: &BootInfo, options: &Options) -> Result<Arc<Domain>, String> {
    let mm = host::get();
    let kernel = info
        .modules
        .first()
        .ok_or("the boot loader brought no kernel (first module)")?;
    let initrd = info.modules.get(1);
    let unpacked = unpack(mm, kernel)?;
    let available = mm.free_for_domains().saturating_sub(KEPT_BACK)
        + module_frames(Some(kernel))
        + module_frames(initrd)
        + unpacked
            .as_ref()
            .map_or(0, |u| u.len() as u64 >> PAGE_SHIFT);
    let wanted = options.dom0_mem.bytes(available << PAGE_SHIFT) >> PAGE_SHIFT;
    let nr_pages = wanted.min(mm.free_for_domains().saturating_sub(KEPT_BACK));
    let vcpus = dom0_vcpus(options);
    log::info!(
        "building dom0: {} MiB, {vcpus} vCPUs",
        nr_pages >> (20 - PAGE_SHIFT)
    );
    // SAFETY: modules lie in RAM that the early allocator avoided; freed below only.
    let file = unsafe { frame_io::module(&mm.mem, kernel.start, kernel.len as usize) };
    let ramdisk = initrd.map_or(&[][..], |m| {
        // SAFETY: as above.
        unsafe { frame_io::module(&mm.mem, m.start, m.len as usize) }
    });
    let elf = match &unpacked {
        Some(buffer) => &buffer[..],
        None => match KernelFile::open(file) {
            Ok(KernelFile::Plain(elf)) => elf,
            _ => return Err("the kernel changed its mind".into()),
        },
    };
    let command_line = command_line(info, &kernel.command_line);
    let request = pv_build::Request {
        kernel: elf,
        initrd: ramdisk,
        command_line: command_line.as_bytes(),
        nr_pages,
        vcpus,
        pirqs: irq::irq_count() as usize,
        screen: super::screen::framebuffer(info).and_then(|screen| {
            pv_build::screen::console_info(&screen, info.efi.is_some(), console::screen_cursor())
        }),
    };
    let domain = pv_build::dom0(mm, &request).map_err(|why| alloc::format!("{why:?}"))?;
    drop(unpacked);
    for module in [Some(kernel), initrd].into_iter().flatten() {
        let frames = frames_of(module);
        mm.free_kept(Mfn::new(frames.start), frames.end - frames.start);
    }
    Ok(domain)
}

/// The kernel's command line. Under EFI no search finds ACPI's root pointer, so the
/// kernel is told where it is, unless somebody told it already.
fn command_line(info: &BootInfo, given: &str) -> String {
    let root = info
        .efi
        .and_then(|efi| machine::acpi::efi_root_pointer(efi.system_table));
    match root {
        Some(at) if !given.contains("acpi_rsdp=") => alloc::format!("{given} acpi_rsdp={at:#x}")
            .trim_start()
            .into(),
        _ => given.into(),
    }
}

/// The kernel's ELF file, unpacked, unless it is one already.
fn unpack(mm: &HostMm, module: &Module) -> Result<Option<Vec<u8>>, String> {
    // SAFETY: see `try_build`.
    let file = unsafe { frame_io::module(&mm.mem, module.start, module.len as usize) };
    match KernelFile::open(file).map_err(|e| alloc::format!("its kernel is unusable: {e}"))? {
        KernelFile::Plain(_) => Ok(None),
        KernelFile::Packed(packed) => {
            let mut buffer = vec![0; packed.unpacked_size()];
            let start = crate::time::now();
            let filled = packed
                .unpack(&mut buffer)
                .map_err(|e| alloc::format!("its kernel does not unpack: {e:?}"))?
                .len();
            let took = crate::time::now().0 - start.0;
            log::info!("unpacked dom0's kernel in {} ms", took / 1_000_000);
            buffer.truncate(filled);
            Ok(Some(buffer))
        }
    }
}

fn dom0_vcpus(options: &Options) -> u16 {
    let cpus = machine::cpus::online().count() as u32;
    let range = &options.dom0_max_vcpus;
    // The command line may ask for more than there are; Xen's limit for PV is 8192,
    // ours what the shared-info page has room for.
    cpus.clamp(*range.start(), *range.end()).clamp(1, 32) as u16
}

fn frames_of(module: &Module) -> Range<u64> {
    let range = module.range();
    range.start >> PAGE_SHIFT..range.end.div_ceil(PAGE_SIZE)
}

fn module_frames(module: Option<&Module>) -> u64 {
    module.map_or(0, |m| frames_of(m).count() as u64)
}

/// Frames of interrupt controllers: nobody's but the hypervisor's.
fn device_frames() -> Vec<Range<u64>> {
    const MSI: Range<u64> = 0xfee00..0xfef00;
    let platform = &super::hardware::hardware().platform;
    let mut frames = vec![MSI];
    for io_apic in &platform.io_apics {
        let frame = io_apic.base.raw() >> PAGE_SHIFT;
        frames.push(frame..frame + 1);
    }
    frames
}

/// Makes the first vCPU runnable.
fn start(domain: &Arc<Domain>) {
    if let Some(ports) = console::ports() {
        domain.io.ports.remove(ports);
    }
    registry::insert_first(Arc::clone(domain)).expect("memory for the list of domains");
    crate::domain::wallclock::publish(domain);
    if let Some(first) = domain.vcpus().first()
        && let Some(cpu) = SCHEDULER.up(first.unit, crate::time::now())
    {
        machine::kick(cpu);
    }
}
