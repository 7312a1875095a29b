//! A store from what an earlier daemon kept, and what this one keeps.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::journal::{Record, RingState};
use super::super::permissions::Permissions;
use super::super::quota::Quota;
use super::super::transaction::Transaction;
use super::super::watch::Target;
use super::Store;
use crate::sys::{DomId, Mfn, Port};

impl Store {
    /// All of it as records, with the rings as they stand.
    #[must_use]
    pub fn snapshot(&self, rings: &BTreeMap<DomId, RingState>) -> Vec<Record> {
        let mut records = Vec::new();
        self.tree
            .walk(|path, node| records.push(Record::node(path, node)));
        for (name, permissions) in &self.special {
            records.push(Record::Special {
                name: name.clone(),
                permissions: permissions.to_bytes(),
            });
        }
        for (domain, known) in self.domains() {
            records.push(Record::Introduced {
                domain,
                ring: known.ring.0,
                port: known.port.0,
                handle: known.handle,
            });
            let down = known.shut_down;
            records.push(Record::ShutDown { domain, down });
            for (target, token) in self.watches.of(known.connection) {
                records.push(Record::Watch {
                    domain,
                    target: target.as_said().to_owned(),
                    token: token.to_vec(),
                    add: true,
                });
            }
            if let Some(connection) = self.connections.get(&known.connection) {
                for &number in connection.transactions.keys() {
                    let open = true;
                    records.push(Record::Transaction {
                        domain,
                        number,
                        open,
                    });
                }
                let bytes = connection.output.all();
                records.push(Record::Output { domain, bytes });
            }
            if let Some(ring) = rings.get(&domain) {
                records.push(Record::Ring(domain, ring.clone()));
            }
        }
        for (domain, known) in self.domains() {
            let target = self.connections.get(&known.connection);
            if let Some(target) = target.and_then(|connection| connection.caller.target) {
                records.push(Record::Target { domain, target });
            }
        }
        records
    }

    /// The store that records tell of, and the rings as they were. Records that contradict what
    /// came before are passed over: what they would have changed is not there.
    #[must_use]
    pub fn restore(quota: Quota, records: Vec<Record>) -> (Self, BTreeMap<DomId, RingState>) {
        let mut store = Self {
            quota,
            ..Self::default()
        };
        let mut rings = BTreeMap::new();
        let mut outputs = BTreeMap::<DomId, Vec<u8>>::new();
        let mut transactions = Vec::new();
        for record in records {
            match record {
                Record::Output { domain, bytes } => {
                    outputs.entry(domain).or_default().extend(bytes);
                }
                Record::Ring(domain, state) => {
                    rings.insert(domain, state);
                }
                Record::Input {
                    domain,
                    consumed,
                    rest,
                } => {
                    let ring: &mut RingState = rings.entry(domain).or_default();
                    (ring.consumed, ring.rest) = (consumed, rest);
                }
                Record::Emptied(domain) => {
                    outputs.remove(&domain);
                    rings.insert(domain, RingState::default());
                }
                Record::Transaction {
                    domain,
                    number,
                    open,
                } => {
                    transactions.retain(|&(d, n)| (d, n) != (domain, number));
                    if open {
                        transactions.push((domain, number));
                    }
                }
                Record::Released(domain) => {
                    rings.remove(&domain);
                    outputs.remove(&domain);
                    transactions.retain(|(d, _)| *d != domain);
                    store.replay(Record::Released(domain));
                }
                Record::Reset(domain) => {
                    transactions.retain(|(d, _)| *d != domain);
                    store.replay(Record::Reset(domain));
                }
                other => store.replay(other),
            }
        }
        for (domain, number) in transactions {
            store.lost_transaction(domain, number);
        }
        for (domain, bytes) in outputs {
            let id = store.domains.get(&domain).map(|known| known.connection);
            if let Some(connection) = id.and_then(|id| store.connections.get_mut(&id)) {
                connection.output.restore(bytes);
            }
        }
        store.records.clear();
        (store, rings)
    }

    fn lost_transaction(&mut self, domain: DomId, number: u32) {
        let transaction = Transaction::lost(&self.tree);
        let id = self.domains.get(&domain).map(|known| known.connection);
        if let Some(connection) = id.and_then(|id| self.connections.get_mut(&id)) {
            connection.transactions.insert(number, transaction);
            connection.last_transaction = connection.last_transaction.max(number);
        }
    }

    fn replay(&mut self, record: Record) {
        match record {
            Record::Node {
                path,
                value,
                permissions,
            } => {
                let Some(permissions) = Permissions::parse(&permissions).map(Arc::new) else {
                    return;
                };
                if !self.tree.insert(&path, &value, permissions.clone()) {
                    self.tree.set_value(&path, &value);
                    self.tree.set_permissions(&path, permissions);
                }
            }
            Record::Gone(path) => drop(self.tree.remove(&path)),
            Record::Special { name, permissions } => {
                if let Some(permissions) = Permissions::parse(&permissions) {
                    self.special.insert(name, permissions);
                }
            }
            Record::Introduced {
                domain,
                ring,
                port,
                handle,
            } => drop(self.add_domain(domain, Mfn(ring), Port(port), handle)),
            Record::ShutDown { domain, down } => {
                if let Some(known) = self.domains.get_mut(&domain) {
                    known.shut_down = down;
                }
            }
            Record::Released(domain) => {
                if let Some(known) = self.domains.remove(&domain) {
                    self.disconnect(known.connection);
                }
            }
            Record::Reset(domain) => {
                if let Some(known) = self.domains.get(&domain) {
                    self.watches.remove_all(known.connection);
                }
            }
            Record::Watch {
                domain,
                target,
                token,
                add,
            } => self.replay_watch(domain, &target, &token, add),
            Record::Target { domain, target } => {
                let id = self.domains.get(&domain).map(|known| known.connection);
                if let Some(connection) = id.and_then(|id| self.connections.get_mut(&id)) {
                    connection.caller.target = Some(target);
                }
            }
            Record::Output { .. }
            | Record::Ring(..)
            | Record::Input { .. }
            | Record::Emptied(_)
            | Record::Transaction { .. } => unreachable!("kept apart by `restore`"),
        }
    }

    fn replay_watch(&mut self, domain: DomId, target: &str, token: &[u8], add: bool) {
        let Some(id) = self.domains.get(&domain).map(|known| known.connection) else {
            return;
        };
        if let Some(target) = Target::said_by(domain, target) {
            if add {
                self.watches.add(id, &target, token);
            } else {
                self.watches.remove(id, &target, token);
            }
        }
    }
}
