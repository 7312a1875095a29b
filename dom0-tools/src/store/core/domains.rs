//! Requests about domains, and what happens to them.

use super::super::change::{Outcome, remove_unasked};
use super::super::journal::Record;
use super::super::path::Path;
use super::super::permissions::Permissions;
use super::super::tree::walk;
use super::super::wire::{Errno, Kind, first, join, one, split};
use super::{ConnectionId, Host, Origin, Reply, Store, done};
use crate::sys::{DomId, Mfn, Port};

/// Happens when a domain comes.
pub const INTRODUCED: &str = "@introduceDomain";
/// Happens when a domain goes, or shuts down.
pub const RELEASED: &str = "@releaseDomain";

/// A domain whose ring is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduced {
    /// Its connection.
    pub connection: ConnectionId,
    /// The frame of its ring, as its tools said.
    pub ring: Mfn,
    /// Its port.
    pub port: Port,
    /// What tells it from another one that had its number.
    pub handle: [u8; 16],
    /// Whether its shutting down was told.
    pub shut_down: bool,
}

impl Store {
    /// Domains whose rings are served.
    pub fn domains(&self) -> impl Iterator<Item = (DomId, &Introduced)> {
        self.domains.iter().map(|(&domain, known)| (domain, known))
    }

    pub(super) fn about_domain(
        &mut self,
        id: ConnectionId,
        kind: Kind,
        body: &[u8],
        host: &mut impl Host,
    ) -> Reply {
        match kind {
            Kind::INTRODUCE => return self.introduce(body, host),
            Kind::SET_TARGET => return self.set_target(body),
            _ => {}
        }
        let domain = domain_of(one(body).ok_or(Errno::EINVAL)?)?;
        match kind {
            Kind::GET_DOMAIN_PATH => return Ok(join([Path::home(domain).as_str()])),
            Kind::IS_DOMAIN_INTRODUCED => {
                let known = domain == DomId::SELF || self.domains.contains_key(&domain);
                return Ok(join([if known { "T" } else { "F" }]));
            }
            _ => {}
        }
        if domain == DomId::DOM0 {
            return Err(Errno::EINVAL);
        }
        let known = self.domains.get_mut(&domain).ok_or(Errno::ENOENT)?;
        match kind {
            Kind::RESUME => {
                known.shut_down = false;
                let (domain, down) = (domain, false);
                self.records.push(Record::ShutDown { domain, down });
            }
            // The only one left.
            _ => {
                debug_assert!(kind == Kind::RELEASE && self.connections.contains_key(&id));
                self.domain_gone(domain, host);
            }
        }
        Ok(done())
    }

    fn introduce(&mut self, body: &[u8], host: &mut impl Host) -> Reply {
        let strings: Vec<&[u8]> = split(body).collect();
        let &[domain, ring, port, ..] = &strings[..] else {
            return Err(Errno::EINVAL);
        };
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| Errno::EINVAL);
        let domain = domain_of(text(domain)?)?;
        let port: u32 = text(port)?.parse().map_err(|_| Errno::EINVAL)?;
        if !domain.is_ordinary() || domain == DomId::DOM0 || port == 0 {
            return Err(Errno::EINVAL);
        }
        // Signed in some callers; nobody needs it where the ring is granted.
        let ring = Mfn(text(ring)?.parse::<i64>().unwrap_or(0).cast_unsigned());
        let port = Port(port);
        host.connect(domain, ring, port)?;
        let handle = host.handle(domain);
        let new = !self.domains.contains_key(&domain);
        self.add_domain(domain, ring, port, handle);
        self.reset_domain(domain);
        if new {
            self.special_event(INTRODUCED);
        }
        Ok(done())
    }

    /// Serves a domain's ring; dom0's kernel's too.
    pub fn add_domain(
        &mut self,
        domain: DomId,
        ring: Mfn,
        port: Port,
        handle: [u8; 16],
    ) -> ConnectionId {
        self.records.push(Record::Introduced {
            domain,
            ring: ring.0,
            port: port.0,
            handle,
        });
        if let Some(known) = self.domains.get_mut(&domain) {
            (known.ring, known.port, known.handle) = (ring, port, handle);
            return known.connection;
        }
        let connection = self.connect(Origin::Ring(domain));
        let shut_down = false;
        let known = Introduced {
            connection,
            ring,
            port,
            handle,
            shut_down,
        };
        self.domains.insert(domain, known);
        connection
    }

    /// A domain's ring begins anew: nothing is left of what it asked before.
    pub fn reset_domain(&mut self, domain: DomId) {
        let Some(id) = self.domains.get(&domain).map(|known| known.connection) else {
            return;
        };
        self.watches.remove_all(id);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.transactions.clear();
            connection.output.clear();
        }
        self.records.push(Record::Reset(domain));
        self.records.push(Record::Emptied(domain));
    }

    /// A domain has shut down, as far as the hypervisor says: told once.
    pub fn domain_down(&mut self, domain: DomId) {
        if let Some(known) = self.domains.get_mut(&domain)
            && !known.shut_down
        {
            known.shut_down = true;
            let down = true;
            self.records.push(Record::ShutDown { domain, down });
            self.special_event(RELEASED);
        }
    }

    /// A domain is no more, or not to be served any more.
    pub fn domain_gone(&mut self, domain: DomId, host: &mut impl Host) {
        let Some(known) = self.domains.remove(&domain) else {
            return;
        };
        self.disconnect(known.connection);
        host.disconnect(domain);
        self.records.push(Record::Released(domain));
        for connection in self.connections.values_mut() {
            if connection.caller.target == Some(domain) {
                connection.caller.target = None;
            }
        }
        self.remove_rights(domain);
        self.special_event(RELEASED);
    }

    /// Another domain may get the number: what this one owned goes, what it was permitted too.
    fn remove_rights(&mut self, domain: DomId) {
        let mut owned = Vec::new();
        let mut named = Vec::new();
        walk(&Path::root(), self.tree.root(), &mut |path, node| {
            if node.permissions().owner == domain {
                owned.push(path.clone());
                return false;
            }
            if node.permissions().named.iter().any(|(d, _)| *d == domain) {
                named.push((path.clone(), node.permissions().clone()));
            }
            true
        });
        for path in owned {
            let outcome = remove_unasked(&mut self.tree, &path);
            self.happened(&outcome);
        }
        for (path, mut permissions) in named {
            let kept = std::sync::Arc::make_mut(&mut permissions);
            kept.named.retain(|(d, _)| *d != domain);
            self.tree.set_permissions(&path, permissions);
            self.happened(&Outcome {
                events: Vec::new(),
                touched: vec![path],
            });
        }
        for permissions in self.special.values_mut() {
            permissions.named.retain(|(d, _)| *d != domain);
            if permissions.owner == domain {
                permissions.owner = DomId::DOM0;
            }
        }
    }

    fn set_target(&mut self, body: &[u8]) -> Reply {
        let (domain, rest) = first(body).ok_or(Errno::EINVAL)?;
        let (target, _) = first(rest).ok_or(Errno::EINVAL)?;
        let (domain, target) = (domain_of(domain)?, domain_of(target)?);
        if !self.domains.contains_key(&target) {
            return Err(Errno::ENOENT);
        }
        let id = self.domains.get(&domain).ok_or(Errno::ENOENT)?.connection;
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.caller.target = Some(target);
        }
        self.records.push(Record::Target { domain, target });
        Ok(done())
    }

    pub(super) fn set_special_permissions(&mut self, id: ConnectionId, body: &[u8]) -> Reply {
        let (name, rest) = first(body).ok_or(Errno::EINVAL)?;
        if name != INTRODUCED && name != RELEASED {
            return Err(Errno::EINVAL);
        }
        let permissions = Permissions::parse(rest).ok_or(Errno::EINVAL)?;
        if !self.caller(id).owns(&self.special_permissions(name)) {
            return Err(Errno::EACCES);
        }
        self.records.push(Record::Special {
            name: name.to_owned(),
            permissions: permissions.to_bytes(),
        });
        self.special.insert(name.to_owned(), permissions);
        Ok(done())
    }

    fn special_permissions(&self, name: &str) -> Permissions {
        let set = self.special.get(name).cloned();
        set.unwrap_or(Permissions::only(DomId::DOM0))
    }

    /// Tells those who watch an event that the server makes.
    fn special_event(&mut self, name: &str) {
        let permissions = self.special_permissions(name);
        let hearing: Vec<_> = self
            .watches
            .hearing_special(name)
            .filter(|(owner, _)| {
                let connection = self.connections.get(owner);
                connection.is_some_and(|c| c.caller.right(&permissions).reads())
            })
            .map(|(owner, token)| (owner, join([name.as_bytes(), token])))
            .collect();
        for (owner, body) in hearing {
            self.send_event(owner, body, false);
        }
    }

    /// `xenstore-control`: what can be said of this server.
    pub(super) fn control(&self, body: &[u8]) -> Reply {
        let strings: Vec<&[u8]> = split(body).collect();
        match strings.first().copied() {
            Some(b"check") => Ok(done()),
            Some(b"help") => Ok(join(["check", "help", "print", "quota"])),
            Some(b"print") => {
                let text = strings.get(1).copied().unwrap_or_default();
                tracing::info!("xenstore control: {}", String::from_utf8_lossy(text));
                Ok(done())
            }
            Some(b"quota") => Ok(join([format!("{:#?}", self.quota)])),
            _ => Err(Errno::EINVAL),
        }
    }
}

fn domain_of(text: &str) -> Result<DomId, Errno> {
    text.parse().map(DomId).map_err(|_| Errno::EINVAL)
}
