//! Sending and delivering. No function here takes the lock of a table's bindings.

use super::port::{Binding, Channel, Port, Slot};
use super::{EventError, PortTable, Virq, fifo, two_level};
use crate::addr::{DomId, VcpuId};
use crate::mm::shared_page::{InfoWindow, SharedPage};
use core::sync::atomic::Ordering;

/// The words in which a domain sees its events, and the host's lines behind its ports.
pub trait Receiver {
    /// The `shared_info` page.
    fn shared_info(&self) -> SharedPage;
    /// The `vcpu_info` of a vCPU, if it has one.
    fn vcpu_info(&self, vcpu: VcpuId) -> Option<InfoWindow>;
    /// The port of physical interrupt `pirq` closes: silences the line, if it is this
    /// domain's. Called with the table's lock held (`Level::Event`), so that port and line
    /// are bound and freed together.
    fn silence(&self, pirq: u32);
}

/// What the caller of a delivery has to do, after it has released its locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a vCPU may sleep for ever if it is not told"]
pub struct Delivery {
    /// This vCPU has an upcall now that it did not have before: wake it, or make it
    /// leave the guest if it runs.
    pub kick: Option<VcpuId>,
    /// This port became pending: wake the vCPUs that poll it.
    pub raised: Option<Port>,
}

impl Delivery {
    /// Nothing to do.
    pub const NONE: Self = Self {
        kick: None,
        raised: None,
    };
}

/// Where an event that a guest sends goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Sent {
    /// Nowhere: nobody has connected yet.
    Dropped,
    /// To the sender's own domain; done.
    Local(Delivery),
    /// To another domain's port (or a loop-back port): call its [`PortTable::receive`].
    Remote {
        /// The receiving domain.
        domain: DomId,
        /// Its port.
        port: Port,
    },
}

impl PortTable {
    /// Sends an event through `port` (`EVTCHNOP_send`).
    ///
    /// # Errors
    /// [`EventError::BadPort`]: closed, or bound to an interrupt.
    #[inline]
    pub fn send(&self, port: u32, me: &impl Receiver) -> Result<Sent, EventError> {
        let slot = self.slot(port)?;
        let channel = slot.channel();
        match channel.binding {
            Binding::Ipi => Ok(Sent::Local(self.raise(port, slot, channel, me))),
            Binding::Interdomain { remote, port } => Ok(Sent::Remote {
                domain: remote,
                port,
            }),
            Binding::Unbound { .. } => Ok(Sent::Dropped),
            Binding::Closed | Binding::Pirq(_) | Binding::Virq(_) => Err(EventError::BadPort),
        }
    }

    /// Delivers to `port` what domain `from` sent through its peer `from_port`.
    /// Nothing happens if the two are no longer connected.
    #[inline]
    pub fn receive(&self, port: Port, from: DomId, from_port: u32, to: &impl Receiver) -> Delivery {
        let Ok(slot) = self.slot(port.0) else {
            return Delivery::NONE;
        };
        let channel = slot.channel();
        let peer = Binding::Interdomain {
            remote: from,
            port: Port(from_port),
        };
        if channel.binding == peer {
            self.raise(port.0, slot, channel, to)
        } else {
            Delivery::NONE
        }
    }

    /// Raises a virtual interrupt; a global one for vCPU 0, wherever its port points.
    #[inline]
    pub fn set_virq(&self, vcpu: VcpuId, virq: Virq, to: &impl Receiver) -> Delivery {
        match self.virq_port(vcpu, virq) {
            Some(port) => self.raise_bound(port, Binding::Virq(virq.raw()), to),
            None => Delivery::NONE,
        }
    }

    /// Raises a physical interrupt.
    #[inline]
    pub fn set_pirq(&self, pirq: u32, to: &impl Receiver) -> Delivery {
        match self.pirq_port(pirq) {
            Some(port) => self.raise_bound(port, Binding::Pirq(pirq), to),
            None => Delivery::NONE,
        }
    }

    /// Unmasks `port`; delivers it if it is pending (`EVTCHNOP_unmask`).
    ///
    /// # Errors
    /// [`EventError::BadPort`]: no such port.
    pub fn unmask(&self, port: u32, me: &impl Receiver) -> Result<Delivery, EventError> {
        let slot = self.slot(port)?;
        let channel = slot.channel();
        if channel.binding == Binding::Closed {
            return Ok(Delivery::NONE);
        }
        if !self.is_fifo() {
            return Ok(two_level::unmask(port, channel.vcpu, me));
        }
        let mut queues = self.fifo.lock();
        let Some(queues) = queues.as_mut() else {
            return Ok(Delivery::NONE);
        };
        let outcome = queues.unmask(port, channel, slot);
        Ok(fifo_delivery(port, channel.vcpu, outcome, me))
    }

    /// Whether `port` is pending, masked or not (for `SCHEDOP_poll`).
    ///
    /// # Errors
    /// [`EventError::BadPort`]: no such port.
    pub fn is_pending(&self, port: u32, me: &impl Receiver) -> Result<bool, EventError> {
        self.slot(port)?;
        Ok(if self.is_fifo() {
            self.word_has(port, fifo::PENDING)
        } else {
            two_level::is_pending(port, &me.shared_info())
        })
    }

    /// Whether `port` is masked.
    ///
    /// # Errors
    /// [`EventError::BadPort`]: no such port.
    pub fn is_masked(&self, port: u32, me: &impl Receiver) -> Result<bool, EventError> {
        self.slot(port)?;
        Ok(if self.is_fifo() {
            self.word_has(port, fifo::MASKED)
        } else {
            two_level::is_masked(port, &me.shared_info())
        })
    }

    /// Raises `port` if it still is what the interrupt's slot said.
    #[inline]
    fn raise_bound(&self, port: Port, binding: Binding, to: &impl Receiver) -> Delivery {
        let Ok(slot) = self.slot(port.0) else {
            return Delivery::NONE;
        };
        let channel = slot.channel();
        if channel.binding == binding {
            self.raise(port.0, slot, channel, to)
        } else {
            Delivery::NONE
        }
    }

    /// Sets a port pending under the interface the domain uses.
    #[inline]
    pub(super) fn raise(
        &self,
        port: u32,
        slot: &Slot,
        channel: Channel,
        to: &impl Receiver,
    ) -> Delivery {
        if self.is_fifo() {
            self.raise_fifo(port, slot, channel, to)
        } else {
            two_level::set_pending(port, channel.vcpu, to)
        }
    }

    fn raise_fifo(&self, port: u32, slot: &Slot, channel: Channel, to: &impl Receiver) -> Delivery {
        let outcome = match self.fifo.lock().as_mut() {
            Some(fifo) => fifo.set_pending(port, channel, slot),
            // Reset in the meantime: the event belonged to a port closed since.
            None => return Delivery::NONE,
        };
        fifo_delivery(port, channel.vcpu, outcome, to)
    }

    /// Forgets that a port was pending.
    pub(super) fn clear_pending(&self, port: u32, slot: &Slot, me: &impl Receiver) {
        if !self.is_fifo() {
            return two_level::clear_pending(port, &me.shared_info());
        }
        slot.queued.fetch_and(!fifo::EARLY, Ordering::Relaxed);
        if let Some(fifo) = self.fifo.lock().as_ref()
            && let Some(word) = fifo.word(port)
        {
            word.fetch_and(!fifo::PENDING, Ordering::SeqCst);
        }
    }

    /// Whether the event word of `port` exists and has `bit` set.
    pub(super) fn word_has(&self, port: u32, bit: u32) -> bool {
        self.fifo
            .lock()
            .as_ref()
            .and_then(|f| Some(f.word(port)?.load(Ordering::SeqCst) & bit != 0))
            .unwrap_or(false)
    }
}

fn fifo_delivery(port: u32, vcpu: VcpuId, outcome: fifo::Outcome, to: &impl Receiver) -> Delivery {
    let kick = outcome.ready
        && to
            .vcpu_info(vcpu)
            .is_some_and(|info| two_level::mark(&info));
    Delivery {
        kick: kick.then_some(vcpu),
        raised: outcome.raised.then_some(Port(port)),
    }
}
