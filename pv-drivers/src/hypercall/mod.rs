//! The hypercalls that drivers need, typed, behind a trait: bookkeeping above it runs on the host
//! against a fake as well as on bare metal.
//!
//! What Rust must know of to stay sound is carried by types: a peer may be given a
//! [`SharedFrame`] only, which is memory that nobody holds a Rust reference to, and a peer's page
//! is mapped at a [`Slot`] only, which is an address where nothing else is.

#[cfg(test)]
pub mod fake;
mod memory;
#[cfg(target_os = "none")]
mod native;
mod types;

pub use memory::{RawPage, SharedFrame, Slot};
#[cfg(target_os = "none")]
pub use native::{Native, raw, version};
pub use types::{
    Access, CopySide, DomId, Errno, GrantError, GrantHandle, GrantRef, Port, PortStatus,
};

use crate::ring::Page;

/// Memory of this domain's own that can be shared with a peer.
pub trait Share: Page {
    /// Its machine frame.
    fn frame(&self) -> SharedFrame;
}

/// The hypervisor, as one vCPU of a domain reaches it.
///
/// All times are nanoseconds of the guest's own clock: on bare metal that of `runtime::clock`.
pub trait Hypervisor: Clone {
    /// Counts how often the guest was restored, each time into a new domain: ports, grants and
    /// mappings of an earlier one are no more, and their numbers may be others' by now.
    fn incarnation(&self) -> u32 {
        0
    }

    /// Makes a port that `remote` may bind.
    ///
    /// # Errors
    /// `ENOSPC`: no port is left; others: the hypervisor's.
    fn alloc_unbound(&self, remote: DomId) -> Result<Port, Errno>;

    /// Connects to an unbound port of `remote`; returns the port on this side.
    ///
    /// # Errors
    /// `EINVAL`: it is not for this domain; `ESRCH`: no such domain; others: the hypervisor's.
    fn bind_interdomain(&self, remote: DomId, port: Port) -> Result<Port, Errno>;

    /// Binds a virtual interrupt (`VIRQ_*`) of a vCPU.
    ///
    /// # Errors
    /// `EEXIST`: it is bound; `ENOENT`: no such vCPU; others: the hypervisor's.
    fn bind_virq(&self, virq: u32, vcpu: u32) -> Result<Port, Errno>;

    /// Makes a port by which this domain notifies one of its own vCPUs.
    ///
    /// # Errors
    /// `ENOENT`: no such vCPU; others: the hypervisor's.
    fn bind_ipi(&self, vcpu: u32) -> Result<Port, Errno>;

    /// Sends a port's upcalls to another vCPU.
    ///
    /// # Errors
    /// The hypervisor's.
    fn bind_vcpu(&self, port: Port, vcpu: u32) -> Result<(), Errno>;

    /// Closes a port.
    ///
    /// # Errors
    /// `EINVAL`: it is not open.
    fn close(&self, port: Port) -> Result<(), Errno>;

    /// Notifies the other end.
    ///
    /// # Errors
    /// `EINVAL`: it is not open. A peer that has gone is no error.
    fn send(&self, port: Port) -> Result<(), Errno>;

    /// What a port is connected to.
    ///
    /// # Errors
    /// `EINVAL`: no such port.
    fn status(&self, port: Port) -> Result<PortStatus, Errno>;

    /// Lets other vCPUs run.
    fn yield_now(&self);

    /// Sleeps until one of the ports is pending (at most 128), or until `deadline`. May return for
    /// no reason.
    ///
    /// # Errors
    /// `EINVAL`: a port is out of range, or too many.
    fn poll(&self, ports: &[Port], deadline: Option<u64>) -> Result<(), Errno>;

    /// Maps a peer's granted frame at a free address; returns its handle and the memory.
    ///
    /// The memory must be used no more when the handle has been given to
    /// [`unmap_grant`](Self::unmap_grant).
    ///
    /// # Errors
    /// What the hypervisor says of the grant.
    fn map_grant(
        &self,
        slot: &Slot,
        domain: DomId,
        reference: GrantRef,
        access: Access,
    ) -> Result<(GrantHandle, RawPage), GrantError>;

    /// Takes a mapping away again.
    ///
    /// # Errors
    /// What the hypervisor says of the handle.
    fn unmap_grant(&self, slot: &Slot, handle: GrantHandle) -> Result<(), GrantError>;

    /// Copies bytes between two frames, of which at least one is a peer's. Neither run of bytes
    /// may leave its frame.
    ///
    /// # Errors
    /// What the hypervisor says of the grants or of the ranges.
    fn copy_grant(&self, from: CopySide, to: CopySide, bytes: u16) -> Result<(), GrantError>;
}
