//! Event channels of a machine that is none.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::super::{DomId, Evtchn, Port};
use super::Machine;

/// What a port of a domain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    /// Kept for a domain.
    Unbound(DomId),
    /// Bound to a port of a domain.
    Interdomain(DomId, Port),
    /// A virtual interrupt.
    Virq(u32),
}

/// All ports of all domains.
#[derive(Default)]
pub(super) struct Channels {
    ports: HashMap<(DomId, Port), Channel>,
    last: HashMap<DomId, u32>,
    /// Ports that kernels keep, not programs.
    kept: HashSet<(DomId, Port)>,
    /// Events of dom0 that its program has not read.
    pending: VecDeque<Port>,
    masked: HashSet<Port>,
    /// Events that came while a port was masked.
    held: HashSet<Port>,
    /// Events of guests.
    events: HashMap<(DomId, Port), usize>,
    /// Gets one byte for each pending event of dom0.
    bell: Option<UnixStream>,
}

impl Channels {
    fn open(&mut self, domain: DomId, channel: Channel) -> Port {
        let last = self.last.entry(domain).or_default();
        *last += 1;
        let port = Port(*last);
        self.ports.insert((domain, port), channel);
        port
    }

    /// A new port that waits for a domain.
    pub fn keep(&mut self, domain: DomId, other: DomId) -> Port {
        let port = self.open(domain, Channel::Unbound(other));
        self.kept.insert((domain, port));
        port
    }

    /// Ports of a domain.
    pub fn count(&self, domain: DomId) -> usize {
        self.ports.keys().filter(|(d, _)| *d == domain).count()
    }

    /// Closes all ports of a domain.
    pub fn close_all(&mut self, domain: DomId) {
        let ports: Vec<Port> = self
            .ports
            .keys()
            .filter_map(|&(d, p)| (d == domain).then_some(p))
            .collect();
        for port in ports {
            self.close(domain, port);
        }
    }

    /// Closes what dom0's program has bound; what its kernel keeps stays.
    pub fn close_held(&mut self) {
        let held: Vec<Port> = self
            .ports
            .iter()
            .filter(|(key, _)| key.0 == DomId::DOM0 && !self.kept.contains(key))
            .map(|(&(_, port), _)| port)
            .collect();
        for port in held {
            self.close(DomId::DOM0, port);
        }
        self.pending.clear();
    }

    fn close(&mut self, domain: DomId, port: Port) -> Option<()> {
        let channel = self.ports.remove(&(domain, port))?;
        if let Channel::Interdomain(other, far) = channel
            && let Some(peer) = self.ports.get_mut(&(other, far))
        {
            *peer = Channel::Unbound(domain);
        }
        if domain == DomId::DOM0 {
            self.masked.remove(&port);
            self.held.remove(&port);
        }
        Some(())
    }

    /// Sends through a port; nothing happens if nobody is at the other end.
    pub fn send(&mut self, domain: DomId, port: Port) {
        if let Some(&Channel::Interdomain(other, far)) = self.ports.get(&(domain, port)) {
            self.arrive(other, far);
        }
    }

    /// Raises a virtual interrupt of dom0.
    pub fn raise(&mut self, virq: u32) {
        let bound = self.ports.iter().find_map(|(&(domain, port), &channel)| {
            (domain == DomId::DOM0 && channel == Channel::Virq(virq)).then_some(port)
        });
        if let Some(port) = bound {
            self.arrive(DomId::DOM0, port);
        }
    }

    /// Events of a guest's port since last asked.
    pub fn take_events(&mut self, domain: DomId, port: Port) -> usize {
        self.events.remove(&(domain, port)).unwrap_or(0)
    }

    fn arrive(&mut self, domain: DomId, port: Port) {
        if domain != DomId::DOM0 {
            *self.events.entry((domain, port)).or_default() += 1;
        } else if self.masked.contains(&port) {
            self.held.insert(port);
        } else {
            self.masked.insert(port);
            self.pending.push_back(port);
            self.ring();
        }
    }

    fn ring(&mut self) {
        if let Some(bell) = &mut self.bell {
            bell.write_all(&[0]).expect("room for one byte an event");
        }
    }

    fn unmask(&mut self, port: Port) {
        self.masked.remove(&port);
        if self.held.remove(&port) {
            self.arrive(DomId::DOM0, port);
        }
    }
}

/// Dom0's event channels, as a program holds them. A machine has one such program.
#[derive(Debug)]
pub struct FakeEvtchn {
    machine: Machine,
    bell: UnixStream,
}

impl FakeEvtchn {
    pub(super) fn new(machine: Machine) -> Self {
        let (bell, ringer) = UnixStream::pair().expect("a pair of sockets");
        machine.state().channels.bell = Some(ringer);
        Self { machine, bell }
    }
}

impl Evtchn for FakeEvtchn {
    fn bind_virq(&self, virq: u32) -> io::Result<Port> {
        let channels = &mut self.machine.state().channels;
        let taken = channels
            .ports
            .iter()
            .any(|(key, &c)| key.0 == DomId::DOM0 && c == Channel::Virq(virq));
        if taken {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        Ok(channels.open(DomId::DOM0, Channel::Virq(virq)))
    }

    fn bind_interdomain(&self, domain: DomId, remote: Port) -> io::Result<Port> {
        let channels = &mut self.machine.state().channels;
        if channels.ports.get(&(domain, remote)) != Some(&Channel::Unbound(DomId::DOM0)) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let local = channels.open(DomId::DOM0, Channel::Interdomain(domain, remote));
        let bound = Channel::Interdomain(DomId::DOM0, local);
        channels.ports.insert((domain, remote), bound);
        channels.arrive(DomId::DOM0, local);
        Ok(local)
    }

    fn bind_unbound(&self, domain: DomId) -> io::Result<Port> {
        Ok(self.machine.keep_port(DomId::DOM0, domain))
    }

    fn unbind(&self, port: Port) -> io::Result<()> {
        let closed = self.machine.state().channels.close(DomId::DOM0, port);
        closed.ok_or_else(|| io::Error::from_raw_os_error(libc::ENOTCONN))
    }

    fn notify(&self, port: Port) -> io::Result<()> {
        let channels = &mut self.machine.state().channels;
        if !channels.ports.contains_key(&(DomId::DOM0, port)) {
            return Err(io::Error::from_raw_os_error(libc::ENOTCONN));
        }
        channels.send(DomId::DOM0, port);
        Ok(())
    }

    fn pending(&self) -> io::Result<Option<Port>> {
        let port = self.machine.state().channels.pending.pop_front();
        if port.is_some() {
            (&self.bell).read_exact(&mut [0])?;
        }
        Ok(port)
    }

    fn unmask(&self, port: Port) -> io::Result<()> {
        self.machine.state().channels.unmask(port);
        Ok(())
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUEST: DomId = DomId(7);

    #[test]
    fn events_go_both_ways_and_wait_for_unmask() {
        let machine = Machine::new();
        let evtchn = machine.evtchn();
        let far = machine.keep_port(GUEST, DomId::DOM0);
        let near = evtchn.bind_interdomain(GUEST, far).unwrap();
        assert_eq!(evtchn.pending().unwrap(), Some(near));
        machine.guest_notifies(GUEST, far);
        assert_eq!(evtchn.pending().unwrap(), None);
        evtchn.unmask(near).unwrap();
        assert_eq!(evtchn.pending().unwrap(), Some(near));
        evtchn.notify(near).unwrap();
        assert_eq!(machine.guest_events(GUEST, far), 1);
        evtchn.unbind(near).unwrap();
        assert!(evtchn.notify(near).is_err());
        // The guest's port waits for dom0 again.
        evtchn.bind_interdomain(GUEST, far).unwrap();
    }

    #[test]
    fn a_virtual_interrupt_has_one_owner() {
        let machine = Machine::new();
        let evtchn = machine.evtchn();
        let port = evtchn.bind_virq(3).unwrap();
        assert!(evtchn.bind_virq(3).is_err());
        machine.raise_virq(3);
        assert_eq!(evtchn.pending().unwrap(), Some(port));
    }
}
