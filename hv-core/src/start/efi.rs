//! EFI firmware: learns what dom0 is told of it, and makes its runtime services callable.
#![allow(
    unsafe_code,
    reason = "reads firmware's tables and vouches for its map"
)]

use super::boot_info::BootInfo;
use super::options::Options;
use crate::arch::efi::{self, Facts, Firmware, Services, firmware};
use crate::arch::machine::{efi_runtime, physical};
use crate::mm::host_map;

/// Reads firmware's tables, if there are any. The frame allocator works.
pub fn discover(info: &'static BootInfo, options: &Options) {
    let Some(efi) = info.efi else { return };
    let Some(firmware) = bytes(efi.system_table, efi::SYSTEM_TABLE).and_then(Firmware::read) else {
        log::warn!("EFI: no system table at {:#x}", efi.system_table);
        return;
    };
    let services = services(info, options, &firmware);
    log::info!(
        "EFI {}.{}, runtime services: {}",
        firmware.revision >> 16,
        (firmware.revision & 0xffff) / 10,
        if services.is_some() { "on" } else { "off" }
    );
    efi::set_facts(Facts {
        vendor: vendor(&firmware),
        firmware,
        services_revision: services,
        map: &info.efi_map,
    });
}

/// Makes the runtime services callable; answers their version.
fn services(info: &BootInfo, options: &Options, firmware: &Firmware) -> Option<u32> {
    if !options.efi_runtime || info.efi_map.is_empty() {
        return None;
    }
    let table = bytes(firmware.services_at, firmware::RUNTIME_SERVICES)?;
    let services = Services::read(table)?;
    let revision = services.revision;
    match host_map::firmware_root(&info.efi_map) {
        Ok(root) => {
            // SAFETY: the root has the hypervisor's slots and what firmware's own map says that
            // its services use; the boot information keeps that memory out of RAM.
            unsafe { efi_runtime::install(root, services) };
            Some(revision)
        }
        Err(_) => {
            log::warn!(
                "EFI: the memory of runtime services cannot be mapped; dom0 goes without them"
            );
            None
        }
    }
}

/// The vendor's name, cut to fit.
fn vendor(firmware: &Firmware) -> heapless::Vec<u16, { firmware::MAX_VENDOR }> {
    let mut name = heapless::Vec::new();
    for n in 0..firmware::MAX_VENDOR as u64 - 1 {
        let character = firmware
            .vendor_at
            .checked_add(2 * n)
            .and_then(|at| bytes(at, 2));
        match character {
            Some(&[low, high]) if (low, high) != (0, 0) => {
                // One less than there is room for.
                let _ = name.push(u16::from_le_bytes([low, high]));
            }
            _ => break,
        }
    }
    let _ = name.push(0);
    name
}

/// Firmware's `len` bytes at `at`.
fn bytes(at: u64, len: usize) -> Option<&'static [u8]> {
    // SAFETY: tables that firmware does not change while nobody calls it.
    unsafe { physical::constant(at, len) }
}
