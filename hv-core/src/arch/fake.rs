//! Host stand-in for the CPU: what the upper rooms need in order to be compiled
//! and tested under `cargo test`.

use crate::addr::CpuId;

/// The CPU that asks: a test has one.
#[must_use]
pub fn cpu_id() -> CpuId {
    CpuId(0)
}

/// A pause in a spin loop.
pub fn relax() {
    core::hint::spin_loop();
}

std::thread_local! {
    static HELD: core::cell::RefCell<[u8; 16]> = const { core::cell::RefCell::new([0; 16]) };
}

/// Runs `f` on this CPU's count of held locks by level.
pub fn with_held_locks<R>(f: impl FnOnce(&mut [u8; 16]) -> R) -> R {
    HELD.with(|h| f(&mut h.borrow_mut()))
}

/// The registers of a UART that is not there.
#[derive(Debug)]
pub struct UartPort;

impl UartPort {
    /// The UART at I/O port `base`.
    #[must_use]
    pub fn at(_base: u16) -> Option<Self> {
        Some(Self)
    }
}

impl super::ByteRegs for UartPort {
    fn read(&self, _reg: u16) -> u8 {
        0xff
    }
    fn write(&self, _reg: u16, _value: u8) {}
}
