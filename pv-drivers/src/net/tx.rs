//! Frames that go out.

use alloc::vec::Vec;

use xen_abi::netif::{
    NETIF_RSP_NULL, NETIF_RSP_OKAY, NETTXF_CSUM_BLANK, NETTXF_DATA_VALIDATED, NETTXF_EXTRA_INFO,
    NETTXF_MORE_DATA, NetifExtraInfo, NetifTxRequest, NetifTxResponse, XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{Error, HEADER, MOST, Misbehaviour, PAGE};
use crate::device::{Access, DomId, Platform, Refused, SharedPage};
use crate::ring::{FrontRing, Full, Page};

type Ring<G> = FrontRing<NetifTxRequest, NetifTxResponse, G>;

const SLOTS: usize = Ring::<&dyn Page>::SLOTS as usize;

/// What the backend is to do for a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// Make the checksum of TCP or UDP, whose field holds the pseudo header's sum
    /// ([`checksum::blank`](super::checksum::blank)).
    pub checksum: bool,
    /// Cut a long TCP frame into segments of so many bytes of payload. Wants `checksum` too.
    pub segment: Option<u16>,
}

/// Which parts of the protocol the backend knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Able {
    /// Frames of several slots.
    pub scatter: bool,
    pub gso_v4: bool,
    pub gso_v6: bool,
}

pub(super) struct Tx<P: Platform> {
    ring: Ring<P::Page>,
    peer: DomId,
    able: Able,
    /// Pages under way, with the ids that their responses must have.
    pending: Vec<Option<(u16, P::Page)>>,
    free: Vec<u8>,
    generation: u8,
    /// Extra slots whose responses have not come.
    extras: usize,
    pages: Vec<P::Page>,
    /// Slots that the backend refused to send.
    pub failed: u64,
}

impl<P: Platform> Tx<P> {
    pub fn new(platform: &P, peer: DomId, able: Able) -> Result<Self, Refused> {
        Ok(Self {
            ring: Ring::new(platform.share(peer, Access::Write)?),
            peer,
            able,
            pending: (0..SLOTS).map(|_| None).collect(),
            // Ids are one byte of place and one of generation.
            free: (0..=u8::MAX).rev().take(SLOTS).collect(),
            generation: 0,
            extras: 0,
            pages: Vec::new(),
            failed: 0,
        })
    }

    pub fn grant(&self) -> u32 {
        self.ring.page().grant().0
    }

    /// Whether a frame of so many bytes fits now, an extra slot with it.
    pub fn fits(&self, bytes: usize) -> bool {
        let slots = bytes.div_ceil(PAGE);
        self.ring.room() as usize > slots && self.free.len() >= slots
    }

    /// Puts a frame, given in parts, into the ring.
    pub fn send(&mut self, platform: &P, parts: &[&[u8]], offload: Offload) -> Result<(), Error> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        if total < HEADER {
            return Err(Error::TooShort);
        }
        if total > MOST || (total > PAGE && !self.able.scatter) {
            return Err(Error::TooLong);
        }
        let extra = match offload.segment {
            Some(size) => Some(self.segments(parts, size)?),
            None => None,
        };
        if !self.fits(total) {
            return Err(Error::Busy);
        }
        let count = total.div_ceil(PAGE);
        while self.pages.len() < count {
            self.pages.push(platform.share(self.peer, Access::Read)?);
        }
        let pages = self.pages.split_off(self.pages.len() - count);
        fill(&pages, parts);
        let full = |Full| Error::Busy;
        for (n, page) in pages.into_iter().enumerate() {
            let mut request = NetifTxRequest {
                gref: page.grant().0,
                ..NetifTxRequest::default()
            };
            let mut size = (total - n * PAGE).min(PAGE);
            if n == 0 {
                size = total;
                if offload.checksum {
                    request.flags |= NETTXF_CSUM_BLANK | NETTXF_DATA_VALIDATED;
                }
                if extra.is_some() {
                    request.flags |= NETTXF_EXTRA_INFO;
                }
            }
            // At most `MOST`.
            request.size = size as u16;
            if n + 1 < count {
                request.flags |= NETTXF_MORE_DATA;
            }
            request.id = self.place(page)?;
            self.ring.put(&request).map_err(full)?;
            if let (0, Some(extra)) = (n, &extra) {
                self.extras += 1;
                let mut slot = NetifTxRequest::new_zeroed();
                slot.as_mut_bytes()[..size_of::<NetifExtraInfo>()]
                    .copy_from_slice(extra.as_bytes());
                self.ring.put(&slot).map_err(full)?;
            }
        }
        Ok(())
    }

    /// The extra slot that asks for segments.
    fn segments(&self, parts: &[&[u8]], size: u16) -> Result<NetifExtraInfo, Error> {
        let mut ethertype = parts.iter().flat_map(|part| part.iter()).skip(12);
        let kind = match (ethertype.next(), ethertype.next()) {
            (Some(0x08), Some(0x00)) if self.able.gso_v4 => XEN_NETIF_GSO_TYPE_TCPV4,
            (Some(0x86), Some(0xdd)) if self.able.gso_v6 => XEN_NETIF_GSO_TYPE_TCPV6,
            _ => return Err(Error::Unsupported),
        };
        if size == 0 {
            return Err(Error::Unsupported);
        }
        let [low, high] = size.to_le_bytes();
        Ok(NetifExtraInfo {
            r#type: XEN_NETIF_EXTRA_TYPE_GSO,
            flags: 0,
            u: [low, high, kind, 0, 0, 0],
        })
    }

    /// Keeps a page until its response comes; returns its id.
    fn place(&mut self, page: P::Page) -> Result<u16, Error> {
        let place = self.free.pop().ok_or(Error::Busy)?;
        let id = u16::from_le_bytes([place, self.generation]);
        self.generation = self.generation.wrapping_add(1);
        self.pending[usize::from(place)] = Some((id, page));
        Ok(id)
    }

    /// Lets the backend see what was put; returns whether it must be notified.
    pub fn push(&mut self) -> bool {
        self.ring.push()
    }

    /// Takes all responses that wait.
    pub fn reap(&mut self) -> Result<(), Error> {
        while let Some(response) = self.ring.take()? {
            if response.status == NETIF_RSP_NULL {
                // An extra slot's; it has no id.
                self.extras = self
                    .extras
                    .checked_sub(1)
                    .ok_or(Error::Misbehaved(Misbehaviour::Extra))?;
                continue;
            }
            if response.status != NETIF_RSP_OKAY {
                self.failed += 1;
            }
            let [place, _] = response.id.to_le_bytes();
            let pending = &mut self.pending[usize::from(place)];
            match pending.take() {
                Some((id, page)) if id == response.id => {
                    self.pages.push(page);
                    self.free.push(place);
                }
                _ => return Err(Error::Misbehaved(Misbehaviour::Id)),
            }
        }
        Ok(())
    }

    /// Asks to be told of the next response if there is no room for a frame of `most` bytes; whether
    /// one waits after all.
    pub fn arm(&mut self, most: usize) -> Result<bool, Error> {
        Ok(!self.fits(most) && self.ring.arm()?)
    }
}

/// Copies a frame into pages.
fn fill<G: Page>(pages: &[G], parts: &[&[u8]]) {
    let mut at = 0;
    for part in parts {
        let mut rest = *part;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PAGE - at % PAGE));
            pages[at / PAGE].write(at % PAGE, now);
            at += now.len();
            rest = later;
        }
    }
}
