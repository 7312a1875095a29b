//! One ring of a disk, and what is under way in it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use xen_abi::blkif::{
    BLKIF_DISCARD_SECURE, BLKIF_MAX_SEGMENTS_PER_REQUEST, BLKIF_OP_DISCARD,
    BLKIF_OP_FLUSH_DISKCACHE, BLKIF_OP_INDIRECT, BLKIF_OP_READ, BLKIF_OP_WRITE,
    BLKIF_OP_WRITE_BARRIER, BLKIF_RSP_EOPNOTSUPP, BLKIF_RSP_OKAY, BlkifRequest,
    BlkifRequestDiscard, BlkifRequestIndirect, BlkifRequestSegment, BlkifResponse,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{Buffer, Error, Flush, Geometry, Misbehaviour, PAGE, SECTOR};
use crate::device::{Access, Channel, DomId, Platform, Refused, SharedPage};
use crate::ring::{FrontRing, Page};

type Ring<G> = FrontRing<BlkifRequest, BlkifResponse, G>;

/// What a disk is to do. Sectors have 512 bytes.
#[derive(Debug)]
pub enum Operation<G> {
    /// Reads sectors from the given one on: as many as the buffer has bytes for.
    Read {
        /// The first.
        sector: u64,
        /// Where they go.
        buffer: Buffer<G>,
    },
    /// Writes sectors from the given one on.
    Write {
        /// The first.
        sector: u64,
        /// What they become.
        buffer: Buffer<G>,
    },
    /// Makes durable all writes that are completed.
    Flush,
    /// Gives sectors up: what they hold does not matter any more.
    Discard {
        /// Which.
        sectors: Range<u64>,
        /// No copy may be left.
        secure: bool,
    },
}

impl<G> Operation<G> {
    fn into_buffer(self) -> Option<Buffer<G>> {
        match self {
            Self::Read { buffer, .. } | Self::Write { buffer, .. } => Some(buffer),
            Self::Flush | Self::Discard { .. } => None,
        }
    }
}

/// A request that was submitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag {
    pub(super) queue: usize,
    pub(super) id: u64,
    pub(super) epoch: u32,
}

/// An operation that was not begun, with its buffer.
#[derive(Debug)]
pub struct Rejected<G> {
    /// Why.
    pub error: Error,
    /// The operation's.
    pub buffer: Option<Buffer<G>>,
}

impl<G> Rejected<G> {
    pub(super) fn new(error: Error, operation: Operation<G>) -> Self {
        Self {
            error,
            buffer: operation.into_buffer(),
        }
    }
}

/// A request that has ended.
#[derive(Debug)]
pub struct Completion<G> {
    /// Which.
    pub tag: Tag,
    /// How.
    pub result: Result<(), Error>,
    /// Its buffer. None if there was none, or if the connection broke: then the backend may still
    /// use it.
    pub buffer: Option<Buffer<G>>,
}

/// A request whose response has not come.
struct Pending<G> {
    id: u64,
    /// What the response must echo.
    operation: u8,
    buffer: Option<Buffer<G>>,
    /// The page that lists the segments, if not the request does.
    list: Option<G>,
    /// Nobody waits for it any more.
    abandoned: bool,
}

/// One ring, its channel, the requests in it and the pages that are free.
pub(super) struct Queue<P: Platform> {
    ring: Ring<P::Page>,
    channel: P::Channel,
    peer: DomId,
    epoch: u32,
    number: usize,
    pending: Vec<Option<Pending<P::Page>>>,
    /// Places in `pending`.
    free: Vec<usize>,
    /// Raised for each request, so that an old id is no new one.
    generation: u64,
    /// Shared and unused; the last used is used next, which the backend's caches like.
    pages: Vec<P::Page>,
    /// How many pages to keep.
    keep: usize,
}

impl<P: Platform> fmt::Debug for Queue<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({}, {:?})", self.number, self.ring)
    }
}

/// How many requests a ring holds.
const SLOTS: usize = Ring::<&dyn Page>::SLOTS as usize;

impl<P: Platform> Queue<P> {
    pub fn new(
        platform: &P,
        peer: DomId,
        number: usize,
        epoch: u32,
        keep: usize,
    ) -> Result<Self, Refused> {
        let page = platform.share(peer, Access::Write)?;
        Ok(Self {
            ring: Ring::new(page),
            channel: platform.offer(peer)?,
            peer,
            epoch,
            number,
            pending: (0..SLOTS).map(|_| None).collect(),
            free: (0..SLOTS).rev().collect(),
            generation: 0,
            pages: Vec::new(),
            keep,
        })
    }

    /// What the backend needs to know to connect: ring and channel.
    pub fn address(&self) -> (u32, u32) {
        (self.ring.page().grant().0, self.channel.port().0)
    }

    /// How many requests are under way.
    pub fn outstanding(&self) -> usize {
        SLOTS - self.free.len()
    }

    /// A buffer for so many bytes.
    pub fn buffer(&mut self, platform: &P, bytes: usize) -> Result<Buffer<P::Page>, Refused> {
        let count = bytes.div_ceil(PAGE);
        let mut pages = Vec::with_capacity(count);
        while pages.len() < count {
            match self.page(platform) {
                Ok(page) => pages.push(page),
                Err(refused) => {
                    self.pages.append(&mut pages);
                    return Err(refused);
                }
            }
        }
        Ok(Buffer::new(pages, bytes, self.epoch))
    }

    fn page(&mut self, platform: &P) -> Result<P::Page, Refused> {
        match self.pages.pop() {
            Some(page) => Ok(page),
            None => platform.share(self.peer, Access::Write),
        }
    }

    /// Takes a buffer's pages back for other requests.
    pub fn recycle(&mut self, buffer: Buffer<P::Page>) {
        if buffer.epoch == self.epoch {
            let room = self.keep.saturating_sub(self.pages.len());
            self.pages.extend(buffer.pages.into_iter().rev().take(room));
        }
    }

    /// Puts a request into the ring.
    pub fn submit(
        &mut self,
        platform: &P,
        geometry: &Geometry,
        operation: Operation<P::Page>,
    ) -> Result<Tag, Rejected<P::Page>> {
        if let Err(error) = check(geometry, &operation, self.epoch) {
            return Err(Rejected::new(error, operation));
        }
        let Some(&place) = self.free.last() else {
            return Err(Rejected::new(Error::Busy, operation));
        };
        let id = self.generation << 8 | place as u64;
        let (request, list) = match self.request(platform, geometry, &operation, id) {
            Ok(made) => made,
            Err(refused) => return Err(Rejected::new(refused.into(), operation)),
        };
        if self.ring.put(&request).is_err() {
            return Err(Rejected::new(Error::Busy, operation));
        }
        self.free.pop();
        self.generation += 1;
        self.pending[place] = Some(Pending {
            id,
            operation: match operation {
                Operation::Read { .. } => BLKIF_OP_READ,
                Operation::Write { .. } => BLKIF_OP_WRITE,
                Operation::Flush | Operation::Discard { .. } => request.operation,
            },
            buffer: operation.into_buffer(),
            list,
            abandoned: false,
        });
        Ok(Tag {
            queue: self.number,
            id,
            epoch: self.epoch,
        })
    }

    /// Lets the backend see what was submitted.
    pub fn push(&mut self) {
        if self.ring.push() {
            self.channel.notify();
        }
    }

    /// The request as the ring has it, and the page that lists its segments if it needs one.
    fn request(
        &mut self,
        platform: &P,
        geometry: &Geometry,
        operation: &Operation<P::Page>,
        id: u64,
    ) -> Result<(BlkifRequest, Option<P::Page>), Refused> {
        match operation {
            Operation::Read { sector, buffer } => {
                self.transfer(platform, BLKIF_OP_READ, *sector, buffer, id)
            }
            Operation::Write { sector, buffer } => {
                self.transfer(platform, BLKIF_OP_WRITE, *sector, buffer, id)
            }
            Operation::Flush => {
                let request = BlkifRequest {
                    operation: match geometry.flush {
                        Flush::Barrier => BLKIF_OP_WRITE_BARRIER,
                        Flush::Cache | Flush::None => BLKIF_OP_FLUSH_DISKCACHE,
                    },
                    id,
                    ..BlkifRequest::default()
                };
                Ok((request, None))
            }
            Operation::Discard { sectors, secure } => {
                let request = BlkifRequestDiscard {
                    operation: BLKIF_OP_DISCARD,
                    flag: if *secure { BLKIF_DISCARD_SECURE } else { 0 },
                    id,
                    sector_number: sectors.start,
                    nr_sectors: sectors.end - sectors.start,
                    ..BlkifRequestDiscard::default()
                };
                Ok((same_bytes(&request), None))
            }
        }
    }

    fn transfer(
        &mut self,
        platform: &P,
        operation: u8,
        sector: u64,
        buffer: &Buffer<P::Page>,
        id: u64,
    ) -> Result<(BlkifRequest, Option<P::Page>), Refused> {
        let segments = buffer
            .last_sectors()
            .map(|(page, last_sect)| BlkifRequestSegment {
                gref: page.grant().0,
                last_sect,
                ..BlkifRequestSegment::default()
            });
        let count = buffer.pages.len();
        if count <= BLKIF_MAX_SEGMENTS_PER_REQUEST {
            let mut request = BlkifRequest {
                operation,
                nr_segments: count as u8,
                id,
                sector_number: sector,
                ..BlkifRequest::default()
            };
            for (place, segment) in request.seg.iter_mut().zip(segments) {
                *place = segment;
            }
            return Ok((request, None));
        }
        let list = self.page(platform)?;
        for (n, segment) in segments.enumerate() {
            list.write(n * size_of::<BlkifRequestSegment>(), segment.as_bytes());
        }
        let mut request = BlkifRequestIndirect {
            operation: BLKIF_OP_INDIRECT,
            indirect_op: operation,
            nr_segments: count as u16,
            id,
            sector_number: sector,
            ..BlkifRequestIndirect::default()
        };
        request.indirect_grefs[0] = list.grant().0;
        Ok((same_bytes(&request), Some(list)))
    }

    /// Takes all responses that wait. Whatever of them is wrong, the connection is no more.
    pub fn reap(&mut self, done: &mut VecDeque<Completion<P::Page>>) -> Result<(), Error> {
        while let Some(response) = self.ring.take()? {
            let place = (response.id & 0xff) as usize;
            let pending = match self.pending.get_mut(place) {
                Some(pending) if pending.as_ref().is_some_and(|p| p.id == response.id) => pending,
                _ => return Err(Error::Misbehaved(Misbehaviour::Id)),
            };
            if pending
                .as_ref()
                .is_some_and(|p| p.operation != response.operation)
            {
                return Err(Error::Misbehaved(Misbehaviour::Operation));
            }
            let Some(ended) = pending.take() else {
                continue;
            };
            self.free.push(place);
            self.pages.extend(ended.list);
            if ended.abandoned {
                if let Some(buffer) = ended.buffer {
                    self.recycle(buffer);
                }
                continue;
            }
            done.push_back(Completion {
                tag: self.tag(ended.id),
                result: match response.status {
                    BLKIF_RSP_OKAY => Ok(()),
                    BLKIF_RSP_EOPNOTSUPP => Err(Error::Unsupported),
                    _ => Err(Error::Failed),
                },
                buffer: ended.buffer,
            });
        }
        Ok(())
    }

    /// Whether responses wait after all: see [`FrontRing::arm`].
    pub fn arm(&mut self) -> Result<bool, Error> {
        Ok(self.ring.arm()?)
    }

    /// Nobody waits for this request any more.
    pub fn abandon(&mut self, tag: Tag) {
        let place = (tag.id & 0xff) as usize;
        if let Some(Some(pending)) = self.pending.get_mut(place)
            && pending.id == tag.id
        {
            pending.abandoned = true;
        }
    }

    /// Ends what is under way. The backend may still use the pages: they go.
    pub fn fail(&mut self, error: Error, done: &mut VecDeque<Completion<P::Page>>) {
        let (number, epoch) = (self.number, self.epoch);
        for pending in self.pending.iter_mut().filter_map(Option::take) {
            if !pending.abandoned {
                done.push_back(Completion {
                    tag: Tag {
                        queue: number,
                        id: pending.id,
                        epoch,
                    },
                    result: Err(error),
                    buffer: None,
                });
            }
        }
    }

    const fn tag(&self, id: u64) -> Tag {
        Tag {
            queue: self.number,
            id,
            epoch: self.epoch,
        }
    }
}

/// What a request of any kind is as the ring's type.
fn same_bytes(request: &(impl IntoBytes + zerocopy::Immutable)) -> BlkifRequest {
    let mut same = BlkifRequest::new_zeroed();
    let bytes = request.as_bytes();
    same.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    same
}

/// Whether the disk can do that.
fn check<G: Page>(geometry: &Geometry, operation: &Operation<G>, epoch: u32) -> Result<(), Error> {
    let units = u64::from(geometry.sector_size) / SECTOR as u64;
    let range = |first: u64, count: u64| {
        if count == 0 || !first.is_multiple_of(units) || !count.is_multiple_of(units) {
            return Err(Error::Unaligned);
        }
        match first.checked_add(count) {
            Some(end) if end <= geometry.sectors => Ok(()),
            _ => Err(Error::OutOfRange),
        }
    };
    match operation {
        Operation::Read { sector, buffer } | Operation::Write { sector, buffer } => {
            if matches!(operation, Operation::Write { .. }) && geometry.read_only {
                return Err(Error::ReadOnly);
            }
            if buffer.epoch != epoch {
                return Err(Error::Disconnected);
            }
            if buffer.pages.len() > geometry.segments {
                return Err(Error::TooLong);
            }
            range(*sector, (buffer.len() / SECTOR) as u64)
        }
        Operation::Flush if geometry.flush == Flush::None => Err(Error::Unsupported),
        Operation::Flush => Ok(()),
        Operation::Discard { sectors, secure } => {
            let offered = geometry.discard.ok_or(Error::Unsupported)?;
            if *secure && !offered.secure {
                return Err(Error::Unsupported);
            }
            if geometry.read_only {
                return Err(Error::ReadOnly);
            }
            range(sectors.start, sectors.end.saturating_sub(sectors.start))
        }
    }
}
