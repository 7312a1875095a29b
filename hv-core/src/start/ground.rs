//! The ground everything else stands on: options, console, page tables, heap.
#![allow(
    unsafe_code,
    reason = "vouches for the boot loader's memory map and the first heap"
)]

use super::boot_info::BootInfo;
use super::options::Options;
use super::{panic, screen};
use crate::addr::PAGE_SIZE;
use crate::arch::FrameMem;
use crate::arch::machine::physical;
use crate::arch::symbols;
use crate::console;
use crate::mm::host_map::{self, Cache, DirectMap, ImageLayout};
use crate::mm::{early, heap, layout};
use core::ptr::NonNull;

/// Bytes of heap before the frame allocator can give more.
const FIRST_HEAP: u64 = 256 << 10;

/// Reads the command line, brings up console, final page tables and heap. Called
/// once, first of all.
///
/// # Panics
/// If there is no memory to speak of.
#[must_use]
pub fn prepare(info: &'static BootInfo) -> Options {
    let options = Options::parse(&info.command_line);
    console::set_thresholds(options.log, options.guest_log);
    console::init(options.console.map(|port| options.com[port]));
    symbols::install(info.image.symbols, info.image.virt);
    panic::configure(options.halts(), info.image.text.clone());
    greet(info);
    warn(info, &options);
    let image = &info.image;
    let mut used = heapless::Vec::<_, 16>::new();
    used.push(image.machine.clone())
        .expect("room for the image");
    for module in &info.modules {
        used.push(module.range()).expect("room for all modules");
    }
    early::init(&info.memory_map, &used, layout::DIRECT_MAP_SIZE);
    let image = ImageLayout {
        machine: image.machine.start,
        ro: image.ro.clone(),
        text: image.text.clone(),
        data: image.data.clone(),
    };
    // SAFETY: this is the one call, on the first tables; map and limits come from the
    // boot loader and the linker.
    unsafe { host_map::init(&info.memory_map, &image) };
    // SAFETY: both kinds of mapping stay for good, and devices' are uncached.
    unsafe {
        physical::install(physical::Maps {
            memory: |addr, len| {
                let end = addr.raw().checked_add(len)?;
                host_map::in_direct_map(&(addr.raw()..end))
                    .then(|| NonNull::new(layout::direct_map(addr) as *mut u8))?
            },
            device: |addr, len| host_map::map_device(addr, len, Cache::Uncached).ok(),
        });
    }
    let first = early::alloc(FIRST_HEAP / PAGE_SIZE, 1).expect("memory for the heap");
    let start = NonNull::new(DirectMap.bytes(first)).expect("the direct map is not at 0");
    // SAFETY: the frames were just allocated, and the direct map shows them for good.
    heap::extend(unsafe { heap::Chunk::new(start, FIRST_HEAP as usize) });
    screen::show(info, &options);
    options
}

/// Says what we are and what we were given.
fn greet(info: &'static BootInfo) {
    log::info!("Oxen {}", env!("CARGO_PKG_VERSION"));
    log::info!(
        "Loaded by {} ({:?}) at {:#x}-{:#x}",
        info.loader_name,
        info.protocol,
        info.image.machine.start,
        info.image.machine.end
    );
    crate::hypercall::xen_version::set_command_line(&info.command_line);
    log::info!("Command line: {}", info.command_line);
    for r in info.memory_map.regions() {
        log::info!(" {:016x}-{:016x} {:?}", r.start, r.end(), r.kind);
    }
    for (i, m) in info.modules.iter().enumerate() {
        let range = m.range();
        log::debug!(
            "Module {i}: {:#x}-{:#x} {}",
            range.start,
            range.end,
            m.command_line
        );
    }
    let ram = info.memory_map.ram().total();
    log::info!("RAM: {} MiB ({} KiB)", ram >> 20, ram >> 10);
}

/// Names what could not be used.
fn warn(info: &BootInfo, options: &Options) {
    for word in &options.unknown {
        log::warn!("Command line: unknown option \"{word}\" ignored");
    }
    for word in &options.malformed {
        log::warn!("Command line: \"{word}\" makes no sense, ignored");
    }
    if info.damaged {
        log::warn!("Part of the boot loader's information was cut or ignored");
    }
    if info.memory_map.dropped() > 0 {
        log::warn!("Memory map: {} regions left out", info.memory_map.dropped());
    }
}
