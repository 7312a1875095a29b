//! The connection: comes together with the backend, and carries one request at a time.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::wire::{self, HEADER, Reader, Writer};
use super::{Error, Misbehaviour};
use crate::device::handshake::{Action, Link, Phase};
use crate::device::xenbus::{Fault, State};
use crate::device::{Access, Channel, Platform, Refused, SharedPage};
use crate::ring::{FilesClient, MOST_ORDER};

/// How files are to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Pages of both rings, as a power of two, if the backend takes as many: messages are at most
    /// half as long.
    pub order: u32,
    /// How long to wait for an answer.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            order: 5,
            patience: Duration::from_secs(30),
        }
    }
}

/// Least that a message must be able to have: a walk of as many long names as one has.
const LEAST: usize = 2048;

/// The rings, while there are some.
struct Rings<P: Platform> {
    ring: FilesClient<P::Page>,
    channel: P::Channel,
    /// What came of the next answer.
    partial: Vec<u8>,
    /// Of the last request.
    tag: u16,
}

/// Files of another domain.
pub struct Files<P: Platform> {
    link: Link<P>,
    options: Options,
    rings: Option<Rings<P>>,
    /// Bytes of the longest message, once a dialect is agreed on.
    pub(super) most: usize,
    /// Counts connections: files of an earlier one are of no use now.
    pub(super) epoch: u32,
    /// Numbers of files: those that were given back, and the next that never was used.
    pub(super) free: Vec<u32>,
    pub(super) next: u32,
}

impl<P: Platform> fmt::Debug for Files<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Files({:?})", self.link)
    }
}

impl<P: Platform> Files<P> {
    /// The files whose nodes the toolstack has made in `home`, as `device/9pfs/0`. They are not
    /// connected yet.
    ///
    /// # Errors
    /// [`Error::Nodes`]: there is no such device.
    pub fn open(platform: P, home: &str, options: Options) -> Result<Self, Error> {
        Ok(Self {
            link: Link::open(platform, home)?,
            options,
            rings: None,
            most: 0,
            epoch: 0,
            free: Vec::new(),
            next: 0,
        })
    }

    /// The surroundings.
    pub const fn platform(&self) -> &P {
        self.link.half().platform()
    }

    /// Waits until the backend is connected and shows its root.
    ///
    /// # Errors
    /// [`Error::TimedOut`], and those of the connection.
    pub fn connect(&mut self) -> Result<(), Error> {
        let until = self.deadline();
        loop {
            self.follow()?;
            match self.link.phase() {
                Phase::Connected => break,
                Phase::Closed => return Err(Error::Disconnected),
                _ if self.platform().now() >= until => return Err(Error::TimedOut),
                _ => self.platform().wait(until),
            }
        }
        if self.most == 0 {
            let begun = self.begin();
            if begun.is_err() {
                self.most = 0;
            }
            begun?;
        }
        Ok(())
    }

    /// Connects anew: after an error, or to a backend that was started anew.
    ///
    /// # Errors
    /// [`Error::Nodes`]: the store.
    pub fn reconnect(&mut self) -> Result<(), Error> {
        self.drop_rings();
        Ok(self.link.leave()?)
    }

    /// The guest was restored: the backend is another one, and knows no file of the old one's.
    fn follow_guest(&mut self) -> Result<(), Error> {
        self.drop_rings();
        Ok(self.link.moved()?)
    }

    /// Ends the connection for good.
    pub fn end(mut self) {
        self.fail(Error::Disconnected);
    }

    fn deadline(&self) -> Duration {
        self.platform().now().saturating_add(self.options.patience)
    }

    /// Does what the backend's state asks for, until it asks for nothing more.
    fn follow(&mut self) -> Result<(), Error> {
        // Each step goes on towards an end; more of them than there are phases is no progress.
        for _ in 0..5 {
            let done = match self.link.due()? {
                Action::Nothing | Action::Begin | Action::Refresh => return Ok(()),
                Action::Publish => self.publish(),
                Action::Finish => self.link.connected().map_err(Error::from),
                Action::Close => return Err(self.fail(Error::Disconnected)),
                Action::Leave => self.reconnect(),
                Action::Move => self.follow_guest(),
            };
            match done {
                Ok(()) => {}
                // An answer that the store owes can still come.
                Err(error @ (Error::Nodes(Fault::Refused(_)) | Error::Exhausted)) => {
                    return Err(error);
                }
                Err(error) => return Err(self.fail(error)),
            }
        }
        Ok(())
    }

    /// Makes rings and tells the backend where they are.
    fn publish(&mut self) -> Result<(), Error> {
        let half = self.link.half();
        let versions = half.peer_text("versions")?;
        let versions = versions.ok_or(Fault::Missing("versions"))?;
        if !versions.split(',').any(|version| version.trim() == "1") {
            return Err(Fault::Bad("versions").into());
        }
        let offered = half.peer_number("max-ring-page-order")?.unwrap_or(1);
        let order = self.options.order.min(offered).clamp(1, MOST_ORDER);
        let (platform, peer) = (half.platform(), half.peer());
        let share = || platform.share(peer, Access::Write);
        let indices = share()?;
        let bytes: Vec<P::Page> = (0..1 << order).map(|_| share()).collect::<Result<_, _>>()?;
        let rings = Rings {
            ring: FilesClient::new(indices, bytes, |page| page.grant().0),
            channel: platform.offer(peer)?,
            partial: Vec::new(),
            tag: 0,
        };
        self.announce(&rings)?;
        self.rings = Some(rings);
        Ok(self.link.published(State::Initialised)?)
    }

    fn announce(&self, rings: &Rings<P>) -> Result<(), Refused> {
        let half = self.link.half();
        half.put("version", 1)?;
        half.put("num-rings", 1)?;
        half.put("ring-ref0", rings.ring.indices().grant().0)?;
        half.put("event-channel-0", rings.channel.port().0)
    }

    /// Agrees on the dialect and the longest message, and attaches to the root, which is file 0.
    fn begin(&mut self) -> Result<(), Error> {
        self.epoch = self.epoch.wrapping_add(1);
        (self.next, self.most) = (1, 0);
        self.free.clear();
        let size = self.rings.as_ref().map_or(0, |rings| rings.ring.size());
        // At most 1 MiB.
        let asked = Writer::new(wire::VERSIONS, wire::NO_TAG)
            .u32(size as u32)
            .text(wire::VERSION);
        let answer = self.exchange(wire::VERSIONS, wire::NO_TAG, asked, size)?;
        let mut reader = Reader(&answer);
        let agreed = (|| Ok((reader.u32()?, reader.text()?, reader.end()?)))();
        let (most, version, ()) = self.sound(agreed)?;
        let most = most as usize;
        if version != wire::VERSION.as_bytes() {
            return Err(self.fail(Error::Misbehaved(Misbehaviour::Version)));
        }
        if !(LEAST..=size).contains(&most) {
            return Err(self.fail(Error::Misbehaved(Misbehaviour::Length)));
        }
        self.most = most;
        self.ask(wire::ATTACH, |request| {
            request.u32(0).u32(wire::NO_FID).text("").text("").u32(0)
        })
        .map(drop)
    }

    /// Asks, and waits for the answer: what follows its header.
    pub(super) fn ask(
        &mut self,
        kind: u8,
        fill: impl FnOnce(Writer) -> Writer,
    ) -> Result<Vec<u8>, Error> {
        let Some(rings) = self.rings.as_mut().filter(|_| self.most > 0) else {
            return Err(Error::Disconnected);
        };
        rings.tag = (rings.tag + 1) % wire::NO_TAG;
        let tag = rings.tag;
        self.exchange(kind, tag, fill(Writer::new(kind, tag)), self.most)
    }

    fn exchange(
        &mut self,
        kind: u8,
        tag: u16,
        request: Writer,
        most: usize,
    ) -> Result<Vec<u8>, Error> {
        let until = self.deadline();
        let request = request.finish();
        let mut sent = 0;
        loop {
            self.follow()?;
            let Some(rings) = &mut self.rings else {
                return Err(Error::Disconnected);
            };
            match rings.go_on(&request, &mut sent, most) {
                Ok(None) => {}
                Ok(Some(answer)) => return self.judge(kind, tag, &answer),
                Err(error) => return Err(self.fail(error)),
            }
            if self.platform().now() >= until {
                // A late answer must be none to the next request.
                return Err(self.fail(Error::TimedOut));
            }
            self.platform().wait(until);
        }
    }

    /// What follows an answer's header, if it is one to this request.
    fn judge(&mut self, kind: u8, tag: u16, answer: &[u8]) -> Result<Vec<u8>, Error> {
        let mut reader = Reader(answer);
        let header = (|| Ok((reader.u32()?, reader.u8()?, reader.u16()?)))();
        let (_, found, of) = self.sound(header)?;
        if of != tag {
            return Err(self.fail(Error::Misbehaved(Misbehaviour::Kind)));
        }
        if found == wire::REFUSED {
            let errno = (|| Ok((reader.u32()?, reader.end()?)))();
            let (errno, ()) = self.sound(errno)?;
            return Err(Error::Refused(errno));
        }
        if found != kind + 1 {
            return Err(self.fail(Error::Misbehaved(Misbehaviour::Kind)));
        }
        Ok(reader.0.to_vec())
    }

    /// What an answer told, or the connection's end because it is damaged.
    pub(super) fn sound<T>(&mut self, read: Result<T, wire::Malformed>) -> Result<T, Error> {
        read.map_err(|malformed| self.fail(malformed.into()))
    }

    /// Ends the connection for a reason, which it returns.
    pub(super) fn fail(&mut self, error: Error) -> Error {
        self.drop_rings();
        self.link.closed();
        error
    }

    fn drop_rings(&mut self) {
        self.most = 0;
        self.rings = None;
    }
}

impl<P: Platform> Rings<P> {
    /// Sends what fits, and takes what has come: an answer, once it is there as a whole.
    fn go_on(
        &mut self,
        request: &[u8],
        sent: &mut usize,
        most: usize,
    ) -> Result<Option<Vec<u8>>, Error> {
        let count = self.ring.put(&request[*sent..])?;
        *sent += count;
        if count > 0 {
            self.channel.notify();
        }
        let mut came = false;
        let whole = loop {
            let at = self.partial.len();
            let wanted = self.wanted(most)?;
            if at > size_of::<u32>() && at == wanted {
                break Some(core::mem::take(&mut self.partial));
            }
            let mut more = vec![0; wanted.saturating_sub(at)];
            let count = self.ring.take(&mut more)?;
            if count == 0 {
                break None;
            }
            came = true;
            self.partial.extend_from_slice(&more[..count]);
        };
        if came {
            // There is room for more.
            self.channel.notify();
        }
        Ok(whole)
    }

    /// How many bytes there must be to go on: those of the length, and then as many as it says.
    fn wanted(&self, most: usize) -> Result<usize, Error> {
        let Some(length) = self.partial.first_chunk().copied() else {
            return Ok(size_of::<u32>());
        };
        let length = u32::from_le_bytes(length) as usize;
        if (HEADER..=most).contains(&length) {
            Ok(length)
        } else {
            Err(Error::Misbehaved(Misbehaviour::Length))
        }
    }
}
