//! A disk from the guest's side: comes together with its backend, and keeps requests under way.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use super::queue::{Completion, Operation, Queue, Rejected, Tag};
use super::{Buffer, Error, Geometry, SECTOR, geometry};
use crate::device::handshake::{Action, Link, Phase};
use crate::device::xenbus::{Fault, State};
use crate::device::{Platform, Refused};

/// How a disk is to be used.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Rings to use, if the backend has as many: more let more CPUs of it serve.
    pub queues: usize,
    /// Pages of one request, if the backend takes as many. 11 need no page that lists them.
    pub segments: usize,
    /// Pages that each ring keeps shared for the next requests.
    pub keep_pages: usize,
    /// How long to wait for an answer.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queues: 1,
            segments: 64,
            keep_pages: 512,
            patience: Duration::from_secs(30),
        }
    }
}

/// A disk.
pub struct Disk<P: Platform> {
    link: Link<P>,
    pub(super) options: Options,
    /// Counts connections: what belongs to an earlier one is of no use now.
    epoch: u32,
    pub(super) queues: Vec<Queue<P>>,
    geometry: Option<Geometry>,
    pub(super) done: VecDeque<Completion<P::Page>>,
    /// The ring that the next request gets.
    pub(super) turn: usize,
}

impl<P: Platform> fmt::Debug for Disk<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disk({:?}, {:?})", self.link, self.queues)
    }
}

impl<P: Platform> Disk<P> {
    /// The disk whose nodes the toolstack has made in `home`, as `device/vbd/51712`. It is not
    /// connected yet.
    ///
    /// # Errors
    /// [`Error::Nodes`]: there is no such device.
    pub fn open(platform: P, home: &str, options: Options) -> Result<Self, Error> {
        Ok(Self {
            link: Link::open(platform, home)?,
            options,
            epoch: 0,
            queues: Vec::new(),
            geometry: None,
            done: VecDeque::new(),
            turn: 0,
        })
    }

    /// The surroundings.
    pub const fn platform(&self) -> &P {
        self.link.half().platform()
    }

    /// What the disk is like, while it is connected.
    #[must_use]
    pub const fn geometry(&self) -> Option<&Geometry> {
        self.geometry.as_ref()
    }

    /// How many rings are in use.
    #[must_use]
    pub const fn queues(&self) -> usize {
        self.queues.len()
    }

    /// How many requests are under way.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.queues.iter().map(Queue::outstanding).sum()
    }

    /// Goes on with what there is to do, and does not wait: comes together with the backend, takes
    /// responses. Call it when an event came; afterwards ask for what is
    /// [`completed`](Self::completed).
    ///
    /// # Errors
    /// Those of the connection. It is then closed, and everything under way is completed with an
    /// error; only where the store gave no answer it goes on at the next call.
    pub fn poll(&mut self) -> Result<(), Error> {
        self.follow()?;
        for queue in &mut self.queues {
            if let Err(error) = queue.reap(&mut self.done) {
                return Err(self.fail(error));
            }
        }
        Ok(())
    }

    /// Does what the backend's state asks for, until it asks for nothing more.
    fn follow(&mut self) -> Result<(), Error> {
        // Each step goes on towards an end; more of them than there are phases is no progress.
        for _ in 0..5 {
            let done = match self.link.due()? {
                Action::Nothing | Action::Begin => return Ok(()),
                Action::Publish => self.publish(),
                Action::Finish => self.finish(),
                Action::Refresh => return self.refresh(),
                Action::Close => return Err(self.fail(Error::Disconnected)),
                Action::Leave => self.reconnect(),
                Action::Move => self.follow_guest(),
            };
            match done {
                Ok(()) => {}
                Err(error) => return Err(self.settle(error)),
            }
        }
        Ok(())
    }

    /// After a failed step: an answer that the store owes can still come, all else is final.
    fn settle(&mut self, error: Error) -> Error {
        match error {
            Error::Nodes(Fault::Refused(_)) | Error::Busy => error,
            error => self.fail(error),
        }
    }

    /// Makes rings and tells the backend where they are.
    fn publish(&mut self) -> Result<(), Error> {
        let count = self
            .options
            .queues
            .min(geometry::most_queues(self.link.half())?)
            .max(1);
        self.epoch = self.epoch.wrapping_add(1);
        self.queues.clear();
        for number in 0..count {
            let made = Queue::new(
                self.link.half().platform(),
                self.link.half().peer(),
                number,
                self.epoch,
                self.options.keep_pages,
            );
            match made {
                Ok(queue) => self.queues.push(queue),
                // Fewer will do.
                Err(Refused::Exhausted) if number > 0 => break,
                Err(refused) => return Err(refused.into()),
            }
        }
        self.publish_addresses()?;
        self.link.half().put("protocol", "x86_64-abi")?;
        self.link.half().put("feature-persistent", 1)?;
        Ok(self.link.published(State::Initialised)?)
    }

    /// One ring's nodes stand at the top, several rings' each in a folder.
    fn publish_addresses(&self) -> Result<(), Refused> {
        let half = self.link.half();
        let several = self.queues.len() > 1;
        if several {
            half.remove("ring-ref")?;
            half.remove("event-channel")?;
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
            let (grant, port) = queue.address();
            half.put(&format!("{folder}ring-ref"), grant)?;
            half.put(&format!("{folder}event-channel"), port)?;
        }
        Ok(())
    }

    /// The backend has connected.
    fn finish(&mut self) -> Result<(), Error> {
        self.geometry = Some(Geometry::read(self.link.half(), self.options.segments)?);
        Ok(self.link.connected()?)
    }

    /// The backend says again that it is connected: its disk may have another length.
    fn refresh(&mut self) -> Result<(), Error> {
        match Geometry::read(self.link.half(), self.options.segments) {
            Ok(geometry) => {
                self.geometry = Some(geometry);
                Ok(())
            }
            Err(fault) => Err(self.settle(fault.into())),
        }
    }

    /// Ends the connection for a reason, which it returns.
    fn fail(&mut self, error: Error) -> Error {
        self.drop_rings(error);
        self.link.closed();
        error
    }

    fn drop_rings(&mut self, error: Error) {
        self.geometry = None;
        for mut queue in self.queues.drain(..) {
            queue.fail(error, &mut self.done);
        }
    }

    /// Connects anew: after an error, or to a backend that was started anew. Everything under way
    /// is completed with [`Error::Disconnected`]; go on with [`poll`](Self::poll) or
    /// [`connect`](Self::connect).
    ///
    /// # Errors
    /// [`Error::Nodes`]: the store.
    pub fn reconnect(&mut self) -> Result<(), Error> {
        self.drop_rings(Error::Disconnected);
        Ok(self.link.leave()?)
    }

    /// The guest was restored, maybe on another host: the backend is another one, and knows nothing
    /// of the rings.
    fn follow_guest(&mut self) -> Result<(), Error> {
        self.drop_rings(Error::Disconnected);
        Ok(self.link.moved()?)
    }

    /// Whether the guest was restored, and the disk is not connected again yet.
    pub(super) fn is_moving(&self) -> bool {
        self.link.is_moving()
    }

    /// Ends the connection for good.
    pub fn close(mut self) {
        self.fail(Error::Disconnected);
    }

    pub(super) fn connected(&self) -> Result<Geometry, Error> {
        match self.link.phase() {
            Phase::Connected => self.geometry.ok_or(Error::Disconnected),
            _ => Err(Error::Disconnected),
        }
    }

    /// Memory for a request that is to use the ring `queue`: a multiple of the sector size, at
    /// most [`Geometry::most_bytes`]. What it holds is left of earlier requests, or 0.
    ///
    /// # Errors
    /// [`Error::Disconnected`], [`Error::Unaligned`], [`Error::TooLong`], [`Error::Busy`].
    pub fn buffer(&mut self, queue: usize, bytes: usize) -> Result<Buffer<P::Page>, Error> {
        let geometry = self.connected()?;
        if bytes == 0 || !bytes.is_multiple_of(SECTOR) {
            return Err(Error::Unaligned);
        }
        if bytes > geometry.most_bytes() {
            return Err(Error::TooLong);
        }
        let queue = self.queues.get_mut(queue).ok_or(Error::Disconnected)?;
        Ok(queue.buffer(self.link.half().platform(), bytes)?)
    }

    /// Gives memory back, for other requests of the ring.
    pub fn recycle(&mut self, queue: usize, buffer: Buffer<P::Page>) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.recycle(buffer);
        }
    }

    /// Begins an operation. The backend hears of it at [`push`](Self::push).
    ///
    /// # Errors
    /// Why it was not begun; with the buffer.
    pub fn submit(
        &mut self,
        queue: usize,
        operation: Operation<P::Page>,
    ) -> Result<Tag, Rejected<P::Page>> {
        let geometry = match self.connected() {
            Ok(geometry) if queue < self.queues.len() => geometry,
            _ => return Err(Rejected::new(Error::Disconnected, operation)),
        };
        self.queues[queue].submit(self.link.half().platform(), &geometry, operation)
    }

    /// Lets the backend see all that was submitted.
    pub fn push(&mut self) {
        for queue in &mut self.queues {
            queue.push();
        }
    }

    /// The next operation that has ended, of those that [`submit`](Self::submit) began.
    pub fn completed(&mut self) -> Option<Completion<P::Page>> {
        self.done.pop_front()
    }

    /// To be called before sleeping: whether there is something to do after all.
    ///
    /// # Errors
    /// As [`poll`](Self::poll).
    pub fn arm(&mut self) -> Result<bool, Error> {
        let mut busy = false;
        for queue in &mut self.queues {
            match queue.arm() {
                Ok(waiting) => busy |= waiting,
                Err(error) => return Err(self.fail(error)),
            }
        }
        Ok(busy)
    }

    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.link.phase(), Phase::Closed)
    }
}
