//! What the store keeps of a connection.

use std::collections::BTreeMap;

use super::super::change::Caller;
use super::super::transaction::Transaction;
use super::output::Output;
use crate::sys::DomId;

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A socket of a program in dom0.
    Socket {
        /// Whether it may only read.
        read_only: bool,
    },
    /// A domain's ring; dom0's kernel has one too.
    Ring(DomId),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub caller: Caller,
    pub read_only: bool,
    /// The domain whose ring it is: it outlives the daemon.
    pub ring: Option<DomId>,
    pub transactions: BTreeMap<u32, Transaction>,
    pub last_transaction: u32,
    pub output: Output,
}

impl Connection {
    pub fn new(origin: Origin) -> Self {
        let (domain, read_only, ring) = match origin {
            Origin::Socket { read_only } => (DomId::DOM0, read_only, None),
            Origin::Ring(domain) => (domain, false, Some(domain)),
        };
        Self {
            caller: Caller::new(domain),
            read_only,
            ring,
            transactions: BTreeMap::new(),
            last_transaction: 0,
            output: Output::default(),
        }
    }

    /// Bytes of its transactions and of what waits to be sent.
    pub fn bytes(&self) -> usize {
        let transactions = self.transactions.values().map(Transaction::bytes);
        transactions.sum::<usize>() + self.output.bytes()
    }

    /// A number that no transaction under way has.
    pub fn new_transaction(&mut self) -> u32 {
        loop {
            self.last_transaction = self.last_transaction.wrapping_add(1);
            let id = self.last_transaction;
            if id != 0 && !self.transactions.contains_key(&id) {
                return id;
            }
        }
    }
}
