//! Opening, moving and closing ports.

use super::deliver::{Delivery, Receiver};
use super::port::{Binding, Channel, Port, Slot};
use super::{Admin, EventError, PortTable, Virq, fifo};
use crate::addr::{DomId, VcpuId};
use crate::arch::index;
use crate::fallible::Arc;
use crate::sync::Guard;
use core::sync::atomic::Ordering;

/// Something that has a port table, kept alive while it is looked at.
pub trait HasPorts {
    /// The table.
    fn ports(&self) -> &PortTable;
}

impl HasPorts for PortTable {
    fn ports(&self) -> &PortTable {
        self
    }
}

impl<T: HasPorts> HasPorts for Arc<T> {
    fn ports(&self) -> &PortTable {
        T::ports(self)
    }
}

impl<T: HasPorts> HasPorts for &T {
    fn ports(&self) -> &PortTable {
        T::ports(self)
    }
}

/// How far closing every port of a domain got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reset {
    /// All ports are closed.
    Done,
    /// Some are left: call again.
    More,
}

impl PortTable {
    /// Allocates a port that domain `remote` may connect to (`EVTCHNOP_alloc_unbound`).
    ///
    /// # Errors
    /// [`EventError::NoPort`], [`EventError::NoMemory`], [`EventError::Dying`].
    pub fn alloc_unbound(&self, remote: DomId) -> Result<Port, EventError> {
        self.open(
            &mut self.admin.lock(),
            Binding::Unbound { remote },
            VcpuId(0),
        )
    }

    /// Allocates a port for inter-vCPU interrupts to `vcpu` (`EVTCHNOP_bind_ipi`).
    ///
    /// # Errors
    /// [`EventError::BadVcpu`], or as [`PortTable::alloc_unbound`].
    pub fn bind_ipi(&self, vcpu: u32) -> Result<Port, EventError> {
        let vcpu = self.check_vcpu(vcpu)?;
        self.open(&mut self.admin.lock(), Binding::Ipi, vcpu)
    }

    /// Binds a virtual interrupt of `vcpu` to a new port (`EVTCHNOP_bind_virq`).
    ///
    /// # Errors
    /// [`EventError::BadVirq`], [`EventError::BadVcpu`], [`EventError::Bound`], or as
    /// [`PortTable::alloc_unbound`].
    pub fn bind_virq(&self, virq: u32, vcpu: u32) -> Result<Port, EventError> {
        let virq = Virq::from_guest(virq).ok_or(EventError::BadVirq)?;
        if virq.is_global() && vcpu != 0 {
            return Err(EventError::BadVirq);
        }
        let vcpu = self.check_vcpu(vcpu)?;
        let bound = &self.virqs[usize::from(vcpu.0)][virq.index()];
        let mut admin = self.admin.lock();
        if bound.load(Ordering::Relaxed) != 0 {
            return Err(EventError::Bound);
        }
        let port = self.open(&mut admin, Binding::Virq(virq.raw()), vcpu)?;
        bound.store(port.0, Ordering::Release);
        Ok(port)
    }

    /// Binds a physical interrupt to a new port (`EVTCHNOP_bind_pirq`). The caller has
    /// checked that the domain may have it. `connect` binds the host's line; it runs with
    /// the table's lock held (`Level::Event`), so nobody closes the port before it is done.
    ///
    /// # Errors
    /// [`EventError::BadPirq`], [`EventError::Bound`], as [`PortTable::alloc_unbound`], or
    /// what `connect` answers; then no port is open.
    pub fn bind_pirq<E: From<EventError>>(
        &self,
        pirq: u32,
        me: &impl Receiver,
        connect: impl FnOnce() -> Result<(), E>,
    ) -> Result<Port, E> {
        let bound = index::get(&self.pirqs, pirq as usize).ok_or(EventError::BadPirq)?;
        let mut admin = self.admin.lock();
        if bound.load(Ordering::Relaxed) != 0 {
            return Err(EventError::Bound.into());
        }
        let port = self.open(&mut admin, Binding::Pirq(pirq), VcpuId(0))?;
        // The line may fire as soon as it is connected.
        bound.store(port.0, Ordering::Release);
        if let Err(why) = connect() {
            self.free(&mut admin, port.0, self.slot(port.0)?, me);
            return Err(why);
        }
        Ok(port)
    }

    /// Connects a new port to `remote_port` of `peer`, which may be this very table
    /// (`EVTCHNOP_bind_interdomain`). The new port starts pending, as its peer may have
    /// sent before anyone listened.
    ///
    /// # Errors
    /// [`EventError::BadPort`], [`EventError::NotForCaller`], or as
    /// [`PortTable::alloc_unbound`].
    pub fn bind_interdomain(
        &self,
        peer: &Self,
        remote_port: u32,
        me: &impl Receiver,
    ) -> Result<(Port, Delivery), EventError> {
        let (mut admin, _peer_admin) = self.lock_with(peer);
        let remote = peer.slot(remote_port)?;
        let was = remote.channel();
        if was.binding != (Binding::Unbound { remote: self.owner }) {
            return Err(EventError::NotForCaller);
        }
        let binding = Binding::Interdomain {
            remote: peer.owner,
            port: Port(remote_port),
        };
        let port = self.open(&mut admin, binding, VcpuId(0))?;
        remote.set(Channel {
            binding: Binding::Interdomain {
                remote: self.owner,
                port,
            },
            ..was
        });
        let slot = self.slot(port.0)?;
        let delivery = self.raise(port.0, slot, slot.channel(), me);
        Ok((port, delivery))
    }

    /// Makes `port` notify `vcpu` (`EVTCHNOP_bind_vcpu`). Answers with the physical
    /// interrupt whose affinity should follow, if it is still the domain's.
    ///
    /// # Errors
    /// [`EventError::BadVcpu`], [`EventError::BadPort`], or [`EventError::FixedVcpu`]
    /// for inter-vCPU interrupts and per-vCPU virtual interrupts.
    pub fn bind_vcpu(&self, port: u32, vcpu: u32) -> Result<Option<u32>, EventError> {
        let vcpu = self.check_vcpu(vcpu)?;
        let _admin = self.admin.lock();
        let slot = self.slot(port)?;
        let channel = slot.channel();
        let pirq = match channel.binding {
            Binding::Closed => return Err(EventError::BadPort),
            Binding::Ipi => return Err(EventError::FixedVcpu),
            Binding::Virq(n) => {
                if !Virq::from_guest(n).is_some_and(Virq::is_global) {
                    return Err(EventError::FixedVcpu);
                }
                None
            }
            Binding::Pirq(n) => Some(n),
            Binding::Unbound { .. } | Binding::Interdomain { .. } => None,
        };
        slot.set(Channel { vcpu, ..channel });
        Ok(pirq)
    }

    /// Closes `port`; its peer waits for this domain again (`EVTCHNOP_close`).
    /// `find` gets the table of another domain and must not hold `Level::Event` locks.
    ///
    /// # Errors
    /// [`EventError::BadPort`]: closed, or no such port.
    pub fn close<H: HasPorts>(
        &self,
        port: u32,
        me: &impl Receiver,
        find: impl Fn(DomId) -> Option<H>,
    ) -> Result<(), EventError> {
        let slot = self.slot(port)?;
        // The peer's domain must be found before the locks are taken, and by then the
        // port may be something else: then start again. Each new start means that
        // another vCPU of this domain got a hypercall done.
        loop {
            let binding = slot.channel().binding;
            let far = match binding {
                Binding::Interdomain { remote, .. } if remote != self.owner => find(remote),
                _ => None,
            };
            let (mut admin, _peer_admin) = match &far {
                Some(peer) => self.lock_with(peer.ports()),
                None => (self.admin.lock(), None),
            };
            if slot.channel().binding != binding {
                continue;
            }
            if binding == Binding::Closed {
                return Err(EventError::BadPort);
            }
            if let Binding::Interdomain {
                remote,
                port: there,
            } = binding
            {
                let peer = match &far {
                    Some(peer) => Some(peer.ports()),
                    None => (remote == self.owner).then_some(self),
                };
                if let Some(peer) = peer {
                    peer.orphan(there, self.owner, Port(port));
                }
            }
            self.free(&mut admin, port, slot, me);
            return Ok(());
        }
    }

    /// Closes up to `budget` ports (`EVTCHNOP_reset`, and a domain's death).
    pub fn close_some<H: HasPorts>(
        &self,
        budget: usize,
        me: &impl Receiver,
        find: impl Fn(DomId) -> Option<H>,
    ) -> Reset {
        /// Closed ports passed over for the price of closing one.
        const PASSED: usize = 16;
        let mut left = budget * PASSED;
        // Where the step before came to: all ports below were closed then.
        let first = self.closed_below.load(Ordering::Relaxed).max(1);
        for port in first.. {
            let Ok(slot) = self.slot(port) else {
                break;
            };
            let is_open = slot.channel().binding != Binding::Closed;
            let price = if is_open { PASSED } else { 1 };
            if left < price {
                self.closed_below.store(port, Ordering::Relaxed);
                return Reset::More;
            }
            left -= price;
            if is_open {
                // If another CPU has just closed it, so much the better.
                let _ = self.close(port, me, &find);
            }
        }
        self.closed_below.store(1, Ordering::Relaxed);
        if first > 1 && self.open_ports() > 0 {
            // Opened behind the steps before, or those were of a reset that nobody went on with.
            return Reset::More;
        }
        Reset::Done
    }

    /// From now on no port can be opened: the domain is being destroyed.
    pub fn set_dying(&self) {
        self.admin.lock().dying = true;
    }

    /// Takes the locks of this table and, unless it is the same, of `peer`.
    fn lock_with<'a>(&'a self, peer: &'a Self) -> (Guard<'a, Admin>, Option<Guard<'a, Admin>>) {
        if core::ptr::eq(self, peer) {
            (self.admin.lock(), None)
        } else if self.owner < peer.owner {
            let mine = self.admin.lock();
            (mine, Some(peer.admin.lock_same_level()))
        } else {
            let theirs = peer.admin.lock();
            (self.admin.lock_same_level(), Some(theirs))
        }
    }

    /// Takes the lowest free port and binds it.
    fn open(&self, admin: &mut Admin, binding: Binding, vcpu: VcpuId) -> Result<Port, EventError> {
        if admin.dying {
            return Err(EventError::Dying);
        }
        let mut first_free = None;
        for port in admin.first_free..self.port_limit() {
            let slot = self.ports.ensure(port)?;
            if slot.channel().binding != Binding::Closed {
                continue;
            }
            // A closed port can still stand in a queue; opening it now would give its
            // first event the wrong vCPU or priority.
            if self.is_fifo() && self.word_has(port, fifo::LINKED) {
                first_free.get_or_insert(port);
                continue;
            }
            slot.set(Channel {
                binding,
                vcpu,
                priority: fifo::DEFAULT_PRIORITY,
            });
            admin.first_free = first_free.unwrap_or(port + 1);
            admin.open += 1;
            return Ok(Port(port));
        }
        admin.first_free = first_free
            .unwrap_or(self.port_limit())
            .max(admin.first_free);
        Err(EventError::NoPort)
    }

    /// Frees an open port.
    fn free(&self, admin: &mut Admin, port: u32, slot: &Slot, me: &impl Receiver) {
        let channel = slot.channel();
        match channel.binding {
            Binding::Virq(n) => {
                for row in &self.virqs {
                    if let Some(bound) = row.get(n as usize)
                        && bound.load(Ordering::Relaxed) == port
                    {
                        bound.store(0, Ordering::Release);
                    }
                }
            }
            Binding::Pirq(n) => {
                if let Some(bound) = self.pirqs.get(n as usize) {
                    bound.store(0, Ordering::Release);
                }
                me.silence(n);
            }
            Binding::Closed
            | Binding::Unbound { .. }
            | Binding::Interdomain { .. }
            | Binding::Ipi => {}
        }
        slot.set(Channel::CLOSED);
        // Whoever opens it next shall not find it pending.
        self.clear_pending(port, slot, me);
        admin.open -= 1;
        admin.first_free = admin.first_free.min(port);
    }

    /// The peer of `port` closes: it waits for the same domain again.
    fn orphan(&self, port: Port, domain: DomId, peer: Port) {
        let Ok(slot) = self.slot(port.0) else {
            return;
        };
        let channel = slot.channel();
        let expected = Binding::Interdomain {
            remote: domain,
            port: peer,
        };
        if channel.binding == expected {
            slot.set(Channel {
                binding: Binding::Unbound { remote: domain },
                ..channel
            });
        }
    }
}
