//! Blocking client of xenstore, whoever serves it.
//!
//! It asks over the daemon's Unix socket, else over the kernel's `/dev/xen/xenbus`. One thread
//! reads all that comes: replies wake who asked, events go to their [`Watch`]. Clones share the
//! connection; transactions of several threads may run at once.

mod connection;
mod error;
mod transaction;
mod watch;

use std::sync::Arc;

use crate::store::wire::{self, Kind, XENSTORE_PAYLOAD_MAX};
use crate::sys::{DomId, Mfn, Port};

pub use crate::store::permissions::{Permissions, Right};
use connection::Connection;
pub use error::{Error, Result};
pub use transaction::Transaction;
pub use watch::{Event, Watch};

/// A connection to xenstore.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
}

impl Client {
    /// Connects to the store of this machine.
    ///
    /// # Errors
    /// [`Error::Unreachable`]: nobody serves it, or not for this user.
    pub fn open() -> Result<Self> {
        Connection::open().map(Self::of)
    }

    /// Connects to a socket.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    pub fn at(socket: &std::path::Path) -> Result<Self> {
        Connection::at(socket).map(Self::of)
    }

    fn of(connection: Connection) -> Self {
        Self {
            connection: Arc::new(connection),
        }
    }

    /// Bytes of a node; `None` if there is none.
    ///
    /// # Errors
    /// The store's.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        self.read_in(0, path)
    }

    /// A node as text, bytes that are not UTF-8 replaced; `None` if there is none.
    ///
    /// # Errors
    /// The store's.
    pub fn read_text(&self, path: &str) -> Result<Option<String>> {
        Ok(self.read(path)?.map(text))
    }

    /// Names of a node's children; none if there is no such node.
    ///
    /// # Errors
    /// The store's.
    pub fn directory(&self, path: &str) -> Result<Vec<String>> {
        self.directory_in(0, path)
    }

    /// Writes a node, with parents if they are missing.
    ///
    /// # Errors
    /// The store's.
    pub fn write(&self, path: &str, value: impl AsRef<[u8]>) -> Result<()> {
        self.write_in(0, path, value.as_ref())
    }

    /// Makes a node if there is none.
    ///
    /// # Errors
    /// The store's.
    pub fn mkdir(&self, path: &str) -> Result<()> {
        self.ask(Kind::MKDIR, 0, path, &[path]).map(drop)
    }

    /// Removes a node and all below it; nothing happens if there is none.
    ///
    /// # Errors
    /// The store's.
    pub fn remove(&self, path: &str) -> Result<()> {
        self.remove_in(0, path)
    }

    /// Who may do what to a node; `None` if there is none.
    ///
    /// # Errors
    /// The store's.
    pub fn permissions(&self, path: &str) -> Result<Option<Permissions>> {
        self.permissions_in(0, path)
    }

    /// Says who may do what to a node.
    ///
    /// # Errors
    /// The store's.
    pub fn set_permissions(&self, path: &str, permissions: &Permissions) -> Result<()> {
        self.set_permissions_in(0, path, permissions)
    }

    /// Does reads and writes that happen together or not at all, again and again until nobody
    /// else changed what they use.
    ///
    /// # Errors
    /// What `what` returned: then nothing happened. Or the store's.
    pub fn transaction<T, E: From<Error>>(
        &self,
        mut what: impl FnMut(&Transaction<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        loop {
            let transaction = Transaction::start(self)?;
            let value = what(&transaction)?;
            if transaction.commit()? {
                return Ok(value);
            }
        }
    }

    /// Begins to watch a node and all below it, or `@introduceDomain` or `@releaseDomain`. The
    /// first event comes at once.
    ///
    /// # Errors
    /// The store's.
    pub fn watch(&self, path: &str) -> Result<Watch> {
        Watch::start(self, path)
    }

    /// Tells the store that a domain may ask over its ring: `gfn` is the ring's frame, `port`
    /// what the domain keeps for dom0.
    ///
    /// # Errors
    /// The store's.
    pub fn introduce(&self, domain: DomId, gfn: Mfn, port: Port) -> Result<()> {
        let arguments = [domain.to_string(), gfn.to_string(), port.to_string()];
        let arguments = arguments.each_ref().map(String::as_str);
        self.ask(Kind::INTRODUCE, 0, arguments[0], &arguments)
            .map(drop)
    }

    /// Ends what [`introduce`](Self::introduce) began; nothing happens if nothing did.
    ///
    /// # Errors
    /// The store's.
    pub fn release(&self, domain: DomId) -> Result<()> {
        let domain = domain.to_string();
        let reply = self.ask(Kind::RELEASE, 0, &domain, &[&domain]);
        error::absent(reply).map(drop)
    }

    /// Tells the store that a domain which had shut down runs again.
    ///
    /// # Errors
    /// The store's.
    pub fn resume(&self, domain: DomId) -> Result<()> {
        let domain = domain.to_string();
        self.ask(Kind::RESUME, 0, &domain, &[&domain]).map(drop)
    }

    /// Lets one domain act as another where that one's nodes are concerned.
    ///
    /// # Errors
    /// The store's.
    pub fn set_target(&self, domain: DomId, target: DomId) -> Result<()> {
        let (domain, target) = (domain.to_string(), target.to_string());
        self.ask(Kind::SET_TARGET, 0, &domain, &[&domain, &target])
            .map(drop)
    }

    /// Whether a domain was introduced.
    ///
    /// # Errors
    /// The store's.
    pub fn is_introduced(&self, domain: DomId) -> Result<bool> {
        let domain = domain.to_string();
        let reply = self.ask(Kind::IS_DOMAIN_INTRODUCED, 0, &domain, &[&domain])?;
        Ok(reply.first() == Some(&b'T'))
    }

    fn read_in(&self, transaction: u32, path: &str) -> Result<Option<Vec<u8>>> {
        error::absent(self.ask(Kind::READ, transaction, path, &[path]))
    }

    fn write_in(&self, transaction: u32, path: &str, value: &[u8]) -> Result<()> {
        let mut body = wire::join([path]);
        body.extend_from_slice(value);
        self.ask_bytes(Kind::WRITE, transaction, path, body)
            .map(drop)
    }

    fn remove_in(&self, transaction: u32, path: &str) -> Result<()> {
        error::absent(self.ask(Kind::RM, transaction, path, &[path])).map(drop)
    }

    fn permissions_in(&self, transaction: u32, path: &str) -> Result<Option<Permissions>> {
        let reply = error::absent(self.ask(Kind::GET_PERMS, transaction, path, &[path]))?;
        let Some(body) = reply else { return Ok(None) };
        Permissions::parse(&body)
            .map(Some)
            .ok_or_else(|| Error::nonsense(path))
    }

    fn set_permissions_in(&self, transaction: u32, path: &str, to: &Permissions) -> Result<()> {
        let mut body = wire::join([path]);
        body.extend(to.to_bytes());
        self.ask_bytes(Kind::SET_PERMS, transaction, path, body)
            .map(drop)
    }

    fn directory_in(&self, transaction: u32, path: &str) -> Result<Vec<String>> {
        let whole = self.ask(Kind::DIRECTORY, transaction, path, &[path]);
        if matches!(&whole, Err(e) if e.is(wire::Errno::E2BIG)) {
            return self.directory_parts(transaction, path);
        }
        let names = error::absent(whole)?.unwrap_or_default();
        Ok(names_of(&names))
    }

    /// A directory too long for one message. Read anew when it changed between two parts.
    fn directory_parts(&self, transaction: u32, path: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let mut generation = None;
        loop {
            let offset = names.len().to_string();
            let part = self.ask(Kind::DIRECTORY_PART, transaction, path, &[path, &offset])?;
            let (now, part) = wire::first(&part).ok_or_else(|| Error::nonsense(path))?;
            if generation.as_deref().is_some_and(|before| before != now) {
                names.clear();
                generation = None;
                continue;
            }
            generation = Some(now.to_owned());
            // An empty name ends the list.
            let last = part.last() == Some(&0) && (part.len() == 1 || part.ends_with(b"\0\0"));
            if part.is_empty() {
                return Err(Error::nonsense(path));
            }
            names.extend_from_slice(&part[..part.len() - usize::from(last)]);
            if last {
                return Ok(names_of(&names));
            }
        }
    }

    fn ask(&self, kind: Kind, transaction: u32, what: &str, strings: &[&str]) -> Result<Vec<u8>> {
        self.ask_bytes(kind, transaction, what, wire::join(strings))
    }

    /// Asks; `what` names the thing in errors.
    fn ask_bytes(
        &self,
        kind: Kind,
        transaction: u32,
        what: &str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>> {
        if body.len() > XENSTORE_PAYLOAD_MAX {
            return Err(Error::refused(what, wire::Errno::E2BIG));
        }
        self.connection.ask(kind, transaction, what, body)
    }
}

fn names_of(bytes: &[u8]) -> Vec<String> {
    let names = wire::split(bytes).filter(|name| !name.is_empty());
    names.map(|name| text(name.to_vec())).collect()
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}
