//! Measures for how long interrupts stay off: from each moment when they were possible (a guest ran,
//! the CPU slept, a preemption point) to the next.
//!
//! Only with the feature `bounds`, which no released hypervisor has. The unit is the TSC's: under
//! QEMU's `-icount shift=0` one executed instruction.

#[cfg(feature = "bounds")]
mod measured {
    use super::super::clock::tsc;
    use super::super::local::local;
    use core::sync::atomic::{AtomicU64, Ordering};

    /// The longest stretch of any CPU since this was taken last.
    static LONGEST: AtomicU64 = AtomicU64::new(0);

    /// Interrupts were possible until now.
    #[inline]
    pub fn begin() {
        local().stretch_began.set(tsc());
    }

    /// Interrupts are about to be possible.
    #[inline]
    pub fn end() {
        let took = tsc().wrapping_sub(local().stretch_began.get());
        LONGEST.fetch_max(took, Ordering::Relaxed);
    }

    /// The longest stretch since the last call.
    pub fn take_longest() -> u64 {
        LONGEST.swap(0, Ordering::Relaxed)
    }
}

#[cfg(not(feature = "bounds"))]
mod measured {
    /// Nothing is measured.
    #[inline]
    pub fn begin() {}

    /// Nothing is measured.
    #[inline]
    pub fn end() {}
}

pub use measured::*;
