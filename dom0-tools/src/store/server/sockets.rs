//! Unix sockets of programs in dom0.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use super::super::core::{ConnectionId, Origin, Store};
use super::super::wire::{Assembler, Message};
use super::StartError;

/// Clients at once; more wait in the kernel's queue.
const MOST_CLIENTS: usize = 512;
/// Bytes that may wait for a client before it is given up.
const MOST_WAITING: usize = 16 << 20;

/// Listening sockets, and who came.
#[derive(Debug)]
pub(super) struct Sockets {
    pub listeners: Vec<(UnixListener, bool)>,
    pub clients: BTreeMap<ConnectionId, Client>,
}

/// A program.
#[derive(Debug)]
pub(super) struct Client {
    pub stream: UnixStream,
    assembler: Assembler,
    /// It has sent something, or ended.
    pub readable: bool,
    /// It cannot be served any more.
    pub over: bool,
}

impl Sockets {
    /// Listens in a folder.
    pub fn listen(folder: &Path) -> Result<Self, StartError> {
        let sockets = [("socket", 0o600, false), ("socket_ro", 0o660, true)];
        let mut listeners = Vec::new();
        for (name, mode, read_only) in sockets {
            let path = folder.join(name);
            if UnixStream::connect(&path).is_ok() {
                return Err(StartError::Served(path));
            }
            let listener = listen(folder, &path, mode).map_err(|source| StartError::System {
                what: path.display().to_string(),
                source,
            })?;
            listeners.push((listener, read_only));
        }
        let clients = BTreeMap::new();
        Ok(Self { listeners, clients })
    }

    /// Whether another client may come.
    pub fn has_room(&self) -> bool {
        self.clients.len() < MOST_CLIENTS
    }

    /// Lets those in who wait at a listener.
    pub fn accept(&mut self, listener: usize, store: &mut Store) {
        let (listener, read_only) = &self.listeners[listener];
        while self.clients.len() < MOST_CLIENTS {
            let Ok((stream, _)) = listener.accept() else {
                return;
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let read_only = *read_only;
            let id = store.connect(Origin::Socket { read_only });
            let client = Client {
                stream,
                assembler: Assembler::default(),
                readable: false,
                over: false,
            };
            self.clients.insert(id, client);
        }
    }

    /// Sends what waits, and lets those go that are over.
    pub fn flush(&mut self, store: &mut Store) {
        self.clients.retain(|&id, client| {
            client.send(id, store);
            if client.over {
                store.disconnect(id);
            }
            !client.over
        });
    }
}

fn listen(folder: &Path, path: &Path, mode: u32) -> io::Result<UnixListener> {
    fs::create_dir_all(folder)?;
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Client {
    /// The next request, if it is whole.
    pub fn next(&mut self) -> Option<Message> {
        loop {
            match self.assembler.next() {
                Ok(Some(message)) => return Some(message),
                Ok(None) => {}
                Err(_) => {
                    self.over = true;
                    return None;
                }
            }
            if !self.readable {
                return None;
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes) {
                Ok(0) => self.over = true,
                Ok(count) => {
                    self.assembler.push(&bytes[..count]);
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(_) => self.over = true,
            }
            return None;
        }
    }

    fn send(&mut self, id: ConnectionId, store: &mut Store) {
        while let Some(bytes) = store.output(id) {
            match self.stream.write(bytes) {
                Ok(count) => store.sent(id, count),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.over |= store.waiting(id) > MOST_WAITING;
                    return;
                }
                Err(_) => {
                    self.over = true;
                    return;
                }
            }
        }
    }
}
