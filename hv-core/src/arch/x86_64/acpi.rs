//! Reads the ACPI tables into a [`Platform`].
//!
//! The `acpi` crate finds, checks and lays out the static tables; this module copies
//! what matters out of them. AML is not interpreted, except that the bytes of `\_S5`
//! are looked for in the DSDT.
#![allow(clippy::disallowed_methods, reason = "at boot only")]
#![allow(unsafe_code, reason = "maps firmware tables for the acpi crate")]

use super::physical;
use crate::addr::MachAddr;
use crate::arch::platform::{
    IoApicInfo, LocalNmi, McfgRegion, Override, Platform, PowerInfo, Processor, Register, Signal,
    find_s5, madt_entries_fit,
};
use crate::arch::{efi, smbios};
use acpi::address::{AddressSpace, GenericAddress};
use acpi::fadt::Fadt;
use acpi::madt::{Madt, MadtEntry};
use acpi::mcfg::Mcfg;
use acpi::{AcpiHandler, AcpiTables, HpetInfo, PhysicalMapping};
use core::ptr::NonNull;

/// Shows the crate physical memory through mappings that are never undone.
#[derive(Clone, Copy)]
struct Handler;

impl AcpiHandler for Handler {
    unsafe fn map_physical_region<T>(&self, at: usize, size: usize) -> PhysicalMapping<Self, T> {
        let start = map(at as u64, size as u64).expect("firmware tables can be mapped");
        // SAFETY: mapped for good, with `size` bytes.
        unsafe { PhysicalMapping::new(at, start.cast(), size, size, *self) }
    }

    fn unmap_physical_region<T>(_: &PhysicalMapping<Self, T>) {}
}

fn map(at: u64, size: u64) -> Option<NonNull<u8>> {
    let addr = MachAddr::from_guest(at)?;
    physical::memory(addr, size).or_else(|| physical::device(addr, size))
}

/// Reads the tables. `rsdp` is where the boot loader found the root pointer; without
/// it the BIOS's areas are searched. A machine without ACPI, or with tables that do
/// not check, gives an (almost) empty [`Platform`], and a warning.
#[must_use]
pub fn read(rsdp: Option<MachAddr>) -> Platform {
    let mut platform = Platform {
        rsdp,
        ..Platform::unknown()
    };
    // SAFETY: the boot loader vouches for its address; the crate checks the checksum.
    let given = rsdp.map(|at| unsafe { AcpiTables::from_rsdp(Handler, at.raw() as usize) });
    let tables = match given {
        Some(Ok(tables)) => Ok(tables),
        // SAFETY: only the first MiB is read, which every PC has.
        _ => unsafe { AcpiTables::search_for_rsdp_bios(Handler) },
    };
    let tables = match tables {
        Ok(tables) => tables,
        Err(e) => {
            log::error!("ACPI: no tables ({e:?})");
            return platform;
        }
    };
    read_madt(&tables, &mut platform);
    read_mcfg(&tables, &mut platform);
    read_fadt(&tables, &mut platform);
    if let Ok(hpet) = HpetInfo::new(&tables) {
        platform.hpet = MachAddr::from_guest(hpet.base_address as u64).filter(|a| a.raw() != 0);
    }
    platform
}

/// Where firmware itself has the root pointer, by EFI's system table at `system_table`.
/// Dom0 cannot use a loader's copy: that lies in memory of the hypervisor's.
#[must_use]
pub fn efi_root_pointer(system_table: u64) -> Option<u64> {
    // SAFETY: firmware leaves its tables alone.
    let bytes = |at, len: usize| unsafe { physical::constant(at, len) };
    let (list, count) = efi::list_of_tables(bytes(system_table, efi::SYSTEM_TABLE)?)?;
    efi::acpi_root(bytes(list, count * efi::ENTRY)?)
}

/// QEMU's release, as the BIOS's SMBIOS tables tell.
#[must_use]
pub fn qemu_release() -> Option<(u32, u32)> {
    // SAFETY: as above.
    let bytes = |at, len: u32| unsafe { physical::constant(at, len as usize) };
    let (at, len) = smbios::find_table(bytes(0xf_0000, 0x1_0000)?)?;
    smbios::qemu_release(smbios::system_version(bytes(at, len.min(0x1_0000))?)?)
}

fn read_madt(tables: &AcpiTables<Handler>, platform: &mut Platform) {
    let Ok(madt) = tables.find_table::<Madt>() else {
        log::warn!("ACPI: no MADT");
        return;
    };
    let (total, fixed) = (madt.region_length(), size_of::<Madt>());
    // SAFETY: the crate mapped the whole table; what follows the fixed part is its
    // entries.
    let entries = unsafe {
        core::slice::from_raw_parts(
            madt.virtual_start().as_ptr().cast::<u8>().add(fixed),
            total.saturating_sub(fixed),
        )
    };
    if total < fixed || !madt_entries_fit(entries) {
        log::warn!("ACPI: MADT is malformed");
        return;
    }
    let table = madt.get();
    platform.local_apic = u64::from(table.local_apic_address);
    platform.has_pic = table.supports_8259();
    for entry in table.entries() {
        add_madt_entry(&entry, platform);
    }
}

fn add_madt_entry(entry: &MadtEntry<'_>, platform: &mut Platform) {
    let mut processor = |apic_id, acpi_id, flags: u32| {
        if !platform.processors.iter().any(|p| p.apic_id == apic_id) {
            platform.processors.push(Processor {
                apic_id,
                acpi_id,
                enabled: flags & 1 != 0,
            });
        }
    };
    match entry {
        // 255 stands for "see the x2APIC entries".
        MadtEntry::LocalApic(e) if e.apic_id != 0xff => {
            processor(u32::from(e.apic_id), u32::from(e.processor_id), e.flags);
        }
        MadtEntry::LocalX2Apic(e) if e.x2apic_id != u32::MAX => {
            processor(e.x2apic_id, e.processor_uid, e.flags);
        }
        MadtEntry::IoApic(e) => platform.io_apics.push(IoApicInfo {
            id: e.io_apic_id,
            base: MachAddr::new(u64::from(e.io_apic_address)),
            gsi_base: e.global_system_interrupt_base,
        }),
        MadtEntry::InterruptSourceOverride(e) if e.bus == 0 && e.irq < 16 => {
            platform.overrides.push(Override {
                isa: e.irq,
                gsi: e.global_system_interrupt,
                signal: Signal::from_inti_flags(e.flags),
            });
        }
        MadtEntry::LocalApicNmi(e) if e.nmi_line < 2 => platform.local_nmis.push(LocalNmi {
            acpi_id: (e.processor_id != 0xff).then_some(u32::from(e.processor_id)),
            lint: e.nmi_line,
        }),
        MadtEntry::X2ApicNmi(e) if e.nmi_line < 2 => platform.local_nmis.push(LocalNmi {
            acpi_id: Some(e.processor_uid).filter(|id| *id != u32::MAX),
            lint: e.nmi_line,
        }),
        MadtEntry::LocalApicAddressOverride(e) => platform.local_apic = e.local_apic_address,
        _ => {}
    }
}

fn read_mcfg(tables: &AcpiTables<Handler>, platform: &mut Platform) {
    let Ok(mcfg) = tables.find_table::<Mcfg>() else {
        return;
    };
    for e in mcfg.entries() {
        let Some(base) = MachAddr::from_guest(e.base_address).filter(|a| a.raw() != 0) else {
            continue;
        };
        platform.mcfg.push(McfgRegion {
            base,
            segment: e.pci_segment_group,
            first_bus: e.bus_number_start,
            last_bus: e.bus_number_end,
        });
    }
}

fn read_fadt(tables: &AcpiTables<Handler>, platform: &mut Platform) {
    let Ok(fadt) = tables.find_table::<Fadt>() else {
        log::warn!("ACPI: no FADT");
        return;
    };
    let flags = fadt.flags;
    let some = |r: Result<GenericAddress, _>| r.ok().and_then(|a| register(&a));
    let option = |r: Result<Option<GenericAddress>, _>| r.ok().flatten().and_then(|a| register(&a));
    let s5 = dsdt(tables).and_then(find_s5);
    if s5.is_none() {
        log::warn!("ACPI: no \\_S5 in the DSDT; guessing sleep type 5");
    }
    platform.power = PowerInfo {
        pm1a_event: some(fadt.pm1a_event_block()),
        pm1b_event: option(fadt.pm1b_event_block()),
        pm1a_control: some(fadt.pm1a_control_block()),
        pm1b_control: option(fadt.pm1b_control_block()),
        pm_timer: option(fadt.pm_timer_block()),
        pm_timer_32bit: flags.pm_timer_is_32_bit(),
        reset: some(fadt.reset_register())
            .filter(|_| flags.supports_system_reset_via_fadt())
            .map(|r| (r, fadt.reset_value)),
        sci_gsi: u32::from(fadt.sci_interrupt),
        acpi_enable: (fadt.smi_cmd_port as u16, fadt.acpi_enable),
        s5: s5.unwrap_or((5, 0)),
        rtc_century: fadt.century,
    };
}

fn dsdt(tables: &AcpiTables<Handler>) -> Option<&'static [u8]> {
    let table = tables.dsdt().ok()?;
    let at = map(table.address as u64, u64::from(table.length))?;
    // SAFETY: the crate found the table valid, so it has that length; firmware leaves
    // it alone, and the mapping stays.
    Some(unsafe { core::slice::from_raw_parts(at.as_ptr(), table.length as usize) })
}

fn register(address: &GenericAddress) -> Option<Register> {
    match address.address_space {
        _ if address.address == 0 => None,
        AddressSpace::SystemIo => u16::try_from(address.address).ok().map(Register::Port),
        AddressSpace::SystemMemory => MachAddr::from_guest(address.address).map(Register::Memory),
        _ => None,
    }
}
