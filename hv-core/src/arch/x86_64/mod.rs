//! The x86-64 CPU and the PC around it.

pub mod acpi;
pub mod apic;
pub mod clock;
pub mod cpus;
pub mod features;
pub mod ioapic;
pub mod irqchip;
mod paging;
pub mod pci;
pub mod physical;
pub mod port;
pub mod power;
pub mod smp;
pub mod tlb;
mod uart_port;

pub use apic::{start_timer, start_timer_at, stop_timer};
pub use clock::{read_reference, tsc};

pub use paging::{flush_local, has_1g_pages, init_paging, load_root};
pub use uart_port::UartPort;

use crate::addr::CpuId;

/// The CPU that asks.
#[must_use]
pub fn cpu_id() -> CpuId {
    CpuId(0)
}

/// A pause in a spin loop; answers TLB shoot-down requests meanwhile.
pub fn relax() {
    core::hint::spin_loop();
}

/// Runs `f` on this CPU's count of held locks by level.
pub fn with_held_locks<R>(f: impl FnOnce(&mut [u8; 16]) -> R) -> R {
    f(&mut [0; 16])
}
