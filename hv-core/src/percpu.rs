//! Per-CPU values: one slot a CPU, each on its own cache line.
//!
//! Slots are shared references, so they hold atomics, [`crate::sync::Lock`]s, or
//! types that guard themselves. What only its own CPU may touch lives in
//! `arch::machine`'s CPU-local block.

use crate::addr::{CpuId, MAX_CPUS};

#[derive(Debug)]
#[repr(align(64))]
struct Line<T>(T);

/// One `T` for each possible CPU.
#[derive(Debug)]
pub struct PerCpu<T>([Line<T>; MAX_CPUS]);

impl<T> PerCpu<T> {
    /// Builds each slot from its CPU's number.
    pub fn from_fn(mut f: impl FnMut(CpuId) -> T) -> Self {
        Self(core::array::from_fn(|n| Line(f(CpuId(n as u16)))))
    }

    /// The slot of `cpu`.
    ///
    /// # Panics
    /// If `cpu` is not below [`MAX_CPUS`] (no such `CpuId` is ever made).
    #[inline]
    pub fn of(&self, cpu: CpuId) -> &T {
        &self.0[cpu.0 as usize].0
    }

    /// The slot of the CPU that asks.
    #[inline]
    pub fn here(&self) -> &T {
        self.of(crate::arch::machine::cpu_id())
    }
}
