//! Requests and replies on the ring.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::wire::{Assembler, Errno, Kind, Message, XENSTORE_PAYLOAD_MAX, join, one, split};
use crate::event::Channel;
use crate::hypercall::Hypervisor;
use crate::ring::{Page, XenstoreClient};

/// Longest wait for a reply, in nanoseconds. The server is a process of a guest that may be busy.
const PATIENCE: u64 = 30_000_000_000;

/// Nanoseconds of silence after which the server is notified again.
const NUDGE: u64 = 50_000_000;

/// Messages that are taken before anything else is looked at: a server that sends without end must
/// not keep its guest from noticing that time is over.
const MOST_AT_ONCE: usize = 1000;

/// Different paths that are kept of one watch.
const MOST_PATHS: usize = 64;

/// Why a request came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The server said no.
    Refused(Errno),
    /// The request is longer than the protocol permits, or a path or value holds what it must not.
    Unfit,
    /// The server said nothing for half a minute.
    Late,
    /// The server said what cannot be; nothing more is asked of it.
    Broken,
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        Self::Refused(errno)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(errno) => write!(f, "xenstore: {errno}"),
            Self::Unfit => f.write_str("xenstore: such a request cannot be sent"),
            Self::Late => f.write_str("xenstore: no reply"),
            Self::Broken => f.write_str("xenstore: the server answers nonsense"),
        }
    }
}

impl core::error::Error for Error {}

/// What a connection needs of its guest.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// System time.
    pub now: fn() -> u64,
    /// Called when a watch has fired, for those who wait for anything.
    pub fired: fn(),
}

/// What a watch has reported.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pub fired: bool,
    pub paths: BTreeSet<String>,
}

/// A watch as the server is told of it, to tell it again.
#[derive(Debug)]
pub(super) struct Watched {
    pub path: String,
    pub reports: Reports,
}

/// One end of the ring.
#[derive(Debug)]
pub struct Connection<P, H: Hypervisor> {
    ring: XenstoreClient<P>,
    channel: Channel<H>,
    surroundings: Surroundings,
    assembler: Assembler,
    /// Number of the last request.
    last: u32,
    /// By token.
    pub(super) watches: BTreeMap<u32, Watched>,
    broken: bool,
}

impl<P: Page, H: Hypervisor> Connection<P, H> {
    /// A connection by its ring page and its channel.
    pub fn new(page: P, channel: Channel<H>, surroundings: Surroundings) -> Self {
        Self {
            ring: XenstoreClient::attach(page),
            channel,
            surroundings,
            assembler: Assembler::default(),
            last: 0,
            watches: BTreeMap::new(),
            broken: false,
        }
    }

    /// Asks and waits for the reply; its body.
    ///
    /// # Errors
    /// [`Error`].
    pub fn request(
        &mut self,
        kind: Kind,
        transaction: u32,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        if body.len() > XENSTORE_PAYLOAD_MAX {
            return Err(Error::Unfit);
        }
        self.last = self.last.wrapping_add(1);
        let message = Message {
            kind,
            request: self.last,
            transaction,
            body,
        };
        let deadline = (self.surroundings.now)().saturating_add(PATIENCE);
        self.send(&message.to_bytes(), deadline)?;
        loop {
            for _ in 0..MOST_AT_ONCE {
                let Some(reply) = self.next()? else { break };
                // An earlier request's may come late.
                if reply.request == self.last && reply.kind != Kind::WATCH_EVENT {
                    return self.judge(kind, reply);
                }
            }
            self.rest(deadline)?;
        }
    }

    /// Begins a watch.
    pub(super) fn watch(&mut self, path: &str, token: u32) -> Result<(), Error> {
        let body = join([path, &format!("{token}")]);
        self.request(Kind::WATCH, 0, body).map(drop)
    }

    /// The guest was restored: goes on with another server, which knows nothing, by the same page.
    /// No request is under way. Watches begin anew, and each fires, as they all do then.
    ///
    /// # Errors
    /// The first watch's that could not begin; the others are tried all the same.
    pub(super) fn renew(&mut self, page: P, channel: Channel<H>) -> Result<(), Error> {
        self.ring = XenstoreClient::attach(page);
        self.channel = channel;
        self.assembler = Assembler::default();
        self.broken = false;
        // What the last server had begun to say is not followed by the rest.
        while self.ring.take(&mut [0; 256]).map_err(|_| self.give_up())? > 0 {}
        let watches: Vec<(u32, String)> = self
            .watches
            .iter()
            .map(|(token, watched)| (*token, watched.path.clone()))
            .collect();
        let begun = watches.iter().map(|(token, path)| self.watch(path, *token));
        begun.fold(Ok(()), Result::and)
    }

    /// A reply's body, if it is of the request's kind.
    fn judge(&mut self, kind: Kind, reply: Message) -> Result<Vec<u8>, Error> {
        if reply.kind == kind {
            return Ok(reply.body);
        }
        let errno = (reply.kind == Kind::ERROR)
            .then(|| one(&reply.body).and_then(Errno::of_name))
            .flatten();
        match errno {
            Some(errno) => Err(Error::Refused(errno)),
            None => Err(self.give_up()),
        }
    }

    fn give_up(&mut self) -> Error {
        self.broken = true;
        Error::Broken
    }

    fn send(&mut self, mut bytes: &[u8], deadline: u64) -> Result<(), Error> {
        loop {
            let Ok(count) = self.ring.put(bytes) else {
                return Err(self.give_up());
            };
            if count > 0 {
                self.channel.notify();
            }
            bytes = bytes.get(count..).unwrap_or_default();
            if bytes.is_empty() {
                return Ok(());
            }
            // Replies and events make room on the server's side.
            self.pump()?;
            if let Err(late) = self.rest(deadline) {
                // Half a request is in the ring: nothing may follow it.
                self.broken = true;
                return Err(late);
            }
        }
    }

    /// Waits for the server. Its events alone are no answer, however many there are.
    fn rest(&mut self, deadline: u64) -> Result<(), Error> {
        let now = self.surroundings.now;
        let time = now();
        if time >= deadline {
            return Err(Error::Late);
        }
        let until = time.saturating_add(NUDGE).min(deadline);
        if !self.channel.wait(Some(until), now) {
            self.channel.notify();
        }
        Ok(())
    }

    /// Takes what the server has sent into the assembler.
    fn pump(&mut self) -> Result<(), Error> {
        let mut buffer = [0; 256];
        loop {
            match self.ring.take(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => {
                    self.channel.notify();
                    self.assembler.push(buffer.get(..count).unwrap_or_default());
                }
                Err(_) => return Err(self.give_up()),
            }
            if self.assembler.rest().len() > 2 * Assembler::MOST {
                // Enough for now; whole messages come out first.
                return Ok(());
            }
        }
    }

    /// The next message that is whole; events are kept with their watches.
    fn next(&mut self) -> Result<Option<Message>, Error> {
        self.pump()?;
        match self.assembler.next() {
            Ok(Some(message)) => {
                if message.kind == Kind::WATCH_EVENT {
                    self.report(&message.body);
                }
                Ok(Some(message))
            }
            Ok(None) => Ok(None),
            Err(_) => Err(self.give_up()),
        }
    }

    /// Keeps what watches report, without waiting.
    ///
    /// # Errors
    /// [`Error::Broken`].
    pub(super) fn listen(&mut self) -> Result<(), Error> {
        if self.broken {
            return Err(Error::Broken);
        }
        // Replies here are late ones, of requests that were given up. What is left comes next time.
        for _ in 0..MOST_AT_ONCE {
            if self.next()?.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// An event: path and token. One of no watch of ours is of one that has just ended.
    fn report(&mut self, body: &[u8]) {
        let mut strings = split(body).map(core::str::from_utf8);
        let (Some(Ok(path)), Some(Ok(token))) = (strings.next(), strings.next()) else {
            return;
        };
        let token = token.parse().ok();
        if let Some(watched) = token.and_then(|token: u32| self.watches.get_mut(&token)) {
            let reports = &mut watched.reports;
            reports.fired = true;
            if reports.paths.len() < MOST_PATHS {
                reports.paths.insert(path.into());
            }
            (self.surroundings.fired)();
        }
    }
}
