//! Which processor is which: dense CPU numbers to APIC and ACPI ids.

use super::apic;
use crate::addr::{AtomicCpuMask, CpuId, CpuMask, MAX_CPUS};
use crate::arch::CpuIds;
use crate::arch::platform::{Platform, device_target};
use crate::sync::Once;
use alloc::boxed::Box;
use core::sync::atomic::Ordering;

/// The numbers of all CPUs, by CPU.
struct Numbers {
    apic: Box<[u32]>,
    acpi: Box<[u32]>,
}

static NUMBERS: Once<Numbers> = Once::new();
static ONLINE: AtomicCpuMask = AtomicCpuMask::new(CpuMask::only(CpuId(0)));

/// Numbers the processors: the one that runs is CPU 0, the others follow in the
/// firmware's order, up to `most` in all. The local APIC has been set up.
#[allow(clippy::disallowed_methods, reason = "at boot only")]
pub fn init(platform: &Platform, most: usize) {
    let most = most.clamp(1, MAX_CPUS);
    let chosen = platform.choose_processors(apic::id(), most, apic::names_wide_ids());
    if chosen.too_many > 0 {
        log::warn!(
            "{} processors are not used: maxcpus= allows {most}, and this build {MAX_CPUS}",
            chosen.too_many
        );
    }
    if chosen.too_wide > 0 {
        log::warn!(
            "{} processors are not used: their APIC ids need x2APIC mode",
            chosen.too_wide
        );
    }
    NUMBERS.call_once(|| Numbers {
        apic: chosen.processors.iter().map(|p| p.apic_id).collect(),
        acpi: chosen.processors.iter().map(|p| p.acpi_id).collect(),
    });
}

/// Number of CPUs found (some may have failed to start; see [`online`]).
#[must_use]
pub fn count() -> usize {
    NUMBERS.get().map_or(1, |n| n.apic.len())
}

/// CPUs that run.
#[must_use]
pub fn online() -> CpuMask {
    ONLINE.load(Ordering::Acquire)
}

/// Whether `cpu` runs.
#[must_use]
pub fn is_online(cpu: CpuId) -> bool {
    ONLINE.contains(cpu, Ordering::Acquire)
}

/// Marks `cpu` as running.
pub(super) fn set_online(cpu: CpuId) {
    ONLINE.set(cpu, Ordering::AcqRel);
}

/// APIC id of a CPU; `None` if there is no such CPU.
#[must_use]
#[inline]
pub fn apic_id(cpu: CpuId) -> Option<u32> {
    NUMBERS.get()?.apic.get(usize::from(cpu.0)).copied()
}

/// ACPI processor id of a CPU; `None` if there is no such CPU.
#[must_use]
pub fn acpi_id(cpu: CpuId) -> Option<u32> {
    NUMBERS.get()?.acpi.get(usize::from(cpu.0)).copied()
}

/// APIC id of the CPU that a device's interrupts meant for `cpu` go to: without interrupt
/// remapping a device can name 8-bit ids only. `None`: it can name no CPU that runs.
#[must_use]
pub fn apic_id_for_devices(cpu: CpuId) -> Option<u32> {
    let ids = &NUMBERS.get()?.apic;
    let target = device_target(usize::from(cpu.0), ids, |n| is_online(CpuId(n as u16)))?;
    ids.get(target).copied()
}

/// A CPU's numbers and state; `None` if there is no such CPU.
#[must_use]
pub fn ids(cpu: CpuId) -> Option<CpuIds> {
    Some(CpuIds {
        apic: apic_id(cpu)?,
        acpi: acpi_id(cpu)?,
        online: is_online(cpu),
    })
}
