//! Requests about nodes, transactions and watches.

use std::sync::Arc;

use super::super::change::{Change, Footprint, Need, find, find_children};
use super::super::journal::Record;
use super::super::path::Path;
use super::super::permissions::Permissions;
use super::super::transaction::Transaction;
use super::super::tree::Tree;
use super::super::watch::Target;
use super::super::wire::{Errno, Kind, XENSTORE_PAYLOAD_MAX, first, join, one, split};
use super::{ConnectionId, Reply, Store, done};

impl Store {
    /// Requests that only look.
    pub(super) fn look(
        &mut self,
        id: ConnectionId,
        transaction: u32,
        kind: Kind,
        body: &[u8],
    ) -> Reply {
        let caller = self.caller(id);
        let part = kind == Kind::DIRECTORY_PART;
        let (text, offset) = if part {
            let (text, rest) = first(body).ok_or(Errno::EINVAL)?;
            (text, one(rest).ok_or(Errno::EINVAL)?)
        } else {
            (one(body).ok_or(Errno::EINVAL)?, "0")
        };
        let path = Path::said_by(caller.domain, text).ok_or(Errno::EINVAL)?;
        self.seeing(id, transaction, |tree, footprint| match kind {
            Kind::READ => {
                let node = find(tree, caller, &path, Need::Read, footprint)?;
                Ok(node.value().to_vec())
            }
            Kind::GET_PERMS => {
                let node = find(tree, caller, &path, Need::Read, footprint)?;
                Ok(node.permissions().to_bytes())
            }
            Kind::DIRECTORY => {
                let node = find_children(tree, caller, &path, footprint)?;
                Ok(join(node.children().map(|(name, _)| name)))
            }
            _ => {
                let node = find_children(tree, caller, &path, footprint)?;
                let offset = offset.parse().map_err(|_| Errno::EINVAL)?;
                let names = join(node.children().map(|(name, _)| name));
                Ok(directory_part(node.children_changed(), &names, offset))
            }
        })
    }

    /// Looks at the tree, or at a transaction's.
    fn seeing(
        &mut self,
        id: ConnectionId,
        transaction: u32,
        look: impl FnOnce(&Tree, &mut Footprint) -> Reply,
    ) -> Reply {
        if transaction == 0 {
            return look(&self.tree, &mut Footprint::default());
        }
        self.check_room(id, transaction, 0)?;
        let transaction = self.transaction(id, transaction)?;
        let (tree, footprint) = transaction.view();
        look(tree, footprint)
    }

    fn transaction(&mut self, id: ConnectionId, number: u32) -> Result<&mut Transaction, Errno> {
        let connection = self.connections.get_mut(&id).ok_or(Errno::EIO)?;
        connection
            .transactions
            .get_mut(&number)
            .ok_or(Errno::ENOENT)
    }

    /// Whether a guest may have `more` bytes, and its transaction look at more.
    fn check_room(&self, id: ConnectionId, transaction: u32, more: usize) -> Result<(), Errno> {
        let connection = &self.connections[&id];
        if connection.caller.is_privileged() {
            return Ok(());
        }
        let full = connection.transactions.get(&transaction);
        if full.is_some_and(|transaction| transaction.is_full(&self.quota)) {
            return Err(Errno::ENOSPC);
        }
        let nodes = self.tree.usage(connection.caller.domain).bytes;
        let (_, watches) = self.watches.usage(id);
        if nodes + watches + connection.bytes() + more > self.quota.bytes {
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// Requests that change nodes.
    pub(super) fn change(
        &mut self,
        id: ConnectionId,
        transaction: u32,
        kind: Kind,
        body: &[u8],
    ) -> Reply {
        if kind == Kind::SET_PERMS && body.first() == Some(&b'@') {
            return self.set_special_permissions(id, body);
        }
        let caller = self.caller(id);
        let change = parse_change(caller.domain, kind, body)?;
        if kind != Kind::RM {
            self.check_room(id, transaction, change.bytes())?;
        }
        if transaction != 0 {
            let quota = self.quota;
            let transaction = self.transaction(id, transaction)?;
            transaction.apply(caller, &quota, change)?;
        } else {
            let unseen = &mut Footprint::default();
            let outcome = change.apply(&mut self.tree, caller, &self.quota, unseen)?;
            self.happened(&outcome);
        }
        Ok(done())
    }

    pub(super) fn transaction_start(&mut self, id: ConnectionId) -> Reply {
        let connection = self.connections.get_mut(&id).ok_or(Errno::EIO)?;
        let guest = !connection.caller.is_privileged();
        if guest && connection.transactions.len() >= self.quota.transactions {
            return Err(Errno::ENOSPC);
        }
        let number = connection.new_transaction();
        let transaction = Transaction::new(&self.tree);
        connection.transactions.insert(number, transaction);
        if let Some(domain) = connection.ring {
            self.records.push(Record::Transaction {
                domain,
                number,
                open: true,
            });
        }
        Ok(join([number.to_string()]))
    }

    pub(super) fn transaction_end(&mut self, id: ConnectionId, number: u32, body: &[u8]) -> Reply {
        let commit = match one(body) {
            Some("T") => true,
            Some("F") => false,
            _ => return Err(Errno::EINVAL),
        };
        let connection = self.connections.get_mut(&id).ok_or(Errno::EIO)?;
        let transaction = connection.transactions.remove(&number);
        let transaction = transaction.ok_or(Errno::ENOENT)?;
        let caller = connection.caller;
        if let Some(domain) = connection.ring {
            self.records.push(Record::Transaction {
                domain,
                number,
                open: false,
            });
        }
        if commit {
            let outcome = transaction.commit(&mut self.tree, caller, &self.quota)?;
            self.happened(&outcome);
        }
        Ok(done())
    }

    pub(super) fn watch(&mut self, id: ConnectionId, body: &[u8]) -> Reply {
        let (target, token) = self.parse_watch(id, body)?;
        let (count, _) = self.watches.usage(id);
        if !self.caller(id).is_privileged() && count >= self.quota.watches {
            return Err(Errno::E2BIG);
        }
        self.check_room(id, 0, target.as_said().len() + token.len())?;
        if !self.watches.add(id, &target, &token) {
            return Err(Errno::EEXIST);
        }
        self.record_watch(id, &target, token, true);
        Ok(done())
    }

    pub(super) fn unwatch(&mut self, id: ConnectionId, body: &[u8]) -> Reply {
        let (target, token) = self.parse_watch(id, body)?;
        if !self.watches.remove(id, &target, &token) {
            return Err(Errno::ENOENT);
        }
        self.record_watch(id, &target, token, false);
        Ok(done())
    }

    fn record_watch(&mut self, id: ConnectionId, target: &Target, token: Vec<u8>, add: bool) {
        if let Some(domain) = self.connections[&id].ring {
            self.records.push(Record::Watch {
                domain,
                target: target.as_said().to_owned(),
                token,
                add,
            });
        }
    }

    fn parse_watch(&self, id: ConnectionId, body: &[u8]) -> Result<(Target, Vec<u8>), Errno> {
        let strings: Vec<&[u8]> = split(body).collect();
        let &[target, token] = &strings[..] else {
            return Err(Errno::EINVAL);
        };
        let target = std::str::from_utf8(target).map_err(|_| Errno::EINVAL)?;
        let target = Target::said_by(self.caller(id).domain, target).ok_or(Errno::EINVAL)?;
        Ok((target, token.to_vec()))
    }

    pub(super) fn reset_watches(&mut self, id: ConnectionId) -> Reply {
        self.watches.remove_all(id);
        let connection = self.connections.get_mut(&id).ok_or(Errno::EIO)?;
        connection.transactions.clear();
        if let Some(domain) = connection.ring {
            self.records.push(Record::Reset(domain));
        }
        Ok(done())
    }
}

fn parse_change(domain: crate::sys::DomId, kind: Kind, body: &[u8]) -> Result<Change, Errno> {
    let path = |text| Path::said_by(domain, text).ok_or(Errno::EINVAL);
    let only = || one(body).ok_or(Errno::EINVAL);
    Ok(match kind {
        Kind::WRITE => {
            let (text, value) = first(body).ok_or(Errno::EINVAL)?;
            Change::Write(path(text)?, value.into())
        }
        Kind::MKDIR => Change::Mkdir(path(only()?)?),
        Kind::RM => Change::Remove(path(only()?)?),
        _ => {
            let (text, rest) = first(body).ok_or(Errno::EINVAL)?;
            let permissions = Permissions::parse(rest).ok_or(Errno::EINVAL)?;
            Change::SetPermissions(path(text)?, Arc::new(permissions))
        }
    })
}

/// As many whole names from an offset as fit behind the generation; an empty name ends the list.
fn directory_part(generation: u64, names: &[u8], offset: usize) -> Vec<u8> {
    let mut body = join([generation.to_string()]);
    let mut rest = names.get(offset..).unwrap_or_default();
    // Room for the empty name.
    let room = XENSTORE_PAYLOAD_MAX - 1;
    while let Some(end) = rest.iter().position(|&b| b == 0) {
        if body.len() + end + 1 > room {
            return body;
        }
        body.extend_from_slice(&rest[..=end]);
        rest = &rest[end + 1..];
    }
    body.push(0);
    body
}
