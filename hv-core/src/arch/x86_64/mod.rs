//! The x86-64 CPU and the PC around it.

mod uart_port;

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
