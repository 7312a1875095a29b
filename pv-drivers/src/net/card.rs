//! A card from the guest's side.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::rx::{Received, Rx};
use super::tx::{Able, Offload, Tx};
use super::{Error, HEADER, MOST, PAGE};
use crate::device::handshake::{Action, Link, Phase};
use crate::device::xenbus::{Fault, State};
use crate::device::{Channel, Platform, Refused};

/// How a card is to be used.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Pairs of rings to use, if the backend has as many.
    pub queues: usize,
    /// Pages to receive into, for each queue; at most 256.
    pub receive_pages: usize,
    /// Whether the backend may deliver several TCP segments as one frame of up to 64 KiB.
    pub large_receive: bool,
    /// How long to wait for the backend to connect.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queues: 1,
            receive_pages: 256,
            large_receive: true,
            patience: Duration::from_secs(30),
        }
    }
}

/// What a connected card can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// Bytes of the longest frame to send as one.
    pub most: usize,
    /// Frames on IPv6 may have a blank checksum; on IPv4 they always may.
    pub checksum_v6: bool,
    /// Long TCP frames on IPv4 are cut into segments.
    pub segment_v4: bool,
    /// Long TCP frames on IPv6 are cut into segments.
    pub segment_v6: bool,
}

/// One pair of rings.
struct Queue<P: Platform> {
    tx: Tx<P>,
    rx: Rx<P>,
    tx_channel: P::Channel,
    /// None: the other one serves both.
    rx_channel: Option<P::Channel>,
}

impl<P: Platform> Queue<P> {
    fn notify_rx(&self) {
        self.rx_channel
            .as_ref()
            .unwrap_or(&self.tx_channel)
            .notify();
    }
}

/// A card.
pub struct Card<P: Platform> {
    link: Link<P>,
    options: Options,
    queues: Vec<Queue<P>>,
    features: Option<Features>,
    /// The queue that was looked at last for frames.
    turn: usize,
    failed: (u64, u64),
}

impl<P: Platform> fmt::Debug for Card<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Card({:?}, {} queues)", self.link, self.queues.len())
    }
}

impl<P: Platform> Card<P> {
    /// The card whose nodes the toolstack has made in `home`, as `device/vif/0`. It is not
    /// connected yet.
    ///
    /// # Errors
    /// [`Error::Nodes`]: there is no such device.
    pub fn open(platform: P, home: &str, options: Options) -> Result<Self, Error> {
        Ok(Self {
            link: Link::open(platform, home)?,
            options,
            queues: Vec::new(),
            features: None,
            turn: 0,
            failed: (0, 0),
        })
    }

    /// The surroundings.
    pub const fn platform(&self) -> &P {
        self.link.half().platform()
    }

    /// What it can do, while it is connected.
    #[must_use]
    pub const fn features(&self) -> Option<&Features> {
        match self.link.phase() {
            Phase::Connected => self.features.as_ref(),
            _ => None,
        }
    }

    /// How many pairs of rings are in use.
    #[must_use]
    pub const fn queues(&self) -> usize {
        self.queues.len()
    }

    /// Frames that the backend failed to send, and to deliver.
    #[must_use]
    pub fn failures(&self) -> (u64, u64) {
        self.queues.iter().fold(self.failed, |(tx, rx), queue| {
            (tx + queue.tx.failed, rx + queue.rx.failed)
        })
    }

    /// The card's Ethernet address, which the toolstack has chosen.
    ///
    /// # Errors
    /// [`Error::Nodes`]: it is missing or no address.
    pub fn address(&self) -> Result<[u8; 6], Error> {
        let text = self.link.half().own_text("mac")?;
        let text = text.ok_or(Fault::Missing("mac"))?;
        let mut address = [0; 6];
        let mut digits = text.trim().split(':');
        for byte in &mut address {
            let two = digits.next().filter(|two| two.len() == 2);
            *byte = two
                .and_then(|two| u8::from_str_radix(two, 16).ok())
                .ok_or(Fault::Bad("mac"))?;
        }
        match digits.next() {
            None => Ok(address),
            Some(_) => Err(Fault::Bad("mac").into()),
        }
    }

    /// Bytes of an IP packet on this card's network: 1500 where the toolstack does not say.
    ///
    /// # Errors
    /// [`Error::Nodes`].
    pub fn mtu(&self) -> Result<usize, Error> {
        let Some(text) = self.link.half().own_text("mtu")? else {
            return Ok(1500);
        };
        match text.trim().parse() {
            // Least: RFC 791.
            Ok(mtu) if (68..=MOST - HEADER).contains(&mtu) => Ok(mtu),
            _ => Err(Fault::Bad("mtu").into()),
        }
    }

    /// Goes on with what there is to do, and does not wait: comes together with the backend,
    /// takes back what was sent, gives pages to receive into. Call it when an event came.
    ///
    /// # Errors
    /// Those of the connection. It is then closed, and frames under way are lost; only where the
    /// store gave no answer it goes on at the next call.
    pub fn poll(&mut self) -> Result<(), Error> {
        self.follow()?;
        for n in 0..self.queues.len() {
            if let Err(error) = self.queues[n].tx.reap() {
                return Err(self.fail(error));
            }
            self.post(n);
        }
        Ok(())
    }

    fn post(&mut self, n: usize) {
        let platform = self.link.half().platform();
        if let Some(queue) = self.queues.get_mut(n) {
            queue.rx.post(platform);
            if queue.rx.push() {
                queue.notify_rx();
            }
        }
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
                Err(error @ (Error::Nodes(Fault::Refused(_)) | Error::Busy)) => return Err(error),
                Err(error) => return Err(self.fail(error)),
            }
        }
        Ok(())
    }

    /// Makes rings and tells the backend where they are.
    fn publish(&mut self) -> Result<(), Error> {
        let half = self.link.half();
        if !half.peer_has("feature-rx-copy")? {
            return Err(Fault::Missing("feature-rx-copy").into());
        }
        let able = Able {
            scatter: half.peer_has("feature-sg")?,
            gso_v4: half.peer_has("feature-gso-tcpv4")?,
            gso_v6: half.peer_has("feature-gso-tcpv6")?,
        };
        self.features = Some(Features {
            most: if able.scatter { MOST } else { PAGE },
            checksum_v6: half.peer_has("feature-ipv6-csum-offload")?,
            segment_v4: able.scatter && able.gso_v4,
            segment_v6: able.scatter && able.gso_v6,
        });
        let split = half.peer_has("feature-split-event-channels")?;
        let offered = half.peer_number("multi-queue-max-queues")?.unwrap_or(1);
        let count = self.options.queues.min(offered).max(1);
        self.queues.clear();
        for number in 0..count {
            match self.queue(able, split) {
                Ok(queue) => self.queues.push(queue),
                // Fewer will do.
                Err(Refused::Exhausted) if number > 0 => break,
                Err(refused) => return Err(refused.into()),
            }
        }
        self.publish_addresses()?;
        self.publish_features()?;
        Ok(self.link.published(State::Connected)?)
    }

    fn queue(&self, able: Able, split: bool) -> Result<Queue<P>, Refused> {
        let (platform, peer) = (self.platform(), self.link.half().peer());
        let mut queue = Queue {
            tx: Tx::new(platform, peer, able)?,
            rx: Rx::new(platform, peer, self.options.receive_pages)?,
            tx_channel: platform.offer(peer)?,
            rx_channel: split.then(|| platform.offer(peer)).transpose()?,
        };
        // Nobody is there to notify yet.
        let _ = queue.rx.push();
        Ok(queue)
    }

    /// One queue's nodes stand at the top, several queues' each in a folder.
    fn publish_addresses(&self) -> Result<(), Refused> {
        let half = self.link.half();
        let several = self.queues.len() > 1;
        if several {
            for node in ["tx-ring-ref", "rx-ring-ref", "event-channel"] {
                half.remove(node)?;
            }
            half.put("multi-queue-num-queues", self.queues.len())?;
        } else {
            half.remove("multi-queue-num-queues")?;
        }
        for (n, queue) in self.queues.iter().enumerate() {
            let folder = if several {
                format!("queue-{n}/")
            } else {
                String::new()
            };
            half.put(&format!("{folder}tx-ring-ref"), queue.tx.grant())?;
            half.put(&format!("{folder}rx-ring-ref"), queue.rx.grant())?;
            let tx = queue.tx_channel.port().0;
            match &queue.rx_channel {
                None => half.put(&format!("{folder}event-channel"), tx)?,
                Some(rx) => {
                    half.put(&format!("{folder}event-channel-tx"), tx)?;
                    half.put(&format!("{folder}event-channel-rx"), rx.port().0)?;
                }
            }
        }
        Ok(())
    }

    fn publish_features(&self) -> Result<(), Refused> {
        let half = self.link.half();
        let large = u8::from(self.options.large_receive);
        for (node, value) in [
            ("request-rx-copy", 1),
            ("feature-rx-notify", 1),
            ("feature-sg", 1),
            ("feature-gso-tcpv4", large),
            ("feature-gso-tcpv6", large),
            ("feature-no-csum-offload", 0),
            ("feature-ipv6-csum-offload", 1),
        ] {
            half.put(node, value)?;
        }
        Ok(())
    }

    /// Ends the connection for a reason, which it returns.
    fn fail(&mut self, error: Error) -> Error {
        self.drop_rings();
        self.link.closed();
        error
    }

    fn drop_rings(&mut self) {
        self.failed = self.failures();
        self.features = None;
        self.queues.clear();
    }

    /// Connects anew: after an error, or to a backend that was started anew. Frames under way are
    /// lost; go on with [`poll`](Self::poll) or [`connect`](Self::connect).
    ///
    /// # Errors
    /// [`Error::Nodes`]: the store.
    pub fn reconnect(&mut self) -> Result<(), Error> {
        self.drop_rings();
        Ok(self.link.leave()?)
    }

    /// The guest was restored, maybe on another host: the backend is another one, and knows nothing
    /// of the rings.
    fn follow_guest(&mut self) -> Result<(), Error> {
        self.drop_rings();
        Ok(self.link.moved()?)
    }

    /// Ends the connection for good.
    pub fn close(mut self) {
        self.fail(Error::Disconnected);
    }

    /// Waits until the card is connected.
    ///
    /// # Errors
    /// [`Error::TimedOut`], and those of [`poll`](Self::poll).
    pub fn connect(&mut self) -> Result<(), Error> {
        let until = self.platform().now().saturating_add(self.options.patience);
        loop {
            self.poll()?;
            match self.link.phase() {
                Phase::Connected => return Ok(()),
                Phase::Closed => return Err(Error::Disconnected),
                _ if self.platform().now() >= until => return Err(Error::TimedOut),
                _ => self.platform().wait(until),
            }
        }
    }

    fn connected(&mut self, queue: usize) -> Result<(&mut Queue<P>, &P), Error> {
        if self.link.phase() != Phase::Connected {
            return Err(Error::Disconnected);
        }
        let queue = self.queues.get_mut(queue).ok_or(Error::Disconnected)?;
        Ok((queue, self.link.half().platform()))
    }

    /// Whether a queue takes a frame of so many bytes now.
    #[must_use]
    pub fn fits(&self, queue: usize, bytes: usize) -> bool {
        let queue = self.queues.get(queue);
        self.link.phase() == Phase::Connected && queue.is_some_and(|queue| queue.tx.fits(bytes))
    }

    /// Sends a frame, which may lie in several places. The backend hears of it at
    /// [`push`](Self::push).
    ///
    /// # Errors
    /// [`Error::Busy`]: later, when [`poll`](Self::poll) has made room. [`Error::Disconnected`],
    /// [`Error::TooShort`], [`Error::TooLong`], [`Error::Unsupported`].
    pub fn send(&mut self, queue: usize, parts: &[&[u8]], offload: Offload) -> Result<(), Error> {
        let (queue, platform) = self.connected(queue)?;
        queue.tx.send(platform, parts, offload)
    }

    /// Lets the backend see all that was sent.
    pub fn push(&mut self) {
        for queue in &mut self.queues {
            if queue.tx.push() {
                queue.tx_channel.notify();
            }
        }
    }

    /// Takes the next frame that came, on any queue; what `into` held is gone in any case.
    ///
    /// # Errors
    /// As [`poll`](Self::poll); [`Error::Disconnected`].
    pub fn receive(&mut self, into: &mut Vec<u8>) -> Result<Option<Received>, Error> {
        self.connected(0)?;
        for _ in 0..self.queues.len() {
            let turn = self.turn % self.queues.len();
            match self.queues[turn].rx.receive(into) {
                Ok(Some(received)) => return Ok(Some(received)),
                Ok(None) => {
                    self.post(turn);
                    self.turn = turn + 1;
                }
                Err(error) => return Err(self.fail(error)),
            }
        }
        into.clear();
        Ok(None)
    }

    /// To be called before sleeping: whether there is something to do after all. That frames were
    /// sent is told only while one of the longest would find no room.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn arm(&mut self) -> Result<bool, Error> {
        let most = self.features.map_or(MOST, |features| features.most);
        let mut busy = false;
        for queue in &mut self.queues {
            match (queue.tx.arm(most), queue.rx.arm()) {
                (Ok(tx), Ok(rx)) => busy |= tx | rx,
                (Err(error), _) | (_, Err(error)) => return Err(self.fail(error)),
            }
        }
        Ok(busy)
    }
}
