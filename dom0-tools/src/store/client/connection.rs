//! The stream to the server, shared by threads.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::{Error, Event, Result};
use crate::store::wire::{Assembler, Errno, Kind, Message, one, split};

/// Where daemons listen.
const SOCKETS: [&str; 2] = ["/run/xenstored/socket", "/var/run/xenstored/socket"];
/// The kernel's way to a daemon, wherever that runs.
const DEVICES: [&str; 2] = ["/dev/xen/xenbus", "/proc/xen/xenbus"];

/// One stream, one reader thread.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    shared: Arc<Mutex<Shared>>,
}

/// What asking threads and the reader share.
#[derive(Debug, Default)]
struct Shared {
    next: u32,
    waiting: HashMap<u32, Sender<Message>>,
    watches: HashMap<String, Sender<Event>>,
    closed: bool,
}

#[derive(Debug)]
enum Stream {
    Socket(UnixStream),
    // Its reader ends only with the process: the kernel does not wake it.
    Device(Arc<File>),
}

impl Connection {
    pub fn open() -> Result<Self> {
        if let Some(path) = std::env::var_os("XENSTORED_PATH") {
            return Self::at(Path::new(&path));
        }
        let mut first = None;
        for path in SOCKETS {
            match Self::at(Path::new(path)) {
                Ok(connection) => return Ok(connection),
                Err(e) => first = first.or(Some(e)),
            }
        }
        for path in DEVICES {
            if let Ok(device) = OpenOptions::new().read(true).write(true).open(path) {
                let device = Arc::new(device);
                return Ok(Self::start(Stream::Device(device.clone()), device));
            }
        }
        Err(first.unwrap_or(Error::Closed))
    }

    pub fn at(path: &Path) -> Result<Self> {
        let connect = || {
            let socket = UnixStream::connect(path)?;
            Ok((socket.try_clone()?, socket))
        };
        let (socket, reader) = connect().map_err(|source: io::Error| Error::Unreachable {
            place: path.display().to_string(),
            source,
        })?;
        Ok(Self::start(Stream::Socket(socket), reader))
    }

    fn start<R>(stream: Stream, from: R) -> Self
    where
        R: ReadFrom + Send + 'static,
    {
        let shared = Arc::<Mutex<Shared>>::default();
        let theirs = shared.clone();
        thread::spawn(move || {
            // The end of the stream and its errors are the same to those who wait.
            let _ = receive(&from, &theirs);
            lock(&theirs).close();
        });
        Self { stream, shared }
    }

    /// Sends a request and waits for its reply.
    pub fn ask(&self, kind: Kind, transaction: u32, what: &str, body: Vec<u8>) -> Result<Vec<u8>> {
        let (sender, receiver) = mpsc::channel();
        {
            // Held while writing, so that requests do not mix.
            let mut shared = lock(&self.shared);
            if shared.closed {
                return Err(Error::Closed);
            }
            shared.next = shared.next.wrapping_add(1);
            let request = shared.next;
            shared.waiting.insert(request, sender);
            let message = Message {
                kind,
                request,
                transaction,
                body,
            };
            if self.stream.send(&message.to_bytes()).is_err() {
                shared.waiting.remove(&request);
                return Err(Error::Closed);
            }
        }
        let reply = receiver.recv().map_err(|_| Error::Closed)?;
        if reply.kind == kind {
            return Ok(reply.body);
        }
        let errno = one(&reply.body).and_then(Errno::of_name);
        match errno {
            Some(errno) if reply.kind == Kind::ERROR => Err(Error::refused(what, errno)),
            _ => Err(Error::nonsense(what)),
        }
    }

    /// A token that no other watch has, and where its events come.
    pub fn new_token(&self) -> (String, Receiver<Event>) {
        let mut shared = lock(&self.shared);
        shared.next = shared.next.wrapping_add(1);
        let token = format!("ox-{}", shared.next);
        let (sender, receiver) = mpsc::channel();
        if !shared.closed {
            shared.watches.insert(token.clone(), sender);
        }
        (token, receiver)
    }

    pub fn forget_token(&self, token: &str) {
        lock(&self.shared).watches.remove(token);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Stream::Socket(socket) = &self.stream {
            // Ends the reader.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Stream {
    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Socket(socket) => (&*socket).write_all(bytes),
            Self::Device(device) => (&**device).write_all(bytes),
        }
    }
}

impl Shared {
    /// Nobody gets anything any more.
    fn close(&mut self) {
        self.closed = true;
        self.waiting.clear();
        self.watches.clear();
    }

    fn take(&mut self, message: Message) {
        if message.kind != Kind::WATCH_EVENT {
            if let Some(asker) = self.waiting.remove(&message.request) {
                let _ = asker.send(message);
            }
            return;
        }
        let strings: Vec<&[u8]> = split(&message.body).collect();
        let &[path, token, ..] = &strings[..] else {
            return;
        };
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if let Some(watch) = self.watches.get(&text(token)) {
            let _ = watch.send(Event { path: text(path) });
        }
    }
}

/// A stream of which clones read.
trait ReadFrom {
    fn read_from(&self, into: &mut [u8]) -> io::Result<usize>;
}

impl ReadFrom for UnixStream {
    fn read_from(&self, into: &mut [u8]) -> io::Result<usize> {
        (&*self).read(into)
    }
}

impl ReadFrom for Arc<File> {
    fn read_from(&self, into: &mut [u8]) -> io::Result<usize> {
        (&**self).read(into)
    }
}

fn receive(from: &impl ReadFrom, shared: &Mutex<Shared>) -> io::Result<()> {
    let mut assembler = Assembler::default();
    let mut buffer = vec![0; 8192];
    loop {
        let count = match from.read_from(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        assembler.push(&buffer[..count]);
        while let Some(message) = assembler.next().map_err(io::Error::other)? {
            lock(shared).take(message);
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
