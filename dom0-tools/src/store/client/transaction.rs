//! Reads and writes that happen together.

use super::{Client, Error, Permissions, Result, text};
use crate::store::wire::{Errno, Kind, one};

/// A transaction under way; given up when dropped. Made by [`Client::transaction`].
#[derive(Debug)]
pub struct Transaction<'a> {
    client: &'a Client,
    id: u32,
    over: bool,
}

impl<'a> Transaction<'a> {
    pub(super) fn start(client: &'a Client) -> Result<Self> {
        let reply = client.ask(Kind::TRANSACTION_START, 0, "transaction", &[""])?;
        let id = one(&reply).and_then(|text| text.parse().ok());
        let id = id
            .filter(|&id| id != 0)
            .ok_or_else(|| Error::nonsense("transaction"))?;
        let over = false;
        Ok(Self { client, id, over })
    }

    /// Whether it happened; if not, somebody changed what it used.
    pub(super) fn commit(mut self) -> Result<bool> {
        self.over = true;
        match self.end("T") {
            Ok(()) => Ok(true),
            Err(e) if e.is(Errno::EAGAIN) => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn end(&self, how: &str) -> Result<()> {
        let reply = self
            .client
            .ask(Kind::TRANSACTION_END, self.id, "transaction", &[how]);
        reply.map(drop)
    }

    /// As [`Client::read`].
    ///
    /// # Errors
    /// The store's.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.client.read_in(self.id, path)
    }

    /// As [`Client::read_text`].
    ///
    /// # Errors
    /// The store's.
    pub fn read_text(&self, path: &str) -> Result<Option<String>> {
        Ok(self.read(path)?.map(text))
    }

    /// As [`Client::directory`].
    ///
    /// # Errors
    /// The store's.
    pub fn directory(&self, path: &str) -> Result<Vec<String>> {
        self.client.directory_in(self.id, path)
    }

    /// As [`Client::write`].
    ///
    /// # Errors
    /// The store's.
    pub fn write(&self, path: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.client.write_in(self.id, path, value.as_ref())
    }

    /// As [`Client::mkdir`].
    ///
    /// # Errors
    /// The store's.
    pub fn mkdir(&self, path: &str) -> Result<()> {
        self.client
            .ask(Kind::MKDIR, self.id, path, &[path])
            .map(drop)
    }

    /// As [`Client::remove`].
    ///
    /// # Errors
    /// The store's.
    pub fn remove(&self, path: &str) -> Result<()> {
        self.client.remove_in(self.id, path)
    }

    /// As [`Client::permissions`].
    ///
    /// # Errors
    /// The store's.
    pub fn permissions(&self, path: &str) -> Result<Option<Permissions>> {
        self.client.permissions_in(self.id, path)
    }

    /// As [`Client::set_permissions`].
    ///
    /// # Errors
    /// The store's.
    pub fn set_permissions(&self, path: &str, permissions: &Permissions) -> Result<()> {
        self.client.set_permissions_in(self.id, path, permissions)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.over {
            // Who gives up has an error to tell already.
            let _ = self.end("F");
        }
    }
}
