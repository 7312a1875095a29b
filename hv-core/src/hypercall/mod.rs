//! Hypercalls: parse, check, commit. One file per hypercall; [`table`] is the
//! dispatch table and the coverage document.

mod audit;
pub mod callback_op;
pub mod console_io;
pub mod cpu_policy;
mod crash;
pub mod debugreg;
pub mod descriptors;
pub mod domctl;
pub mod error;
pub mod event_channel_op;
pub mod fpu_taskswitch;
pub mod grant_table_op;
pub mod iret;
pub mod mca;
#[cfg(test)]
mod memory_faults;
pub mod memory_op;
mod mmu;
pub mod mmu_update;
pub mod mmuext_op;
pub mod multicall;
pub mod physdev_op;
pub mod platform_op;
mod request;
pub mod sched_op;
pub mod set_gdt;
pub mod set_segment_base;
pub mod set_trap_table;
pub mod stack_switch;
#[cfg(all(feature = "bounds", target_os = "none"))]
pub mod stretch;
pub mod sysctl;
pub mod table;
pub mod timer;
pub mod update_va_mapping;
pub mod vcpu_op;
pub mod vm_assist;
pub mod xen_version;
pub mod xenpmu_op;

pub use crash::crash_domain;
pub use error::Error;

use crate::arch::index;
use crate::arch::regs::GuestRegs;
use crate::domain::{Domain, Vcpu, VcpuState};
use crate::fallible::Arc;
use crate::mm::HostGuestSpace;
use xen_abi::xen::HYPERVISOR_IRET;

/// What a hypercall that did not fail tells its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Finished, with this value for `rax`.
    Done(u64),
    /// Stopped to let events in: the guest re-executes the call with these
    /// arguments. They come back through the guest, so they are checked again. What the call does not
    /// take is what it was: the guest's compiler keeps other things in those registers.
    Continue([u64; 6]),
}

impl Reply {
    /// Goes on with the first `N` of `args` replaced by `first`.
    #[must_use]
    pub const fn go_on<const N: usize>(mut args: [u64; 6], first: [u64; N]) -> Self {
        let mut n = 0;
        while n < N {
            args[n] = first[n];
            n += 1;
        }
        Self::Continue(args)
    }
}

/// Result of a hypercall handler.
pub type HypercallResult = Result<Reply, Error>;

/// Who calls, and what the handler may change of the caller.
#[derive(Debug)]
pub struct Call<'a> {
    /// The calling domain.
    pub domain: &'a Arc<Domain>,
    /// The calling vCPU.
    pub vcpu: &'a Arc<Vcpu>,
    /// Its state, which this CPU owns while the vCPU runs.
    pub state: &'a mut VcpuState,
    /// Its registers.
    pub regs: &'a mut GuestRegs,
}

impl Call<'_> {
    /// The address space hypercall arguments point into: the guest kernel's.
    ///
    /// # Panics
    /// If the vCPU has no kernel root; then it could not have called.
    #[inline]
    #[must_use]
    pub fn guest(&self) -> HostGuestSpace {
        crate::mm::guest_space(self.state.kernel_root.expect("a running kernel has a root"))
    }
}

/// A hypercall's handler: the arguments are `rdi rsi rdx r10 r8 r9`.
pub type Handler = fn(&mut Call<'_>, [u64; 6]) -> HypercallResult;

/// Whether hypercall `number` may change what entry code knows of its vCPU: stack
/// pointer, roots, callbacks, the place of `vcpu_info`, the NMI state, what frames show.
#[inline]
#[must_use]
pub const fn changes_entry(number: u64) -> bool {
    use xen_abi::xen as abi;
    const CHANGES: u64 = 1 << abi::HYPERVISOR_STACK_SWITCH
        | 1 << abi::HYPERVISOR_SET_CALLBACKS
        | 1 << abi::HYPERVISOR_MULTICALL
        | 1 << abi::HYPERVISOR_IRET
        | 1 << abi::HYPERVISOR_VCPU_OP
        | 1 << abi::HYPERVISOR_MMUEXT_OP
        | 1 << abi::HYPERVISOR_NMI_OP
        | 1 << abi::HYPERVISOR_VM_ASSIST
        | 1 << abi::HYPERVISOR_CALLBACK_OP;
    CHANGES >> (number & 63) & 1 != 0
}

/// Runs the hypercall that the registers ask for and leaves its result in them.
#[inline]
pub fn dispatch(call: &mut Call<'_>) {
    let number = call.regs.rax;
    if number == HYPERVISOR_IRET {
        return_from_trap(call);
        return;
    }
    let r = &call.regs;
    let args = [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9];
    match invoke(call, number, args) {
        Ok(Reply::Done(value)) => call.regs.rax = value,
        Ok(Reply::Continue([rdi, rsi, rdx, r10, r8, r9])) => {
            let r = &mut *call.regs;
            (r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9) = (rdi, rsi, rdx, r10, r8, r9);
            // Back onto the `syscall` instruction.
            r.rip = r.rip.wrapping_sub(2);
        }
        Err(error) => {
            // The registers still say what was asked for.
            let r = &call.regs;
            let args = [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9];
            call.regs.rax = refused(call, number, args, error);
        }
    }
}

/// What a guest is told of a call that failed. A denial goes on record.
#[cold]
fn refused(call: &Call<'_>, number: u64, args: [u64; 6], error: Error) -> u64 {
    if error == Error::NotPermitted {
        audit::denied(call, number, args);
    }
    error.as_rax()
}

/// Runs hypercall `number` and returns its result (a single one, or an entry of a
/// multicall).
#[inline]
fn invoke(call: &mut Call<'_>, number: u64, args: [u64; 6]) -> HypercallResult {
    call.vcpu.usage.hypercalls.add(1);
    match index::get(&table::HANDLERS, number as usize) {
        Some(Some(entry)) => (entry.handler)(call, args),
        _ => {
            table::note_absent(call, number);
            Err(Error::NotImplemented)
        }
    }
}

/// `iret`; a kernel without a usable frame has lost its way, and its domain ends.
fn return_from_trap(call: &mut Call<'_>) {
    if let Err(why) = iret::iret(call) {
        crash_domain(call, format_args!("iret: {why:?}"));
    }
}
