//! Serves a network card to another domain.
//!
//! A [`Server`] stands between one frontend and a [`Network`]. It copies frames by grants and maps
//! only rings, so a frontend that takes its grants back, or lies, gets errors and harms nobody.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::rx::Received;
use super::tx::Offload;
use super::{PAGE, checksum, flow};
use crate::device::directory::Backend;
pub use crate::device::handshake::FrontendError as Error;
use crate::device::handshake::{Duty, Service};
use crate::device::xenbus::{Fault, State};
use crate::device::{Channel, Foreign, GrantRef, Port, Refused, Store};

mod queue;

use queue::{Outcome, Queue};

/// Where frames go to and come from.
pub trait Network {
    /// Whether it cuts long TCP frames into segments.
    fn segments(&self) -> bool {
        false
    }

    /// Takes a frame of the guest's. If [`Offload::checksum`] is set, the checksum is blank; if
    /// [`Offload::segment`], the frame is long, which only [`segments`](Self::segments) permits.
    fn transmit(&mut self, frame: &[u8], offload: Offload);

    /// The next frame for the guest, into `frame`, which is empty; none if there is none.
    fn next(&mut self, frame: &mut Vec<u8>) -> Option<Received>;
}

/// What the frontend can take.
#[derive(Clone, Copy, Debug, Default)]
struct Takes {
    scatter: bool,
    segments: bool,
    blank: bool,
}

/// A frame on its way to the guest.
#[derive(Default)]
struct Held {
    frame: Vec<u8>,
    received: Option<Received>,
}

/// One card for one frontend.
pub struct Server<P: Foreign + Store, N> {
    service: Service<P>,
    /// Queues that are offered.
    offered: usize,
    network: N,
    queues: Vec<Queue<P>>,
    takes: Takes,
    held: Held,
    /// Frames that the guest could not take, or that could not be fetched.
    dropped: u64,
}

impl<P: Foreign + Store, N> fmt::Debug for Server<P, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server({:?})", self.service)
    }
}

impl<P: Foreign + Store, N: Network> Server<P, N> {
    /// Offers a network through the nodes that the toolstack has made in `home`, as
    /// `backend/vif/3/0`, on as many queues as `queues`.
    ///
    /// # Errors
    /// [`Error::Nodes`]: there is no such device.
    pub fn open(platform: P, home: &str, network: N, queues: usize) -> Result<Self, Error> {
        let mut this = Self {
            service: Service::open(platform, home)?,
            offered: queues.max(1),
            network,
            queues: Vec::new(),
            takes: Takes::default(),
            held: Held::default(),
            dropped: 0,
        };
        this.follow()?;
        Ok(this)
    }

    /// The network.
    pub const fn network(&mut self) -> &mut N {
        &mut self.network
    }

    /// Whether a frontend is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.service.state() == State::Connected
    }

    /// Frames that were lost.
    #[must_use]
    pub const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Comes together with the frontend and moves frames; does not wait. Call it when an event
    /// came, or a frame is there for the guest. Returns whether there was something to do.
    ///
    /// # Errors
    /// [`Error`]; the frontend is then served no longer, until it begins anew.
    pub fn poll(&mut self) -> Result<bool, Error> {
        let done = self.follow().and_then(|()| self.serve());
        if done.is_err() {
            self.close();
        }
        done
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

    fn offer(&mut self) -> Result<(), Refused> {
        let half = self.service.half();
        let segments = usize::from(self.network.segments());
        for (node, value) in [
            ("feature-rx-copy", 1),
            ("feature-rx-flip", 0),
            ("feature-sg", 1),
            ("feature-gso-tcpv4", segments),
            ("feature-gso-tcpv6", segments),
            ("feature-ipv6-csum-offload", 1),
            ("feature-split-event-channels", 1),
            ("multi-queue-max-queues", self.offered),
        ] {
            half.put(node, value)?;
        }
        self.service.switch(State::InitWait)
    }

    fn connect(&mut self) -> Result<(), Error> {
        let half = self.service.half();
        for node in ["request-rx-copy", "feature-rx-notify"] {
            if !half.peer_has(node)? {
                return Err(Fault::Missing(node).into());
            }
        }
        self.takes = Takes {
            scatter: half.peer_has("feature-sg")?,
            segments: half.peer_has("feature-gso-tcpv4")?,
            blank: !half.peer_has("feature-no-csum-offload")?,
        };
        let count = half.peer_number("multi-queue-num-queues")?.unwrap_or(1);
        if count == 0 || count > self.offered {
            return Err(Fault::Bad("multi-queue-num-queues").into());
        }
        self.queues.clear();
        for n in 0..count {
            let folder = if count > 1 {
                format!("queue-{n}/")
            } else {
                String::new()
            };
            self.queues.push(self.queue(&folder)?);
        }
        Ok(self.service.switch(State::Connected)?)
    }

    fn queue(&self, folder: &str) -> Result<Queue<P>, Error> {
        let half = self.service.half();
        let (platform, peer) = (half.platform(), half.peer());
        let find = |name: &'static str| -> Result<Option<u32>, Fault> {
            let text = half.peer_text(&format!("{folder}{name}"))?;
            text.map(|text| text.trim().parse().map_err(|_| Fault::Bad(name)))
                .transpose()
        };
        let need = |name| find(name)?.ok_or(Fault::Missing(name));
        let tx = platform.map(peer, GrantRef(need("tx-ring-ref")?))?;
        let rx = platform.map(peer, GrantRef(need("rx-ring-ref")?))?;
        let (tx_port, rx_port) = match find("event-channel-tx")? {
            Some(port) => (port, Some(need("event-channel-rx")?)),
            None => (need("event-channel")?, None),
        };
        let tx_channel = platform.bind(peer, Port(tx_port))?;
        let rx_channel = match rx_port {
            Some(port) => Some(platform.bind(peer, Port(port))?),
            None => None,
        };
        Ok(Queue::new(tx, rx, tx_channel, rx_channel))
    }

    fn serve(&mut self) -> Result<bool, Error> {
        if self.queues.is_empty() {
            return Ok(false);
        }
        let half = self.service.half();
        let (platform, peer) = (half.platform(), half.peer());
        let mut busy = false;
        for queue in &mut self.queues {
            let (moved, lost) = queue.collect(platform, peer, &mut self.network)?;
            busy |= moved;
            self.dropped += lost;
        }
        // At most a ring's worth.
        for _ in 0..256 {
            if self.held.received.is_none() {
                self.held.frame.clear();
                self.held.received = self.network.next(&mut self.held.frame);
            }
            let Some(mut received) = self.held.received else {
                break;
            };
            if !self.takes.blank && received.integrity == super::Integrity::Blank {
                checksum::complete(&mut self.held.frame);
                received.integrity = super::Integrity::Unknown;
            }
            let frame = &self.held.frame;
            let too_long = frame.len() > PAGE && !self.takes.scatter;
            if too_long || (received.segment.is_some() && !self.takes.segments) {
                self.dropped += 1;
                self.held.received = None;
                continue;
            }
            let turn = flow(frame) % self.queues.len();
            match self.queues[turn].deliver(platform, peer, frame, received)? {
                Outcome::Delivered => busy = true,
                Outcome::Lost => self.dropped += 1,
                // The frontend will notify when it posts pages.
                Outcome::NoRoom => break,
            }
            self.held.received = None;
        }
        for queue in &mut self.queues {
            queue.push();
        }
        Ok(busy)
    }
}

impl<P: Foreign + Store, N: Network> Backend for Server<P, N> {
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

impl<P: Foreign> Queue<P> {
    fn push(&mut self) {
        if self.rx.push() {
            self.rx_channel
                .as_ref()
                .unwrap_or(&self.tx_channel)
                .notify();
        }
    }
}
