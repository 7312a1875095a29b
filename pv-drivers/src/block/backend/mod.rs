//! Serves a disk to another domain.
//!
//! A [`Server`] stands between one frontend and a [`Medium`]. It copies data by grants and maps
//! only rings, so a frontend that takes its grants back, or lies, gets errors and harms nobody.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::SECTOR;
use crate::device::directory::Backend;
pub use crate::device::handshake::FrontendError as Error;
use crate::device::handshake::{Duty, Service};
use crate::device::xenbus::{Fault, State};
use crate::device::{Channel, DomId, Foreign, GrantRef, Port, Store};
use crate::ring::BackRing;
use xen_abi::blkif::{BlkifRequest, BlkifResponse, VDISK_READONLY};

mod request;

/// A medium did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediumError {
    /// It tried and failed.
    Failed,
    /// It cannot.
    Unsupported,
}

/// What keeps sectors of 512 bytes.
pub trait Medium {
    /// How many.
    fn sectors(&self) -> u64;

    /// Whether none can be written.
    fn is_read_only(&self) -> bool {
        false
    }

    /// Whether sectors can be given up.
    fn discards(&self) -> bool {
        false
    }

    /// Reads sectors; the range lies within the medium.
    ///
    /// # Errors
    /// [`MediumError`].
    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), MediumError>;

    /// Writes sectors; the range lies within the medium, which is not read-only.
    ///
    /// # Errors
    /// [`MediumError`].
    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), MediumError>;

    /// Makes durable what was written.
    ///
    /// # Errors
    /// [`MediumError`].
    fn flush(&mut self) -> Result<(), MediumError>;

    /// Gives sectors up; the range lies within the medium.
    ///
    /// # Errors
    /// [`MediumError`].
    fn discard(&mut self, sector: u64, count: u64) -> Result<(), MediumError> {
        let _ = (sector, count);
        Err(MediumError::Unsupported)
    }
}

/// What is offered to the frontend.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rings that it may use.
    pub queues: usize,
    /// Pages of one of its requests; Linux asks for 32 or more.
    pub segments: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queues: 4,
            segments: 256,
        }
    }
}

struct Queue<P: Foreign> {
    ring: BackRing<BlkifRequest, BlkifResponse, P::Mapped>,
    channel: P::Bound,
}

/// One disk for one frontend.
pub struct Server<P: Foreign + Store, M> {
    service: Service<P>,
    options: Options,
    medium: M,
    queues: Vec<Queue<P>>,
    /// Where data is on its way.
    scratch: Vec<u8>,
}

impl<P: Foreign + Store, M> fmt::Debug for Server<P, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({:?})", self.service)
    }
}

impl<P: Foreign + Store, M: Medium> Server<P, M> {
    /// Offers a medium through the nodes that the toolstack has made in `home`, as
    /// `backend/vbd/3/51712`.
    ///
    /// # Errors
    /// [`Error::Nodes`]: there is no such device.
    pub fn open(platform: P, home: &str, medium: M, options: Options) -> Result<Self, Error> {
        let mut this = Self {
            service: Service::open(platform, home)?,
            options,
            medium,
            queues: Vec::new(),
            scratch: Vec::new(),
        };
        this.follow()?;
        Ok(this)
    }

    /// What it keeps.
    pub const fn medium(&self) -> &M {
        &self.medium
    }

    /// What it keeps, to be changed.
    pub const fn medium_mut(&mut self) -> &mut M {
        &mut self.medium
    }

    /// Whether a frontend is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.service.state() == State::Connected
    }

    /// Says what there is to offer.
    fn offer(&mut self) -> Result<(), Error> {
        let info = if self.medium.is_read_only() {
            VDISK_READONLY
        } else {
            0
        };
        let half = self.service.half();
        half.put("sectors", self.medium.sectors())?;
        half.put("sector-size", SECTOR)?;
        half.put("info", info)?;
        half.put("feature-flush-cache", 1)?;
        half.put("feature-discard", u8::from(self.medium.discards()))?;
        half.put("feature-max-indirect-segments", self.options.segments)?;
        half.put("multi-queue-max-queues", self.options.queues)?;
        Ok(self.service.switch(State::InitWait)?)
    }

    /// Comes together with the frontend and does what it asks for; does not wait. Call it when an
    /// event came. Returns whether there was something to do.
    ///
    /// # Errors
    /// [`Error`]; the frontend is then served no longer, until it begins anew.
    pub fn poll(&mut self) -> Result<bool, Error> {
        if let Err(error) = self.follow() {
            return Err(self.fail(error));
        }
        match self.serve() {
            Ok(busy) => Ok(busy),
            Err(error) => Err(self.fail(error)),
        }
    }

    fn fail(&mut self, error: Error) -> Error {
        self.close();
        error
    }

    /// Serves no longer, until the frontend begins anew.
    pub fn close(&mut self) {
        self.queues.clear();
        self.service.closed();
    }

    fn follow(&mut self) -> Result<(), Error> {
        // A frontend that changes its mind all the time is looked at again at the next call.
        for _ in 0..3 {
            match self.service.due()? {
                Duty::Nothing => break,
                Duty::Offer => {
                    self.queues.clear();
                    self.offer()?;
                }
                Duty::Connect => self.connect()?,
                Duty::Part(state) => {
                    self.queues.clear();
                    self.service.switch(state)?;
                }
            }
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), Error> {
        let protocol = self.service.half().peer_text("protocol")?;
        if protocol.is_some_and(|name| name.trim() != "x86_64-abi") {
            return Err(Fault::Bad("protocol").into());
        }
        let asked = self.service.half().peer_number("multi-queue-num-queues")?;
        let count = asked.unwrap_or(1);
        if count == 0 || count > self.options.queues.max(1) {
            return Err(Fault::Bad("multi-queue-num-queues").into());
        }
        self.queues.clear();
        for n in 0..count {
            let folder = if count > 1 {
                format!("queue-{n}/")
            } else {
                String::new()
            };
            let number = |name: &'static str| {
                let text = self.service.half().peer_text(&format!("{folder}{name}"))?;
                let text = text.ok_or(Fault::Missing(name))?;
                text.trim().parse().map_err(|_| Fault::Bad(name))
            };
            let (platform, peer) = (self.service.half().platform(), self.service.half().peer());
            let page = platform.map(peer, GrantRef(number("ring-ref")?))?;
            let channel = platform.bind(peer, Port(number("event-channel")?))?;
            self.queues.push(Queue {
                ring: BackRing::attach(page),
                channel,
            });
        }
        Ok(self.service.switch(State::Connected)?)
    }

    /// Serves all that waits: at most a ring's worth of each ring.
    fn serve(&mut self) -> Result<bool, Error> {
        let (platform, peer) = (self.service.half().platform(), self.service.half().peer());
        let mut worker = request::Worker {
            platform,
            peer,
            medium: &mut self.medium,
            segments: self.options.segments,
            scratch: &mut self.scratch,
        };
        let mut busy = false;
        for queue in &mut self.queues {
            busy |= serve(queue, &mut worker)?;
        }
        Ok(busy)
    }
}

impl<P: Foreign + Store, M: Medium> Backend for Server<P, M> {
    fn poll(&mut self) -> bool {
        // Who broke the protocol is served no longer; there is nobody else to tell.
        Self::poll(self).unwrap_or(false)
    }

    fn is_over(&self) -> bool {
        self.service.state() == State::Closed
    }

    fn close(&mut self) {
        Self::close(self);
    }
}

fn serve<P: Foreign, M: Medium>(
    queue: &mut Queue<P>,
    worker: &mut request::Worker<'_, P, M>,
) -> Result<bool, Error> {
    let mut busy = false;
    for _ in 0..BackRing::<BlkifRequest, BlkifResponse, P::Mapped>::SLOTS {
        let Some(request) = queue.ring.take()? else {
            // Asks for the next event; what came meanwhile is for now.
            if queue.ring.arm()? {
                continue;
            }
            break;
        };
        busy = true;
        let response = worker.answer(&request);
        if queue.ring.put(&response).is_err() {
            return Err(Error::Ring);
        }
        if queue.ring.push() {
            queue.channel.notify();
        }
    }
    Ok(busy)
}
