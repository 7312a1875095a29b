//! Frames that come in.

use alloc::vec::Vec;
use core::mem;

use xen_abi::netif::{
    NETRXF_CSUM_BLANK, NETRXF_DATA_VALIDATED, NETRXF_EXTRA_INFO, NETRXF_MORE_DATA, NetifExtraInfo,
    NetifRxRequest, NetifRxResponse, XEN_NETIF_EXTRA_FLAG_MORE, XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_MAX, XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
};

use super::{Error, HEADER, MOST, Misbehaviour, PAGE};
use crate::device::{Access, DomId, Platform, Refused, SharedPage};
use crate::ring::{FrontRing, Page};

type Ring<G> = FrontRing<NetifRxRequest, NetifRxResponse, G>;

const SLOTS: usize = Ring::<&dyn Page>::SLOTS as usize;
/// Slots of one frame: 64 KiB in pages of 4 KiB, each split once, and extra slots.
const MOST_SLOTS: usize = 64;

/// What the backend says of a frame's checksum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Integrity {
    /// Nothing: verify it.
    #[default]
    Unknown,
    /// It was verified.
    Verified,
    /// The frame never left the host, and its checksum was never made.
    Blank,
}

/// What is known of a frame that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Its checksum.
    pub integrity: Integrity,
    /// It is several segments of so many bytes in one.
    pub segment: Option<u16>,
}

/// A frame whose parts come one by one.
#[derive(Default)]
struct Partial {
    /// What of it has come, and behind it what an earlier frame left.
    data: Vec<u8>,
    /// Bytes that have come.
    len: usize,
    slots: usize,
    info: Received,
    /// The next slot is an extra one.
    extra: bool,
    /// After the extra slots a part of the frame follows.
    more: bool,
    /// The backend says that it failed.
    failed: bool,
}

pub(super) struct Rx<P: Platform> {
    ring: Ring<P::Page>,
    peer: DomId,
    /// The page of each slot of the ring.
    posted: Vec<Option<P::Page>>,
    pages: Vec<P::Page>,
    /// How many pages to post.
    most: usize,
    partial: Partial,
    /// Frames that the backend failed to deliver.
    pub failed: u64,
}

impl<P: Platform> Rx<P> {
    pub fn new(platform: &P, peer: DomId, most: usize) -> Result<Self, Refused> {
        let mut this = Self {
            ring: Ring::new(platform.share(peer, Access::Write)?),
            peer,
            posted: (0..SLOTS).map(|_| None).collect(),
            pages: Vec::new(),
            most: most.clamp(1, SLOTS),
            partial: Partial::default(),
            failed: 0,
        };
        this.post(platform);
        if this.ring.outstanding() == 0 {
            return Err(Refused::Exhausted);
        }
        Ok(this)
    }

    pub fn grant(&self) -> u32 {
        self.ring.page().grant().0
    }

    /// Gives the backend pages to receive into: as many as there may be, or as memory permits.
    pub fn post(&mut self, platform: &P) {
        while (self.ring.outstanding() as usize) < self.most {
            let page = match self.pages.pop() {
                Some(page) => page,
                None => match platform.share(self.peer, Access::Write) {
                    Ok(page) => page,
                    // Fewer will do.
                    Err(_) => return,
                },
            };
            let slot = slot(self.ring.next_request());
            let request = NetifRxRequest {
                // At most 255.
                id: slot as u16,
                gref: page.grant().0,
                ..NetifRxRequest::default()
            };
            if self.ring.put(&request).is_err() {
                self.pages.push(page);
                return;
            }
            self.posted[slot] = Some(page);
        }
    }

    /// Lets the backend see what was posted; returns whether it must be notified.
    pub fn push(&mut self) -> bool {
        self.ring.push()
    }

    /// Takes the next frame, if one is there as a whole.
    pub fn receive(&mut self, into: &mut Vec<u8>) -> Result<Option<Received>, Error> {
        // One that is fed faster than it takes must end too.
        for _ in 0..SLOTS {
            let slot = slot(self.ring.next_response());
            let Some(response) = self.ring.take()? else {
                return Ok(None);
            };
            let page = self.posted[slot].take();
            self.partial.slots += 1;
            if self.partial.slots > MOST_SLOTS {
                return Err(Error::Misbehaved(Misbehaviour::Chain));
            }
            if self.partial.extra {
                self.extra(&response)?;
            } else if let Some(page) = &page {
                self.part(&response, slot, page)?;
            }
            self.pages.extend(page);
            if self.partial.extra || self.partial.more {
                continue;
            }
            let mut whole = mem::take(&mut self.partial);
            // The next frame gets the caller's memory.
            whole.data.truncate(whole.len);
            mem::swap(into, &mut whole.data);
            self.partial.data = whole.data;
            if !whole.failed && into.len() >= HEADER {
                return Ok(Some(whole.info));
            }
            self.failed += 1;
        }
        Ok(None)
    }

    /// A part of a frame.
    fn part(
        &mut self,
        response: &NetifRxResponse,
        slot: usize,
        page: &P::Page,
    ) -> Result<(), Error> {
        let partial = &mut self.partial;
        // Our own backends and Linux' answer in the request's slot, so the id is the slot.
        if usize::from(response.id) != slot {
            return Err(Error::Misbehaved(Misbehaviour::Id));
        }
        match usize::try_from(response.status) {
            Ok(size) => {
                let offset = usize::from(response.offset);
                if offset + size > PAGE {
                    return Err(Error::Misbehaved(Misbehaviour::Extent));
                }
                let (at, end) = (partial.len, partial.len + size);
                if end > MOST {
                    return Err(Error::Misbehaved(Misbehaviour::Chain));
                }
                if partial.data.len() < end {
                    partial.data.resize(end, 0);
                }
                page.read(offset, &mut partial.data[at..end]);
                partial.len = end;
            }
            Err(_) => partial.failed = true,
        }
        if partial.slots == 1 {
            partial.info.integrity = if response.flags & NETRXF_CSUM_BLANK != 0 {
                Integrity::Blank
            } else if response.flags & NETRXF_DATA_VALIDATED != 0 {
                Integrity::Verified
            } else {
                Integrity::Unknown
            };
            partial.extra = response.flags & NETRXF_EXTRA_INFO != 0;
        }
        partial.more = response.flags & NETRXF_MORE_DATA != 0;
        Ok(())
    }

    /// A slot that says more of the frame: the same bytes as a response.
    fn extra(&mut self, response: &NetifRxResponse) -> Result<(), Error> {
        let extra: NetifExtraInfo = zerocopy::transmute!(*response);
        match extra.r#type {
            XEN_NETIF_EXTRA_TYPE_GSO => {
                let size = u16::from_le_bytes([extra.u[0], extra.u[1]]);
                self.partial.info.segment = Some(size).filter(|size| *size != 0);
            }
            XEN_NETIF_EXTRA_TYPE_MCAST_ADD..XEN_NETIF_EXTRA_TYPE_MAX => {}
            _ => return Err(Error::Misbehaved(Misbehaviour::Extra)),
        }
        self.partial.extra = extra.flags & XEN_NETIF_EXTRA_FLAG_MORE != 0;
        Ok(())
    }

    pub fn arm(&mut self) -> Result<bool, Error> {
        Ok(self.ring.arm()?)
    }
}

/// The place of an index.
const fn slot(index: u32) -> usize {
    index as usize & (SLOTS - 1)
}
