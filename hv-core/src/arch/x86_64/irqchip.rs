//! The interrupt controllers as room `irq` sees them: I/O APIC pins, MSI and MSI-X.

use super::pci::Function;
use super::physical::Registers;
use super::{apic, cpus, ioapic, physical};
use crate::addr::{CpuId, MachAddr};
use crate::arch::interrupt::Source;
use crate::arch::msi::{Message, MsiCapability, MsixCapability, PciAddress};
use crate::arch::vectors::DeviceVector;

/// Makes `source` send `vector` to `cpu`, or to another CPU if devices cannot name that
/// one. A pin and a maskable message are masked
/// then; an MSI capability is not turned on (the guest's driver does that). Returns
/// whether there was something to program.
#[must_use]
pub fn route(source: &Source, vector: DeviceVector, cpu: CpuId) -> bool {
    let Some(apic_id) = cpus::apic_id_for_devices(cpu) else {
        return false;
    };
    match *source {
        Source::Gsi { gsi, signal } => ioapic::route(gsi, signal, vector.number(), apic_id),
        Source::Msi {
            device,
            index,
            log2,
        } => {
            let function = Function(device);
            let Some(cap) = MsiCapability::find(&function) else {
                return false;
            };
            // Message `index` adds its number to the data itself.
            let base = vector.number() - index;
            cap.program(&function, Message::fixed(base, apic_id), log2);
            for n in 0..1u8 << log2 {
                cap.set_mask(&function, n, true);
            }
            true
        }
        Source::Msix { device, at, .. } => {
            let Some(entry) = MsixEntry::map(device, at) else {
                return false;
            };
            entry.set_masked(true);
            entry.program(Message::fixed(vector.number(), apic_id));
            true
        }
    }
}

/// Masks or unmasks `source`, as far as it can be.
#[inline]
pub fn set_masked(source: &Source, masked: bool) {
    match *source {
        Source::Gsi { gsi, .. } => ioapic::set_masked(gsi, masked),
        Source::Msi { device, index, .. } => {
            let function = Function(device);
            if let Some(cap) = MsiCapability::find(&function) {
                cap.set_mask(&function, index, masked);
            }
        }
        Source::Msix { device, at, .. } => {
            if let Some(entry) = MsixEntry::map(device, at) {
                entry.set_masked(masked);
            }
        }
    }
}

/// Turns a message off: MSI altogether with its first message, MSI-X entries by their
/// mask.
pub fn release(source: &Source) {
    match *source {
        Source::Msi {
            device, index: 0, ..
        } => {
            let function = Function(device);
            if let Some(cap) = MsiCapability::find(&function) {
                cap.set_enabled(&function, false);
            }
        }
        Source::Msix { .. } => set_masked(source, true),
        Source::Msi { .. } | Source::Gsi { .. } => {}
    }
}

/// Ends the interrupt in service.
#[inline]
pub fn end_of_interrupt() {
    apic::eoi();
}

/// Physical address and length in bytes of a function's MSI-X table. There is none where memory
/// is: the hypervisor would write messages there.
#[must_use]
pub fn msix_table(device: PciAddress) -> Option<(MachAddr, u64)> {
    let function = Function(device);
    let cap = MsixCapability::find(&function)?;
    let at = MachAddr::from_guest(cap.table_address(&function)?)?;
    let bytes = u64::from(cap.entries) * u64::from(MsixCapability::ENTRY_SIZE);
    physical::memory(at, bytes).is_none().then_some((at, bytes))
}

/// An entry of an MSI-X table, mapped.
struct MsixEntry(Registers);

impl MsixEntry {
    /// That of `device` at `at`, if the function answers to its memory at all.
    fn map(device: PciAddress, at: MachAddr) -> Option<Self> {
        let size = MsixCapability::ENTRY_SIZE as usize;
        let answers = Function(device).decodes_memory();
        answers
            .then(|| Registers::map(at, size))
            .flatten()
            .map(Self)
    }

    fn program(&self, message: Message) {
        self.0.write32(0, message.address as u32);
        self.0.write32(4, (message.address >> 32) as u32);
        self.0.write32(8, message.data);
    }

    fn set_masked(&self, masked: bool) {
        let control = self.0.read32(12) & !1;
        self.0.write32(12, control | u32::from(masked));
    }
}
