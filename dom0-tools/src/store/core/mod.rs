//! Requests of connections into replies and events.
//!
//! A [`Store`] has the tree, the watches, the transactions, and what waits to be sent. It knows
//! no transport: messages come in by [`Store::handle`], bytes go out by [`Store::output`]. What
//! must survive the daemon comes out as [`Record`]s.

mod connection;
mod domains;
mod nodes;
mod output;
mod restore;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use super::change::{Caller, Outcome};
use super::journal::Record;
use super::path::Path;
use super::permissions::Permissions;
use super::quota::Quota;
use super::tree::Tree;
use super::watch::Watches;
use super::wire::{Errno, Kind, Message, XENSTORE_PAYLOAD_MAX, join};
use crate::sys::{DomId, Mfn, Port};

use connection::Connection;
pub use connection::Origin;
pub use domains::{INTRODUCED, Introduced, RELEASED};

/// A connection to the store; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// What the store needs done outside.
pub trait Host {
    /// Opens the way to a domain's ring, or its event channel anew if it is open.
    ///
    /// # Errors
    /// `ENOENT`: no such domain. `EINVAL`: its grant or port does not permit it.
    fn connect(&mut self, domain: DomId, ring: Mfn, port: Port) -> Result<(), Errno>;

    /// Closes it.
    fn disconnect(&mut self, domain: DomId);

    /// What tells a domain from another one that had its number.
    fn handle(&mut self, domain: DomId) -> [u8; 16];
}

/// xenstore.
#[derive(Debug, Default)]
pub struct Store {
    tree: Tree,
    watches: Watches<ConnectionId>,
    connections: BTreeMap<ConnectionId, Connection>,
    domains: BTreeMap<DomId, Introduced>,
    special: BTreeMap<String, Permissions>,
    quota: Quota,
    last: u64,
    records: Vec<Record>,
}

/// Bytes that wait for a program in dom0 when it is asked nothing more.
const PRIVILEGED_WAITING: usize = 1 << 20;

/// A reply's body.
type Reply = Result<Vec<u8>, Errno>;

impl Store {
    /// An empty store, with the nodes that every store has.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        let mut store = Self {
            quota,
            ..Self::default()
        };
        let permissions = Arc::new(Permissions::only(DomId::DOM0));
        for path in ["/tool", "/tool/xenstored", "/local", "/local/domain"] {
            let path = Path::absolute(path).expect("a path");
            store.tree.insert(&path, b"", permissions.clone());
            store.touched(&[path]);
        }
        store
    }

    /// The tree as it is.
    #[must_use]
    pub const fn tree(&self) -> &Tree {
        &self.tree
    }

    /// A new connection.
    pub fn connect(&mut self, origin: Origin) -> ConnectionId {
        self.last += 1;
        let id = ConnectionId(self.last);
        self.connections.insert(id, Connection::new(origin));
        id
    }

    /// A connection has ended: its watches and transactions end too.
    pub fn disconnect(&mut self, id: ConnectionId) {
        self.watches.remove_all(id);
        self.connections.remove(&id);
    }

    /// What must survive, since this was asked last.
    pub fn take_records(&mut self) -> Vec<Record> {
        mem::take(&mut self.records)
    }

    /// Whether requests of a connection are to be read: a guest that does not take its replies,
    /// or has too much of everything, waits.
    #[must_use]
    pub fn may_ask(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|connection| {
            let waiting = connection.output.bytes();
            if connection.caller.is_privileged() {
                return waiting < PRIVILEGED_WAITING;
            }
            connection.output.replies() < self.quota.outstanding && waiting < self.quota.bytes
        })
    }

    /// Bytes that wait to be sent over a connection.
    #[must_use]
    pub fn output(&self, id: ConnectionId) -> Option<&[u8]> {
        self.connections.get(&id)?.output.front()
    }

    /// How many bytes wait to be sent over a connection.
    #[must_use]
    pub fn waiting(&self, id: ConnectionId) -> usize {
        let connection = self.connections.get(&id);
        connection.map_or(0, |connection| connection.output.bytes())
    }

    /// So many bytes of [`output`](Self::output) were sent.
    pub fn sent(&mut self, id: ConnectionId, bytes: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.output.sent(bytes);
        }
    }

    /// Does what a message asks, and queues the reply.
    pub fn handle(&mut self, id: ConnectionId, message: &Message, host: &mut impl Host) {
        if !self.connections.contains_key(&id) {
            return;
        }
        let reply = self.answer(id, message, host);
        // The longest reply is a guest's own doing.
        let reply = reply.and_then(|body| {
            let fits = body.len() <= XENSTORE_PAYLOAD_MAX;
            if fits { Ok(body) } else { Err(Errno::E2BIG) }
        });
        let (kind, body) = match reply {
            Ok(body) => (message.kind, body),
            Err(errno) => (Kind::ERROR, join([errno.name()])),
        };
        let reply = Message {
            kind,
            request: message.request,
            transaction: message.transaction,
            body,
        };
        self.send(id, &reply);
        if message.kind == Kind::WATCH && kind == Kind::WATCH {
            self.first_event(id, &message.body);
        }
    }

    fn answer(&mut self, id: ConnectionId, message: &Message, host: &mut impl Host) -> Reply {
        let (caller, read_only) = {
            let connection = &self.connections[&id];
            (connection.caller, connection.read_only)
        };
        let Some(rule) = Rule::of(message.kind) else {
            return Err(Errno::ENOSYS);
        };
        if rule.privileged && !caller.is_privileged() {
            return Err(Errno::EACCES);
        }
        if rule.changes && read_only {
            return Err(Errno::EROFS);
        }
        let transaction = if rule.in_transaction {
            message.transaction
        } else {
            0
        };
        if transaction != 0
            && !self.connections[&id]
                .transactions
                .contains_key(&transaction)
        {
            return Err(Errno::ENOENT);
        }
        let body = &message.body[..];
        match message.kind {
            Kind::DIRECTORY | Kind::DIRECTORY_PART | Kind::READ | Kind::GET_PERMS => {
                self.look(id, transaction, message.kind, body)
            }
            Kind::WRITE | Kind::MKDIR | Kind::RM | Kind::SET_PERMS => {
                self.change(id, transaction, message.kind, body)
            }
            Kind::TRANSACTION_START if transaction != 0 => Err(Errno::EBUSY),
            Kind::TRANSACTION_START => self.transaction_start(id),
            Kind::TRANSACTION_END => self.transaction_end(id, transaction, body),
            Kind::WATCH => self.watch(id, body),
            Kind::UNWATCH => self.unwatch(id, body),
            Kind::RESET_WATCHES => self.reset_watches(id),
            Kind::CONTROL => self.control(body),
            _ => self.about_domain(id, message.kind, body, host),
        }
    }

    fn caller(&self, id: ConnectionId) -> Caller {
        self.connections[&id].caller
    }

    /// Tells watchers, and keeps what must survive.
    fn happened(&mut self, outcome: &Outcome) {
        self.touched(&outcome.touched);
        for event in &outcome.events {
            let hearing: Vec<_> = self
                .watches
                .hearing(event)
                .filter(|(owner, ..)| {
                    let caller = self.connections.get(owner).map(|c| c.caller);
                    let may = |p: &Arc<Permissions>| caller.is_some_and(|c| c.right(p).reads());
                    event.readable.iter().any(may)
                })
                .map(|(owner, path, token)| (owner, join([path.as_bytes(), token])))
                .collect();
            for (owner, body) in hearing {
                self.send_event(owner, body, true);
            }
        }
    }

    /// Keeps what nodes are now.
    fn touched(&mut self, paths: &[Path]) {
        for path in paths {
            let record = match self.tree.get(path) {
                Some(node) => Record::node(path, node),
                None => Record::Gone(path.clone()),
            };
            self.records.push(record);
        }
    }
}

/// What is asked of requests before they are looked at.
struct Rule {
    /// Only dom0 may.
    privileged: bool,
    /// Not over a connection that only reads.
    changes: bool,
    /// The number of a transaction means something.
    in_transaction: bool,
}

impl Rule {
    const fn of(kind: Kind) -> Option<Self> {
        let (privileged, changes, in_transaction) = match kind {
            Kind::DIRECTORY
            | Kind::DIRECTORY_PART
            | Kind::READ
            | Kind::GET_PERMS
            | Kind::TRANSACTION_START
            | Kind::TRANSACTION_END => (false, false, true),
            Kind::WRITE | Kind::MKDIR | Kind::RM | Kind::SET_PERMS => (false, true, true),
            Kind::WATCH | Kind::UNWATCH | Kind::RESET_WATCHES | Kind::GET_DOMAIN_PATH => {
                (false, false, false)
            }
            Kind::IS_DOMAIN_INTRODUCED => (true, false, false),
            Kind::CONTROL | Kind::INTRODUCE | Kind::RELEASE | Kind::RESUME | Kind::SET_TARGET => {
                (true, true, false)
            }
            _ => return None,
        };
        Some(Self {
            privileged,
            changes,
            in_transaction,
        })
    }
}

/// The body of a reply that says only that it was done.
fn done() -> Vec<u8> {
    join(["OK"])
}
