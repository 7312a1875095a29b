//! One round after the other.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::super::core::ConnectionId;
use super::super::journal::{Journal, Record, RingState};
use super::Worker;
use super::ring::Bad;
use super::start::boot_id;
use crate::sys::DomId;

/// Messages of one connection in one round.
const MESSAGES: usize = 16;

/// What a round begins with.
#[derive(Default)]
struct Ready {
    stop: bool,
    events: bool,
    listeners: Vec<usize>,
    clients: Vec<ConnectionId>,
}

impl Worker {
    /// Serves until it is to stop.
    pub fn run(&mut self) {
        loop {
            let ready = self.wait();
            if ready.stop {
                return;
            }
            for listener in ready.listeners {
                self.sockets.accept(listener, &mut self.store);
            }
            for id in ready.clients {
                if let Some(client) = self.sockets.clients.get_mut(&id) {
                    client.readable = true;
                }
            }
            if ready.events {
                self.events();
            }
            self.round();
        }
    }

    /// Answers what waits, keeps it, and lets everybody know.
    pub fn round(&mut self) {
        self.serve_sockets();
        self.serve_rings();
        self.keep();
        // Rings first: a domain may ask as soon as its tools hear that it was introduced.
        self.flush_rings();
        self.sockets.flush(&mut self.store);
        // What rings that failed leave behind.
        self.keep();
        if self.journal.as_ref().is_none_or(Journal::is_long) {
            self.renew();
        }
    }

    fn wait(&self) -> Ready {
        let mut ready = Ready::default();
        let mut fds = vec![PollFd::new(&*self.stop, PollFlags::IN)];
        let events = self
            .rings
            .devices
            .as_ref()
            .map(|devices| devices.evtchn.fd());
        if let Some(fd) = &events {
            fds.push(PollFd::new(fd, PollFlags::IN));
        }
        let first_listener = fds.len();
        let listeners = if self.sockets.has_room() {
            &self.sockets.listeners[..]
        } else {
            &[]
        };
        fds.extend(listeners.iter().map(|(l, _)| PollFd::new(l, PollFlags::IN)));
        let first_client = fds.len();
        for (&id, client) in &self.sockets.clients {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, self.store.may_ask(id));
            flags.set(PollFlags::OUT, self.store.output(id).is_some());
            fds.push(PollFd::from_borrowed_fd(client.stream.as_fd(), flags));
        }
        let now = Timespec::default();
        let limit = self.has_work().then_some(&now);
        match poll(&mut fds, limit) {
            Ok(_) => {}
            Err(Errno::INTR) => return ready,
            Err(e) => {
                tracing::error!("xenstore stops: poll: {e}");
                ready.stop = true;
                return ready;
            }
        }
        let came = |fd: &PollFd<'_>| !fd.revents().is_empty();
        ready.stop = came(&fds[0]);
        ready.events = events.is_some() && came(&fds[1]);
        let listening = fds[first_listener..first_client].iter().enumerate();
        ready.listeners = listening
            .filter(|(_, fd)| came(fd))
            .map(|(n, _)| n)
            .collect();
        let clients = fds[first_client..].iter().zip(self.sockets.clients.keys());
        let readable = PollFlags::IN | PollFlags::HUP | PollFlags::ERR;
        ready.clients = clients
            .filter(|(fd, _)| fd.revents().intersects(readable))
            .map(|(_, &id)| id)
            .collect();
        ready
    }

    /// Whether something waits that no event will tell of.
    fn has_work(&self) -> bool {
        let clients = &self.sockets.clients;
        let domains = self.store.domains();
        let mut active = domains.filter(|(d, _)| self.rings.rings.get(d).is_some_and(|r| r.active));
        active.any(|(_, known)| self.store.may_ask(known.connection))
            || clients
                .iter()
                .any(|(&id, client)| client.readable && self.store.may_ask(id))
    }

    fn events(&mut self) {
        let mut check = false;
        if let Some(devices) = &self.rings.devices {
            let evtchn = devices.evtchn.clone();
            loop {
                match evtchn.pending() {
                    Ok(Some(port)) => {
                        // Unmasked first: what comes from now on is a new event.
                        let _ = evtchn.unmask(port);
                        check |= Some(port) == self.rings.domains_port;
                        self.rings.wake(port);
                    }
                    Ok(None) => break,
                    Err(e) => {
                        tracing::error!("/dev/xen/evtchn: {e}");
                        check = true;
                        break;
                    }
                }
            }
        }
        if check {
            self.check_domains();
        }
    }

    /// Looks which domains are gone, or have shut down.
    pub(super) fn check_domains(&mut self) {
        let domains: Vec<_> = self.store.domains().map(|(d, known)| (d, *known)).collect();
        for (domain, known) in domains {
            if domain == DomId::DOM0 {
                continue;
            }
            match self.rings.living(domain) {
                Ok(Some(living)) if !living.dying && living.handle == known.handle => {
                    if living.shut_down {
                        self.store.domain_down(domain);
                    }
                }
                Ok(_) => self.store.domain_gone(domain, &mut self.rings),
                Err(e) => tracing::warn!("xenstore looks at domain {domain}: {e}"),
            }
        }
    }

    fn serve_sockets(&mut self) {
        for (&id, client) in &mut self.sockets.clients {
            for _ in 0..MESSAGES {
                if !self.store.may_ask(id) {
                    break;
                }
                let Some(message) = client.next() else { break };
                self.store.handle(id, &message, &mut self.rings);
            }
        }
    }

    fn serve_rings(&mut self) {
        let active: Vec<_> = self
            .store
            .domains()
            .filter(|(d, _)| self.rings.rings.get(d).is_some_and(|ring| ring.active))
            .map(|(domain, known)| (domain, known.connection))
            .collect();
        for (domain, id) in active {
            self.serve_ring(domain, id);
        }
    }

    fn serve_ring(&mut self, domain: DomId, id: ConnectionId) {
        let Some(ring) = self.rings.rings.get_mut(&domain) else {
            return;
        };
        if ring.wants_reset() {
            ring.begin_anew();
            self.store.reset_domain(domain);
            return;
        }
        for _ in 0..MESSAGES {
            if !self.store.may_ask(id) {
                break;
            }
            // A message of this domain may have ended its ring.
            let Some(ring) = self.rings.rings.get_mut(&domain) else {
                return;
            };
            match ring.next() {
                Ok(Some(message)) => self.store.handle(id, &message, &mut self.rings),
                Ok(None) => break,
                Err(bad) => return self.refuse(domain, bad),
            }
        }
    }

    fn refuse(&mut self, domain: DomId, bad: Bad) {
        tracing::warn!("xenstore ring of domain {domain}: {bad:?}; it is served no more");
        if let Some(ring) = self.rings.rings.get_mut(&domain) {
            ring.refuse(bad);
        }
        self.store.reset_domain(domain);
        self.rings.notify(domain);
    }

    /// Writes down what happened.
    fn keep(&mut self) {
        let mut records = self.store.take_records();
        for (&domain, ring) in &self.rings.rings {
            if let Some(state) = ring.news() {
                let (consumed, rest) = (state.consumed, state.rest);
                records.push(Record::Input {
                    domain,
                    consumed,
                    rest,
                });
            }
        }
        if records.is_empty() {
            return;
        }
        if let Some(journal) = &mut self.journal
            && let Err(e) = journal.append(&records)
        {
            tracing::error!("{}: {e}; written anew", self.options.journal.display());
            self.journal = None;
        }
    }

    /// Lets domains know of what was taken, and gives them what waits.
    fn flush_rings(&mut self) {
        let domains: Vec<_> = self
            .store
            .domains()
            .map(|(d, k)| (d, k.connection))
            .collect();
        for (domain, id) in domains {
            let Some(ring) = self.rings.rings.get_mut(&domain) else {
                continue;
            };
            if ring.fault {
                continue;
            }
            let mut news = ring.publish();
            let mut bad = None;
            while let Some(bytes) = self.store.output(id) {
                match ring.put(bytes) {
                    Ok(0) => break,
                    Ok(count) => {
                        news = true;
                        self.store.sent(id, count);
                    }
                    Err(e) => {
                        bad = Some(e);
                        break;
                    }
                }
            }
            if let Some(bad) = bad {
                self.refuse(domain, bad);
            } else if news {
                self.rings.notify(domain);
            }
        }
    }

    /// Rings as they stand.
    fn ring_states(&self) -> BTreeMap<DomId, RingState> {
        let rings = self.rings.rings.iter();
        rings
            .map(|(&domain, ring)| (domain, ring.state()))
            .collect()
    }

    /// Writes the whole state into a new journal.
    pub(super) fn renew(&mut self) {
        let state = self.store.snapshot(&self.ring_states());
        let done = match &mut self.journal {
            Some(journal) => journal.renew(&state),
            None => Journal::begin(&self.options.journal, &boot_id(), &state)
                .map(|journal| self.journal = Some(journal)),
        };
        if let Err(e) = done {
            let path = self.options.journal.display();
            tracing::error!("{path}: {e}; if the daemon dies now, guests lose xenstore");
        }
    }
}
