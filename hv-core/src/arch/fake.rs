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

/// The time stamp counter: nanoseconds here.
#[must_use]
pub fn tsc() -> u64 {
    use std::time::Instant;
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_nanos() as u64
}

/// The counter the clocks were measured against.
#[must_use]
pub fn read_reference() -> u64 {
    tsc()
}

/// Stops this CPU's timer.
pub fn stop_timer() {}

/// Starts this CPU's timer, to fire after `_ticks`.
pub fn start_timer(_ticks: u32) {}

/// Starts this CPU's timer, to fire when the TSC passes `_tsc`.
pub fn start_timer_at(_tsc: u64) {}

/// Interrupt controllers: a test brings its own chip, so these do nothing.
pub mod irqchip {
    use crate::addr::CpuId;
    use crate::arch::interrupt::Source;

    /// Makes a source interrupt a CPU.
    #[must_use]
    pub fn route(_source: &Source, _vector: u8, _cpu: CpuId) -> bool {
        true
    }

    /// Masks or unmasks a source.
    pub fn set_masked(_source: &Source, _masked: bool) {}

    /// Turns a message off.
    pub fn release(_source: &Source) {}

    /// Ends the interrupt in service.
    pub fn end_of_interrupt() {}
}

/// Sets up paging: nothing to do.
pub fn init_paging() {}

/// Whether the CPU has pages of 1 GiB.
#[must_use]
pub fn has_1g_pages() -> bool {
    true
}

/// Loads a page-table root: tests have no use for one.
///
/// # Safety
/// None to keep.
#[allow(unsafe_code, reason = "the real CPU's function is unsafe")]
pub unsafe fn load_root(_root: crate::addr::Mfn) {}

/// Flushes this CPU's translation of one address: there is none.
pub fn flush_local(_va: u64) {}
