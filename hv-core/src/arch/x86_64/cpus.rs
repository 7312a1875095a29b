//! Which processor is which: dense CPU numbers to APIC and ACPI ids.

use super::apic;
use crate::addr::{CpuId, CpuMask, MAX_CPUS};
use crate::arch::CpuIds;
use crate::arch::platform::Platform;
use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

const NONE: u32 = u32::MAX;
static APIC_IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(NONE) }; MAX_CPUS];
static ACPI_IDS: [AtomicU32; MAX_CPUS] = [const { AtomicU32::new(NONE) }; MAX_CPUS];
static COUNT: AtomicUsize = AtomicUsize::new(1);
static ONLINE: AtomicU64 = AtomicU64::new(1);

/// Numbers the processors: the one that runs is CPU 0, the others follow in the
/// firmware's order, up to `most` in all.
pub fn init(platform: &Platform, most: usize) {
    let me = apic::id();
    let mine = platform.processors.iter().filter(|p| p.apic_id == me);
    let others = platform
        .processors
        .iter()
        .filter(|p| p.enabled && p.apic_id != me);
    APIC_IDS[0].store(me, Ordering::Relaxed);
    ACPI_IDS[0].store(0, Ordering::Relaxed);
    let most = most.clamp(1, MAX_CPUS);
    for (n, p) in mine.take(1).enumerate() {
        ACPI_IDS[n].store(p.acpi_id, Ordering::Relaxed);
    }
    let mut count = 1;
    for p in others {
        if count == most {
            log::info!("more processors than the {most} to be used");
            break;
        }
        APIC_IDS[count].store(p.apic_id, Ordering::Relaxed);
        ACPI_IDS[count].store(p.acpi_id, Ordering::Relaxed);
        count += 1;
    }
    COUNT.store(count, Ordering::Release);
}

/// Number of CPUs found (some may have failed to start; see [`online`]).
#[must_use]
pub fn count() -> usize {
    COUNT.load(Ordering::Acquire)
}

/// CPUs that run.
#[must_use]
pub fn online() -> CpuMask {
    CpuMask(ONLINE.load(Ordering::Acquire))
}

/// Marks `cpu` as running.
pub(super) fn set_online(cpu: CpuId) {
    ONLINE.fetch_or(1 << cpu.0, Ordering::AcqRel);
}

/// APIC id of a CPU; `None` if there is no such CPU.
#[must_use]
#[inline]
pub fn apic_id(cpu: CpuId) -> Option<u32> {
    let id = APIC_IDS.get(usize::from(cpu.0))?.load(Ordering::Relaxed);
    (id != NONE).then_some(id)
}

/// ACPI processor id of a CPU; `None` if there is no such CPU.
#[must_use]
pub fn acpi_id(cpu: CpuId) -> Option<u32> {
    let id = ACPI_IDS.get(usize::from(cpu.0))?.load(Ordering::Relaxed);
    (id != NONE).then_some(id)
}

/// A CPU's numbers and state; `None` if there is no such CPU.
#[must_use]
pub fn ids(cpu: CpuId) -> Option<CpuIds> {
    Some(CpuIds {
        apic: apic_id(cpu)?,
        acpi: acpi_id(cpu)?,
        online: online().contains(cpu),
    })
}
