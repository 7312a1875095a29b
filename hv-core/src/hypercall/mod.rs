//! Hypercalls: parse, check, commit. One file per hypercall.

pub mod error;

pub use error::Error;

use crate::arch::regs::GuestRegs;
use crate::domain::{Domain, Vcpu, VcpuState};
use alloc::sync::Arc;

/// What a hypercall that did not fail tells its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Finished, with this value for `rax`.
    Done(u64),
    /// Stopped to let events in: the guest re-executes the call with these
    /// arguments. They come back through the guest, so they are checked again.
    Continue([u64; 6]),
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

/// A hypercall's handler: the arguments are `rdi rsi rdx r10 r8 r9`.
pub type Handler = fn(&mut Call<'_>, [u64; 6]) -> HypercallResult;
