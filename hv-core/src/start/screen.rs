//! The display: who says what it is, and whose it is.
#![allow(unsafe_code, reason = "maps the screen's memory")]

use super::boot_info::{BootInfo, Framebuffer};
use super::options::Options;
use crate::addr::MachAddr;
use crate::arch::machine::{self, ScreenMemory, physical};
use crate::console;
use crate::console::screen::BIOS_DATA;
use crate::mm::host_map::{self, Cache};

/// Shows the hypervisor's lines on the screen, if the command line wants that and the boot
/// loader (or the BIOS) left one that can be drawn on.
pub fn show(info: &BootInfo, options: &Options) {
    if !options.screen {
        return;
    }
    let Some(framebuffer) = framebuffer(info) else {
        return;
    };
    let Framebuffer {
        width,
        height,
        bits,
        address,
        ..
    } = framebuffer;
    let shown =
        map(info, &framebuffer).is_some_and(|memory| console::use_screen(&framebuffer, memory));
    if shown {
        log::info!("screen: {width}x{height}, {bits} bits, at {address:#x}");
    } else {
        log::warn!("screen: {width}x{height}, {bits} bits, at {address:#x}: cannot be drawn on");
    }
}

/// The screen as it was left to us.
#[must_use]
pub fn framebuffer(info: &BootInfo) -> Option<Framebuffer> {
    info.framebuffer.or_else(|| match info.efi {
        // EFI knows no text screen.
        Some(_) => None,
        None => {
            let at = physical::memory(
                MachAddr::new(BIOS_DATA.start),
                BIOS_DATA.end - BIOS_DATA.start,
            )?;
            let len = (BIOS_DATA.end - BIOS_DATA.start) as usize;
            // SAFETY: mapped for good, and only the BIOS wrote there, which runs no more.
            let bytes = unsafe { core::slice::from_raw_parts(at.as_ptr(), len) };
            Framebuffer::from_bios(bytes)
        }
    })
}

/// Maps the screen's memory. `None` if it cannot be the memory of a screen.
fn map(info: &BootInfo, framebuffer: &Framebuffer) -> Option<ScreenMemory> {
    let range = framebuffer.memory();
    let ram = info.memory_map.ram();
    let overlaps = ram
        .iter()
        .any(|ram| ram.start < range.end && range.start < ram.end);
    if range.is_empty() || overlaps || range.end > 1 << machine::physical_bits() {
        return None;
    }
    let len = range.end - range.start;
    let addr = MachAddr::from_guest(range.start)?;
    let at = host_map::map_device(addr, len, Cache::WriteCombining).ok()?;
    // SAFETY: just mapped, for good, for nobody else.
    Some(unsafe { ScreenMemory::new(at, len as usize) })
}
