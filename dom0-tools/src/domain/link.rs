//! xenstore, as devices and domains use it.

use std::path::Path;
use std::time::Duration;

use crate::device::nodes::{Node, Nodes, StoreFailure};
use crate::store::client::Client;
use crate::sys::{DomId, Mfn, Port};

/// A connection; clones share it.
#[derive(Clone, Debug)]
pub struct Link {
    client: Client,
}

impl Link {
    /// Connects to the store of this machine, whoever serves it.
    ///
    /// # Errors
    /// Nobody does.
    pub fn open() -> Result<Self, StoreFailure> {
        Ok(Self {
            client: Client::open()?,
        })
    }

    /// Connects to a socket.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn at(socket: &Path) -> Result<Self, StoreFailure> {
        Ok(Self {
            client: Client::at(socket)?,
        })
    }

    /// Has the store serve a domain's ring.
    ///
    /// # Errors
    /// The store's.
    pub fn introduce(&self, domain: DomId, frame: Mfn, port: Port) -> Result<(), StoreFailure> {
        self.client.introduce(domain, frame, port)
    }

    /// Ends that.
    ///
    /// # Errors
    /// The store's.
    pub fn release(&self, domain: DomId) -> Result<(), StoreFailure> {
        self.client.release(domain)
    }

    /// Tells the store that a domain which had stopped goes on.
    ///
    /// # Errors
    /// The store's.
    pub fn resume(&self, domain: DomId) -> Result<(), StoreFailure> {
        self.client.resume(domain)
    }
}

impl Nodes for Link {
    fn read(&self, path: &str) -> Result<Option<String>, StoreFailure> {
        self.client.read_text(path)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, StoreFailure> {
        self.client.directory(path)
    }

    fn write(&self, nodes: &[Node]) -> Result<(), StoreFailure> {
        self.client.transaction(|transaction| {
            for node in nodes {
                transaction.write(&node.path, &node.value)?;
                if let Some(access) = &node.access {
                    transaction.set_permissions(&node.path, access)?;
                }
            }
            Ok(())
        })
    }

    fn update(&self, path: &str, value: &str) -> Result<bool, StoreFailure> {
        self.client.transaction(|transaction| {
            let there = transaction.read(path)?.is_some();
            if there {
                transaction.write(path, value)?;
            }
            Ok(there)
        })
    }

    fn remove(&self, path: &str) -> Result<(), StoreFailure> {
        self.client.remove(path)
    }

    fn wait<T>(
        &self,
        path: &str,
        limit: Duration,
        mut done: impl FnMut(&Self) -> Result<Option<T>, StoreFailure>,
    ) -> Result<Option<T>, StoreFailure> {
        self.client.watch(path)?.until(limit, || done(self))
    }
}
