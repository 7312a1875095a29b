//! Host interrupt lines and who they are bound to.
//!
//! An *irq* is a number this room gives a line: the GSI itself for pins of an I/O
//! APIC, numbers from [`gsi_count`] up for messages. Dom0's PIRQ numbers are these
//! numbers. The room knows domains only as ids kept for the caller and knows no event
//! channels: the interrupt path asks [`on_vector`] whom to tell, and tells.
//!
//! Rules are in [`mod@table`], tested on the host; this file binds them to the machine.

mod message_tables;
pub mod table;

use crate::addr::{CpuId, DomId, MachAddr, Mfn, PAGE_SIZE};
pub use crate::arch::interrupt::Source;
use crate::arch::machine;
use crate::arch::msi::{MsixCapability, PciAddress};
use crate::arch::platform::{Platform, Signal};
use crate::arch::vectors::DeviceVector;
use crate::sync::Once;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use message_tables::{InUse, MessageTables};
pub use table::{Binding, Error, Fired, LineInfo};
use table::{Chip, Table};

/// The machine's interrupt controllers.
#[derive(Debug)]
struct MachineChip;

impl Chip for MachineChip {
    fn route(&self, source: &Source, vector: DeviceVector, cpu: CpuId) -> Result<(), Error> {
        if machine::irqchip::route(source, vector, cpu) {
            Ok(())
        } else {
            Err(Error::NoDevice)
        }
    }

    fn set_masked(&self, source: &Source, masked: bool) {
        machine::irqchip::set_masked(source, masked);
    }

    fn release(&self, source: &Source) {
        machine::irqchip::release(source);
    }

    fn end_of_interrupt(&self) {
        machine::irqchip::end_of_interrupt();
    }
}

static MESSAGE_TABLES: MessageTables = MessageTables::new();

/// Whether the command line forbids messages (`msi=no`).
static NO_MESSAGES: AtomicBool = AtomicBool::new(false);

static TABLE: Once<Table<MachineChip>> = Once::new();

fn table() -> &'static Table<MachineChip> {
    TABLE.get().expect("irq::init ran")
}

/// Sets the table up for `gsis` pins, as `platform` describes them.
pub fn init(platform: &Platform, gsis: u32) {
    TABLE.call_once(|| Table::new(MachineChip, gsis, |gsi| platform.default_signal(gsi)));
}

/// Whether domains may have messages; without, devices use pins.
pub fn allow_messages(allowed: bool) {
    NO_MESSAGES.store(!allowed, Ordering::Relaxed);
}

/// Whether domains may have messages.
#[must_use]
pub fn messages_allowed() -> bool {
    !NO_MESSAGES.load(Ordering::Relaxed)
}

/// Whether device frame `mfn` holds messages that only the hypervisor may change.
#[must_use]
pub fn holds_messages(mfn: Mfn) -> bool {
    MESSAGE_TABLES.contains(mfn)
}

/// Number of pins; the first irq that is a message.
#[must_use]
pub fn gsi_count() -> u32 {
    table().gsi_count()
}

/// One more than the highest irq there can be.
#[must_use]
pub fn irq_count() -> u32 {
    table().irq_count()
}

/// See [`Table::setup_gsi`].
///
/// # Errors
/// As there.
pub fn setup_gsi(gsi: u32, level: bool, active_low: bool) -> Result<(), Error> {
    table().setup_gsi(gsi, Signal { level, active_low })
}

/// See [`Table::reserve_gsi`].
///
/// # Errors
/// As there.
pub fn reserve_gsi(gsi: u32) -> Result<(), Error> {
    table().reserve_gsi(gsi)
}

/// See [`Table::alloc_msi`].
///
/// # Errors
/// As there.
pub fn alloc_msi(device: PciAddress, count: u32, cpu: CpuId) -> Result<u32, Error> {
    table().alloc_msi(device, count, cpu)
}

/// See [`Table::alloc_msix`]. The table is found here.
///
/// # Errors
/// As there; [`Error::NoDevice`] too for an entry that is not in the table.
pub fn alloc_msix(device: PciAddress, entry: u16, cpu: CpuId) -> Result<u32, Error> {
    let (start, bytes) = machine::irqchip::msix_table(device).ok_or(Error::NoDevice)?;
    let offset = u64::from(entry) * u64::from(MsixCapability::ENTRY_SIZE);
    let at = MachAddr::from_guest(start.raw() + offset).filter(|_| offset < bytes);
    let irq = table().alloc_msix(device, entry, at.ok_or(Error::NoDevice)?, cpu)?;
    MESSAGE_TABLES.entry_taken(device, frames_of(start, bytes));
    Ok(irq)
}

/// The frames of a table.
fn frames_of(start: MachAddr, bytes: u64) -> Range<u64> {
    start.frame().raw()..(start.raw() + bytes).div_ceil(PAGE_SIZE)
}

/// Keeps a function's MSI-X table from everybody's writes, before another domain is given the
/// function.
///
/// # Errors
/// [`Error::NoDevice`]: no such function, or without MSI-X. [`Error::Busy`]: in use.
pub fn prepare_msix(device: PciAddress) -> Result<(), Error> {
    let (start, bytes) = machine::irqchip::msix_table(device).ok_or(Error::NoDevice)?;
    let kept = MESSAGE_TABLES.prepare(device, frames_of(start, bytes));
    kept.map_err(|InUse| Error::Busy)
}

/// Ends what [`prepare_msix`] began.
///
/// # Errors
/// [`Error::NoDevice`]: no such function, or without MSI-X. [`Error::Busy`]: not prepared, or in
/// use.
pub fn release_msix(device: PciAddress) -> Result<(), Error> {
    machine::irqchip::msix_table(device).ok_or(Error::NoDevice)?;
    let released = MESSAGE_TABLES.release(device);
    released.map_err(|InUse| Error::Busy)
}

/// See [`Table::free`].
///
/// # Errors
/// As there.
pub fn free(irq: u32) -> Result<(), Error> {
    if let Source::Msix { device, .. } = table().free(irq)? {
        MESSAGE_TABLES.entry_given(device);
    }
    Ok(())
}

/// See [`Table::reprogram`].
pub fn reprogram_device(device: PciAddress) {
    table().reprogram(device);
}

/// See [`Table::bind`].
///
/// # Errors
/// As there.
pub fn bind(irq: u32, to: Binding, cpu: CpuId) -> Result<(), Error> {
    table().bind(irq, to, cpu)
}

/// See [`Table::unbind`].
pub fn unbind(irq: u32, domain: DomId) {
    table().unbind(irq, domain);
}

/// See [`Table::cut_off`].
pub fn cut_off(irq: u32) {
    table().cut_off(irq);
}

/// See [`Table::on_vector`]. The interrupt path calls it.
pub fn on_vector(vector: DeviceVector) -> Option<Fired> {
    table().on_vector(vector)
}

/// See [`Table::guest_eoi`].
///
/// # Errors
/// As there.
pub fn guest_eoi(irq: u32, domain: DomId) -> Result<(), Error> {
    table().guest_eoi(irq, domain)
}

/// See [`Table::set_affinity`].
pub fn set_affinity(irq: u32, domain: DomId, cpu: CpuId) {
    table().set_affinity(irq, domain, cpu);
}

/// See [`Table::info`].
#[must_use]
pub fn info(irq: u32) -> Option<LineInfo> {
    table().info(irq)
}
