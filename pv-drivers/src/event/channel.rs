//! One end of an event channel.

use super::Bits;
use crate::hypercall::{DomId, Errno, Hypervisor, Port};

/// An open port: closed when dropped, unless it was adopted.
///
/// When the guest is restored its ports are gone: channels made before are dead from then on. They
/// notify nobody, take nothing, and waits for them end at once.
#[derive(Debug)]
pub struct Channel<H: Hypervisor> {
    hypervisor: H,
    bits: Bits,
    port: Port,
    /// Whether somebody else opened it, and may want it after this.
    adopted: bool,
    /// The guest's incarnation that it belongs to.
    incarnation: u32,
}

impl<H: Hypervisor> Channel<H> {
    fn opened(hypervisor: H, bits: Bits, port: Port) -> Self {
        bits.mask(port);
        let incarnation = hypervisor.incarnation();
        Self {
            hypervisor,
            bits,
            port,
            adopted: false,
            incarnation,
        }
    }

    /// A port that `remote` may bind.
    ///
    /// # Errors
    /// See [`Hypervisor::alloc_unbound`].
    pub fn offer(hypervisor: H, bits: Bits, remote: DomId) -> Result<Self, Errno> {
        let port = hypervisor.alloc_unbound(remote)?;
        Ok(Self::opened(hypervisor, bits, port))
    }

    /// Binds a port that `remote` offers.
    ///
    /// # Errors
    /// See [`Hypervisor::bind_interdomain`].
    pub fn bind(hypervisor: H, bits: Bits, remote: DomId, port: Port) -> Result<Self, Errno> {
        let port = hypervisor.bind_interdomain(remote, port)?;
        Ok(Self::opened(hypervisor, bits, port))
    }

    /// A virtual interrupt (`VIRQ_*`) of a vCPU.
    ///
    /// # Errors
    /// See [`Hypervisor::bind_virq`].
    pub fn virq(hypervisor: H, bits: Bits, virq: u32, vcpu: u32) -> Result<Self, Errno> {
        let port = hypervisor.bind_virq(virq, vcpu)?;
        Ok(Self::opened(hypervisor, bits, port))
    }

    /// A port that notifies a vCPU of this domain.
    ///
    /// # Errors
    /// See [`Hypervisor::bind_ipi`].
    pub fn ipi(hypervisor: H, bits: Bits, vcpu: u32) -> Result<Self, Errno> {
        let port = hypervisor.bind_ipi(vcpu)?;
        Ok(Self::opened(hypervisor, bits, port))
    }

    /// A port that the toolstack opened, as the console's. It stays open.
    #[must_use]
    pub fn adopt(hypervisor: H, bits: Bits, port: Port) -> Self {
        let mut channel = Self::opened(hypervisor, bits, port);
        channel.adopted = true;
        channel
    }

    /// Its number.
    #[must_use]
    pub const fn port(&self) -> Port {
        self.port
    }

    /// Whether the guest was restored since: the port is no more.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.hypervisor.incarnation() != self.incarnation
    }

    /// Notifies the other end. One that has gone is no error.
    pub fn notify(&self) {
        if self.is_dead() {
            return;
        }
        // The port is open, so the hypervisor can say nothing that matters here.
        let _ = self.hypervisor.send(self.port);
    }

    /// Takes the event that waits, if one does.
    #[must_use]
    pub fn take(&self) -> bool {
        !self.is_dead() && self.bits.take(self.port)
    }

    /// Sleeps until an event comes, and takes it; `false` if none has come when `deadline` (system
    /// time) is past by `now`, or none ever will.
    pub fn wait(&self, deadline: Option<u64>, now: impl Fn() -> u64) -> bool {
        loop {
            if self.take() {
                return true;
            }
            if self.is_dead() || deadline.is_some_and(|deadline| now() >= deadline) {
                return false;
            }
            if self.hypervisor.poll(&[self.port], deadline).is_err() {
                self.hypervisor.yield_now();
            }
        }
    }
}

impl<H: Hypervisor> Drop for Channel<H> {
    fn drop(&mut self) {
        if !self.adopted && !self.is_dead() {
            // An error would mean that it is closed. Closing clears the pending bit too, before
            // another vCPU can open the number: after this call an event would be the other's.
            let _ = self.hypervisor.close(self.port);
        }
    }
}
