//! Event channels as a state machine over ids.
//!
//! A [`PortTable`] belongs to one domain and holds its ports and the bindings of
//! its virtual, physical and inter-vCPU interrupts. The table does not know
//! domains or vCPUs: whoever calls passes in the words the guest sees
//! ([`Receiver`]) and, where two domains meet, the other table. A call that may
//! notify answers with a [`Delivery`]; kicking vCPUs and waking pollers is up to
//! the caller.
//!
//! Invariants: a bound virtual or physical interrupt names a port whose record
//! names it back; an interdomain port and its peer name each other, except that
//! the peer may be gone for good; a closed port's record is all zero.
//!
//! Locks: a table's bindings change under `Level::Event` (two tables: lower
//! domain first, done here). Sending and delivering take no such lock: a port's
//! whole record is one atomic word, so a sender sees the binding of before or of
//! after a change, and at worst raises a spurious event, which the interface
//! allows. The queues of the FIFO interface have a short lock of their own
//! (`Level::EventQueue`), which delivery takes and which may nest within any
//! lock an interrupt handler holds.

mod bind;
mod deliver;
mod fifo;
mod port;
#[cfg(test)]
mod tests;
mod two_level;
pub mod vcpu_info;
mod virq;

pub use bind::{HasPorts, Reset};
pub use deliver::{Delivery, Receiver, Sent};
pub use fifo::{Control, Fifo, FifoFrame, LINK_BITS};
pub use port::{Binding, Channel, Port};
pub use virq::Virq;

use crate::addr::{DomId, VcpuId};
use crate::arch::index;
use crate::fallible;
use crate::sync::{Level, Lock};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Why an operation on event channels failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventError {
    /// The port does not exist, or its state does not allow this.
    BadPort,
    /// No such vCPU in this domain.
    BadVcpu,
    /// No such virtual interrupt, or a global one on a vCPU other than 0.
    BadVirq,
    /// No such physical interrupt in this domain.
    BadPirq,
    /// The interrupt is bound already.
    Bound,
    /// The remote port does not wait for this domain.
    NotForCaller,
    /// The port's vCPU is fixed.
    FixedVcpu,
    /// Every port is in use.
    NoPort,
    /// Out of memory.
    NoMemory,
    /// The domain is being destroyed.
    Dying,
    /// The domain uses the 2-level interface, which has no event array.
    NotFifo,
    /// The domain uses the 2-level interface, which has no priorities.
    NoPriorities,
    /// Priority above the lowest one (15).
    BadPriority,
    /// The control block is unaligned, leaves its page, or is there already.
    BadControl,
    /// The event array has all its pages.
    ArrayFull,
}

/// A domain's event channels.
#[derive(Debug)]
pub struct PortTable {
    owner: DomId,
    /// Highest port number the domain may have.
    max_port: u32,
    ports: port::Directory,
    /// Port of each virtual interrupt (0: none), by vCPU.
    virqs: Box<[[AtomicU32; Virq::COUNT]]>,
    /// Port of each physical interrupt (0: none).
    pirqs: Box<[AtomicU32]>,
    admin: Lock<Admin>,
    /// Where closing all ports goes on ([`Self::close_some`]).
    closed_below: AtomicU32,
    /// Whether `fifo` holds something; changes under both locks.
    fifo_on: AtomicBool,
    fifo: Lock<Option<Fifo>>,
}

/// What only changes of bindings look at.
#[derive(Debug)]
struct Admin {
    /// No port below this one is free.
    first_free: u32,
    /// Ports that are not closed.
    open: u32,
    /// No more ports are given out.
    dying: bool,
}

impl PortTable {
    /// A table without ports, for a domain of `vcpus` vCPUs and `pirqs` physical
    /// interrupts that may use ports 1 to `max_port`.
    ///
    /// # Errors
    /// [`EventError::NoMemory`].
    pub fn new(
        owner: DomId,
        vcpus: usize,
        pirqs: usize,
        max_port: u32,
    ) -> Result<Self, EventError> {
        let table = Self {
            owner,
            max_port,
            ports: port::Directory::new(),
            virqs: boxed(vcpus, |_| [const { AtomicU32::new(0) }; Virq::COUNT])?,
            pirqs: boxed(pirqs, |_| AtomicU32::new(0))?,
            admin: Lock::new(
                Level::Event,
                Admin {
                    first_free: 1,
                    open: 0,
                    dying: false,
                },
            ),
            closed_below: AtomicU32::new(1),
            fifo_on: AtomicBool::new(false),
            fifo: Lock::new(Level::EventQueue, None),
        };
        table.ports.ensure(0)?;
        Ok(table)
    }

    /// The domain this table belongs to.
    #[must_use]
    pub fn owner(&self) -> DomId {
        self.owner
    }

    /// Number of ports in use.
    #[must_use]
    pub fn open_ports(&self) -> u32 {
        self.admin.lock().open
    }

    /// First number that cannot be a port under the interface in use.
    #[must_use]
    pub fn port_limit(&self) -> u32 {
        let abi = if self.is_fifo() {
            fifo::PORTS
        } else {
            two_level::PORTS
        };
        abi.min(self.max_port.saturating_add(1))
    }

    /// Whether the domain switched to the FIFO interface.
    #[must_use]
    #[inline]
    pub fn is_fifo(&self) -> bool {
        self.fifo_on.load(Ordering::Acquire)
    }

    /// State of `port` (`EVTCHNOP_status`).
    ///
    /// # Errors
    /// [`EventError::BadPort`] if the port was never allocated nor any near it.
    pub fn status(&self, port: u32) -> Result<Channel, EventError> {
        Ok(self.slot(port)?.channel())
    }

    /// First number that is no physical interrupt of this domain.
    #[must_use]
    pub fn pirq_limit(&self) -> u32 {
        self.pirqs.len() as u32
    }

    /// Port bound to a physical interrupt.
    #[must_use]
    pub fn pirq_port(&self, pirq: u32) -> Option<Port> {
        Port::bound(index::get(&self.pirqs, pirq as usize)?.load(Ordering::Acquire))
    }

    /// Port bound to a virtual interrupt of `vcpu`.
    #[must_use]
    pub fn virq_port(&self, vcpu: VcpuId, virq: Virq) -> Option<Port> {
        let row = index::get(&self.virqs, usize::from(vcpu.0))?;
        Port::bound(row[virq.index()].load(Ordering::Acquire))
    }

    #[inline]
    fn slot(&self, port: u32) -> Result<&port::Slot, EventError> {
        self.ports.slot(port).ok_or(EventError::BadPort)
    }

    /// Accepts a vCPU number a guest wrote.
    fn check_vcpu(&self, vcpu: u32) -> Result<VcpuId, EventError> {
        if (vcpu as usize) < self.virqs.len() {
            Ok(VcpuId(vcpu as u16))
        } else {
            Err(EventError::BadVcpu)
        }
    }
}

/// `n` values made by `f`, unless memory runs out.
fn boxed<T>(n: usize, f: impl FnMut(usize) -> T) -> Result<Box<[T]>, EventError> {
    fallible::boxed_slice(n, f).map_err(|_| EventError::NoMemory)
}
