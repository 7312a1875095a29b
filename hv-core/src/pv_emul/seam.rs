//! What emulation needs of the machine, in narrow traits.

use super::insn::Width;
use crate::addr::{GuestVa, Mfn};
use crate::arch::xcr0::Xcr0;

/// Host I/O ports. Values are zero-extended.
pub trait HostPorts {
    /// Reads `width` (at most 32 bits) at `port`.
    fn port_in(&self, port: u16, width: Width) -> u32;
    /// Writes the low bits of `value` to `port`.
    fn port_out(&self, port: u16, width: Width, value: u32);
}

/// A register in the configuration space of a PCI function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfigAddr {
    /// Bus in bits 8-15, device in 3-7, function in 0-2.
    pub bdf: u16,
    /// Byte offset, below 4096; need not be aligned.
    pub offset: u16,
}

/// PCI configuration space of segment 0, as the hardware domain may use it.
pub trait PciConfig {
    /// Reads `width` (at most 32 bits).
    fn config_read(&self, at: ConfigAddr, width: Width) -> u32;
    /// Writes the low bits of `value`.
    fn config_write(&self, at: ConfigAddr, width: Width, value: u32);
}

/// Host MSRs, for those whose host value shows through.
pub trait HostMsrs {
    /// Reads an MSR; `None` if this CPU does not have it.
    fn read_msr(&self, msr: u32) -> Option<u64>;
}

/// Results of CPUID.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the registers'")]
pub struct CpuidRegs {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// Host CPUID.
pub trait HostCpuid {
    /// Executes CPUID.
    fn cpuid(&self, leaf: u32, subleaf: u32) -> CpuidRegs;
}

/// A segment base that guests may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// FS.
    Fs,
    /// GS in use now.
    Gs,
    /// GS that `swapgs` would bring: the user's while the guest kernel runs.
    InactiveGs,
}

/// Registers of the CPU that runs the vCPU. [`super::CpuView`] holds what the guest
/// sees; these make the hardware follow.
pub trait Processor {
    /// Reads a base.
    fn base(&self, which: Base) -> u64;
    /// Loads a base, which is canonical.
    fn set_base(&mut self, which: Base, value: u64);
    /// Makes hardware follow virtual CR0.TS.
    fn load_task_switched(&mut self, ts: bool);
    /// Makes hardware follow the guest's CR4 bits (see [`super::control`]).
    fn load_cr4(&mut self, guest_bits: u64);
    /// Loads XCR0.
    fn load_xcr0(&mut self, xcr0: Xcr0);
    /// Loads a debug register (0-3, 6 or 7), whose value has been validated.
    fn load_debug(&mut self, register: u8, value: u64);
    /// Has the guest run with this `SPEC_CTRL`, whose bits the guest may set.
    fn load_spec_ctrl(&mut self, value: u64);
    /// Writes `PRED_CMD`; the guest may write these bits.
    fn command_prediction(&mut self, value: u64);
    /// Loads TSC_AUX.
    fn load_tsc_aux(&mut self, value: u32);
    /// Reads the TSC.
    fn tsc(&self) -> u64;
    /// Writes back and drops all caches.
    fn wbinvd(&self);
}

/// Guest memory at guest-virtual addresses.
pub trait GuestBytes {
    /// Copies from the guest kernel's address space, whichever runs; on error the
    /// address that faulted.
    ///
    /// # Errors
    /// If part of the range is not the guest's or not readable.
    fn read_kernel(&self, from: GuestVa, to: &mut [u8]) -> Result<(), GuestVa>;
    /// Copies from the current address space; on error the address that faulted.
    ///
    /// # Errors
    /// If part of the range is not the guest's or not readable.
    fn read_guest(&self, from: GuestVa, to: &mut [u8]) -> Result<(), GuestVa>;
    /// Copies to the current address space; on error the address that faulted.
    ///
    /// # Errors
    /// If part of the range is not the guest's or not writable.
    fn write_guest(&self, to: GuestVa, from: &[u8]) -> Result<(), GuestVa>;
}

/// Frame was refused (not the caller's, or used as something else).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFrame;

/// Effects on guest memory management.
pub trait GuestFrames {
    /// Fills a frame with hypercall stubs.
    ///
    /// # Errors
    /// If the frame is not the caller's to write.
    fn fill_hypercall_page(&mut self, frame: Mfn) -> Result<(), BadFrame>;
}

/// Everything [`super::execute()`] may reach.
pub trait Machine:
    HostPorts + PciConfig + HostMsrs + HostCpuid + Processor + GuestBytes + GuestFrames
{
}

impl<T> Machine for T where
    T: HostPorts + PciConfig + HostMsrs + HostCpuid + Processor + GuestBytes + GuestFrames
{
}
