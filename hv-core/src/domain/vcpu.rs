//! A virtual CPU: what the guest sees of "its" processor.
//!
//! [`VcpuState`] belongs to whoever holds its lock: the physical CPU that runs the
//! vCPU keeps the guard from schedule-in to schedule-out, so on the hot path it is
//! a plain `&mut`. Others may only `try_lock` it, which succeeds exactly while the
//! vCPU does not run.

use crate::addr::{GuestVa, Mfn};
use crate::arch::regs::GuestRegs;

/// A guest's exception handler, from the `set_trap_table` hypercall.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrapGate {
    /// Handler; 0 means none.
    pub address: u64,
    /// Code selector, RPL already raised to 3.
    pub cs: u16,
    /// Bits 0-1: lowest privilege allowed to raise it by `int n`; bit 2: mask events.
    pub flags: u8,
}

/// A callback registered by `callback_op`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Callback {
    /// Entry point; 0 means none.
    pub address: u64,
    /// Whether entering it masks events.
    pub mask_events: bool,
}

/// An exception to be delivered to the guest kernel at the next return to guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Vector, 0 to 31 (or any for `int n`).
    pub vector: u8,
    /// Error code, for vectors that push one.
    pub error_code: Option<u32>,
    /// Faulting address, for page faults.
    pub cr2: Option<u64>,
}

/// What a vCPU owns of the processor.
#[derive(Debug)]
pub struct VcpuState {
    /// General registers while the vCPU does not run.
    pub regs: GuestRegs,
    /// Guest kernel (true) or guest user: which root and which GS base are loaded.
    pub kernel_mode: bool,
    /// Kernel page-table root (a counted L4).
    pub kernel_root: Option<Mfn>,
    /// User page-table root (a counted L4).
    pub user_root: Option<Mfn>,
    /// Kernel stack pointer for entries from user mode.
    pub kernel_sp: u64,
    /// Exception handlers by vector.
    pub traps: [TrapGate; 256],
    /// Event upcall.
    pub event_callback: Callback,
    /// Raised when reloading a guest selector faults.
    pub failsafe_callback: Callback,
    /// 64-bit system call entry.
    pub syscall_callback: Callback,
    /// 32-bit `syscall` entry.
    pub syscall32_callback: Callback,
    /// `sysenter` entry.
    pub sysenter_callback: Callback,
    /// NMI entry.
    pub nmi_callback: Callback,
    /// Exception waiting for the return to the guest.
    pub pending: Option<Exception>,
    /// `ds es fs gs` while the vCPU does not run.
    pub selectors: [u16; 4],
    /// FS base while the vCPU does not run.
    pub fs_base: u64,
    /// GS base of the guest kernel while not loaded.
    pub gs_base_kernel: u64,
    /// GS base of guest user mode while not loaded.
    pub gs_base_user: u64,
    /// Virtual CR0.TS.
    pub task_switched: bool,
    /// Virtual CR2.
    pub cr2: u64,
    /// Guest-controlled CR4 bits (TSD, DE, FSGSBASE, OSXSAVE).
    pub cr4: u64,
    /// XCR0.
    pub xcr0: u64,
    /// Debug registers 0-3, 6, 7 at their own index.
    pub debug: [u64; 8],
    /// Virtual I/O privilege level (0-3).
    pub iopl: u8,
    /// TSC_AUX.
    pub tsc_aux: u32,
    /// Guest GDT frames (counted as segment-descriptor pages).
    pub gdt_frames: [Option<Mfn>; 14],
    /// Guest GDT entries.
    pub gdt_entries: u16,
    /// LDT base in guest kernel space.
    pub ldt_base: GuestVa,
    /// LDT entries (0: none).
    pub ldt_entries: u16,
}

/// A virtual CPU. (The parts others may touch; filled in as the rooms land.)
#[derive(Debug)]
pub struct Vcpu {
    /// The state its running CPU owns.
    pub state: crate::sync::Lock<VcpuState>,
}
