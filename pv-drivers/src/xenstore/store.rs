//! The store for a whole guest.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use spin::mutex::{SpinMutex, SpinMutexGuard};

use super::connection::{Connection, Error, Reports, Watched};
use super::wire::{Errno, Kind, join, one, split};
use crate::event::Channel;
use crate::hypercall::Hypervisor;
use crate::ring::Page;

/// Tries of a transaction that others keep disturbing.
const TRIES: u32 = 64;

/// Parts of one list: of 4 KiB each, so that no server can fill the guest's memory.
const MOST_PARTS: u32 = 256;

/// Nodes with values, arranged as a tree of paths. A path that does not begin with `/` is below the
/// guest's own `/local/domain/N/`.
pub struct Store<P, H: Hypervisor> {
    connection: SpinMutex<Connection<P, H>>,
    hypervisor: H,
}

impl<P, H: Hypervisor> fmt::Debug for Store<P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

/// A request's strings; none may hold a zero.
fn strings(parts: &[&str]) -> Result<Vec<u8>, Error> {
    if parts.iter().any(|part| part.contains('\0')) {
        return Err(Error::Unfit);
    }
    Ok(join(parts))
}

/// A path with its zero, then a value as it is.
fn path_and_value(path: &str, value: &[u8]) -> Result<Vec<u8>, Error> {
    let mut body = strings(&[path])?;
    body.extend_from_slice(value);
    Ok(body)
}

impl<P: Page, H: Hypervisor> Store<P, H> {
    /// The store behind a connection.
    pub const fn new(connection: Connection<P, H>, hypervisor: H) -> Self {
        Self {
            connection: SpinMutex::new(connection),
            hypervisor,
        }
    }

    /// The connection, for one request. Who holds it may sleep, so nobody spins for it.
    fn connection(&self) -> SpinMutexGuard<'_, Connection<P, H>> {
        loop {
            if let Some(connection) = self.connection.try_lock() {
                return connection;
            }
            self.hypervisor.yield_now();
        }
    }

    fn ask(&self, kind: Kind, transaction: u32, body: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.connection().request(kind, transaction, body)
    }

    /// What single requests are made by.
    const fn alone(&self) -> Transaction<'_, P, H> {
        Transaction { store: self, id: 0 }
    }

    /// The guest was restored: the same page now leads to another server. Watches go on, each as
    /// if it had just fired; a transaction that was open is over.
    ///
    /// # Errors
    /// That of the first watch that the server did not take.
    pub fn renew(&self, page: P, channel: Channel<H>) -> Result<(), Error> {
        self.connection().renew(page, channel)
    }

    /// The value of a node: any bytes.
    ///
    /// # Errors
    /// `ENOENT`: no such node; `EACCES`: not for this guest; others: [`Error`].
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        self.alone().read(path)
    }

    /// The value of a node, as text.
    ///
    /// # Errors
    /// As [`read`](Self::read); `EINVAL`: it is no UTF-8.
    pub fn read_text(&self, path: &str) -> Result<String, Error> {
        String::from_utf8(self.read(path)?).map_err(|_| Error::Refused(Errno::EINVAL))
    }

    /// The names of a node's children.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn list(&self, path: &str) -> Result<Vec<String>, Error> {
        self.alone().list(path)
    }

    /// Sets a node's value, and makes the node and those above it.
    ///
    /// # Errors
    /// `EACCES`: not for this guest; `ENOSPC`: a quota is used up; others: [`Error`].
    pub fn write(&self, path: &str, value: &[u8]) -> Result<(), Error> {
        self.alone().write(path, value)
    }

    /// Removes a node and all below it.
    ///
    /// # Errors
    /// `ENOENT`: no such node; others: as [`write`](Self::write).
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        self.alone().remove(path)
    }

    /// Sets who may use a node: words as `n3` (owner domain 3, nobody else), `r0` (domain 0 reads).
    ///
    /// # Errors
    /// `EACCES`: not for this guest; `EINVAL`: no such words; others: [`Error`].
    pub fn set_permissions(&self, path: &str, words: &[&str]) -> Result<(), Error> {
        let mut parts = Vec::from([path]);
        parts.extend_from_slice(words);
        self.ask(Kind::SET_PERMS, 0, strings(&parts)?).map(drop)
    }

    /// Runs `work` so that what it does happens at once or not at all, again and again as long as
    /// others change what it uses.
    ///
    /// # Errors
    /// `EAGAIN`: others do not let up; `work`'s, after which nothing is done; others: [`Error`].
    pub fn transaction<T>(
        &self,
        mut work: impl FnMut(&Transaction<'_, P, H>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        for _ in 0..TRIES {
            let id = self.ask(Kind::TRANSACTION_START, 0, strings(&[""])?)?;
            let id = one(&id).and_then(|id| id.parse().ok());
            let transaction = Transaction {
                store: self,
                id: id.filter(|&id| id != 0).ok_or(Error::Broken)?,
            };
            let done = work(&transaction);
            let verdict = if done.is_ok() { "T" } else { "F" };
            let ended = self.ask(Kind::TRANSACTION_END, transaction.id, strings(&[verdict])?);
            let done = done?;
            match ended {
                Ok(_) => return Ok(done),
                Err(Error::Refused(Errno::EAGAIN)) => {}
                Err(why) => return Err(why),
            }
        }
        Err(Error::Refused(Errno::EAGAIN))
    }

    /// Watches a node and all below it. It has fired once from the beginning.
    ///
    /// # Errors
    /// `E2BIG`: too many watches; others: [`Error`].
    pub fn watch(&self, path: &str) -> Result<Watch<'_, P, H>, Error> {
        let mut connection = self.connection();
        let used = connection.watches.keys();
        // The lowest number that no watch has.
        let token = (0..).zip(used).find(|(n, used)| n != *used);
        let token = token.map_or(connection.watches.len() as u32, |(n, _)| n);
        if path.contains('\0') {
            return Err(Error::Unfit);
        }
        let watched = Watched {
            path: path.into(),
            reports: Reports::default(),
        };
        connection.watches.insert(token, watched);
        if let Err(why) = connection.watch(path, token) {
            connection.watches.remove(&token);
            return Err(why);
        }
        Ok(Watch {
            store: self,
            path: path.into(),
            token,
        })
    }
}

/// Changes that happen at once or not at all; see [`Store::transaction`].
pub struct Transaction<'s, P, H: Hypervisor> {
    store: &'s Store<P, H>,
    id: u32,
}

impl<P, H: Hypervisor> fmt::Debug for Transaction<'_, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Transaction").field(&self.id).finish()
    }
}

impl<P: Page, H: Hypervisor> Transaction<'_, P, H> {
    fn ask(&self, kind: Kind, body: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.store.ask(kind, self.id, body)
    }

    /// As [`Store::read`].
    ///
    /// # Errors
    /// The same.
    pub fn read(&self, path: &str) -> Result<Vec<u8>, Error> {
        self.ask(Kind::READ, strings(&[path])?)
    }

    /// As [`Store::list`].
    ///
    /// # Errors
    /// The same.
    pub fn list(&self, path: &str) -> Result<Vec<String>, Error> {
        match self.ask(Kind::DIRECTORY, strings(&[path])?) {
            Ok(body) => Ok(names(&body)),
            Err(Error::Refused(Errno::E2BIG)) => self.list_in_parts(path),
            Err(why) => Err(why),
        }
    }

    /// A list longer than a message: parts, which must be of the same generation.
    fn list_in_parts(&self, path: &str) -> Result<Vec<String>, Error> {
        let mut list = Vec::new();
        let mut generation = Vec::new();
        for _ in 0..MOST_PARTS {
            let body = strings(&[path, &format!("{}", list.len())])?;
            let part = self.ask(Kind::DIRECTORY_PART, body)?;
            let zero = part.iter().position(|&byte| byte == 0);
            let (now, rest) = part.split_at(zero.ok_or(Error::Broken)?);
            let rest = rest.get(1..).unwrap_or_default();
            if !list.is_empty() && generation != now {
                list.clear();
                continue;
            }
            generation = now.to_vec();
            list.extend_from_slice(rest);
            // An empty name ends the last part.
            if rest.is_empty() || list == [0] || list.ends_with(&[0, 0]) {
                list.pop();
                return Ok(names(&list));
            }
        }
        Err(Error::Refused(Errno::EAGAIN))
    }

    /// As [`Store::write`].
    ///
    /// # Errors
    /// The same.
    pub fn write(&self, path: &str, value: &[u8]) -> Result<(), Error> {
        self.ask(Kind::WRITE, path_and_value(path, value)?)
            .map(drop)
    }

    /// As [`Store::remove`].
    ///
    /// # Errors
    /// The same.
    pub fn remove(&self, path: &str) -> Result<(), Error> {
        self.ask(Kind::RM, strings(&[path])?).map(drop)
    }
}

fn names(body: &[u8]) -> Vec<String> {
    split(body)
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect()
}

/// A watch; ends when dropped.
pub struct Watch<'s, P: Page, H: Hypervisor> {
    store: &'s Store<P, H>,
    path: String,
    token: u32,
}

impl<P: Page, H: Hypervisor> fmt::Debug for Watch<'_, P, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch").field(&self.path).finish()
    }
}

impl<P: Page, H: Hypervisor> Watch<'_, P, H> {
    /// Whether something at or below the path may have changed since this was asked last.
    #[must_use]
    pub fn fired(&self) -> bool {
        self.take().0
    }

    /// The paths that have changed since this was asked last; `None` if nothing has. Of very many,
    /// some.
    #[must_use]
    pub fn changes(&self) -> Option<Vec<String>> {
        let (fired, paths) = self.take();
        fired.then_some(paths)
    }

    fn take(&self) -> (bool, Vec<String>) {
        let mut connection = self.store.connection();
        // A broken connection shows at the next request.
        let _ = connection.listen();
        let Some(watched) = connection.watches.get_mut(&self.token) else {
            return (false, Vec::new());
        };
        let reports = core::mem::take(&mut watched.reports);
        (reports.fired, reports.paths.into_iter().collect())
    }
}

impl<P: Page, H: Hypervisor> Drop for Watch<'_, P, H> {
    fn drop(&mut self) {
        let mut connection = self.store.connection();
        if let Ok(body) = strings(&[&self.path, &format!("{}", self.token)]) {
            // A server that refuses has no such watch.
            let _ = connection.request(Kind::UNWATCH, 0, body);
        }
        connection.watches.remove(&self.token);
    }
}
