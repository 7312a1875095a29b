//! One pair of rings from the backend's side.

use alloc::vec::Vec;

use xen_abi::netif::{
    NETIF_RSP_ERROR, NETIF_RSP_NULL, NETIF_RSP_OKAY, NETRXF_CSUM_BLANK, NETRXF_DATA_VALIDATED,
    NETRXF_EXTRA_INFO, NETRXF_MORE_DATA, NETTXF_CSUM_BLANK, NETTXF_EXTRA_INFO, NETTXF_MORE_DATA,
    NetifExtraInfo, NetifRxRequest, NetifRxResponse, NetifTxRequest, NetifTxResponse,
    XEN_NETIF_EXTRA_FLAG_MORE, XEN_NETIF_EXTRA_TYPE_GSO, XEN_NETIF_EXTRA_TYPE_MAX,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6,
    XEN_NETIF_NR_SLOTS_MIN,
};
use zerocopy::{FromBytes, IntoBytes};

use super::super::rx::{Integrity, Received};
use super::super::tx::Offload;
use super::super::{HEADER, PAGE};
use super::{Channel, Error, Foreign, GrantRef, Network};
use crate::device::DomId;
use crate::ring::BackRing;

pub(super) struct Queue<P: Foreign> {
    tx: BackRing<NetifTxRequest, NetifTxResponse, P::Mapped>,
    pub rx: BackRing<NetifRxRequest, NetifRxResponse, P::Mapped>,
    pub tx_channel: P::Bound,
    pub rx_channel: Option<P::Bound>,
    frame: Vec<u8>,
}

/// What became of a frame for the guest.
pub(super) enum Outcome {
    Delivered,
    /// The guest's grants are of no use.
    Lost,
    /// The guest has posted too few pages.
    NoRoom,
}

/// The slots of one frame of the guest's.
#[derive(Default)]
struct Chain {
    /// Ids of slots with data, and which of all slots are extra ones.
    slots: Vec<Option<u16>>,
    parts: Vec<NetifTxRequest>,
    segment: Option<u16>,
}

impl<P: Foreign> Queue<P> {
    pub fn new(
        tx: P::Mapped,
        rx: P::Mapped,
        tx_channel: P::Bound,
        rx_channel: Option<P::Bound>,
    ) -> Self {
        Self {
            tx: BackRing::attach(tx),
            rx: BackRing::attach(rx),
            tx_channel,
            rx_channel,
            frame: Vec::new(),
        }
    }

    /// Takes what the guest sends, at most a ring's worth. Returns whether there was something,
    /// and how many frames were lost.
    pub fn collect(
        &mut self,
        platform: &P,
        peer: DomId,
        network: &mut impl Network,
    ) -> Result<(bool, u64), Error> {
        let (mut busy, mut lost) = (false, 0);
        for _ in 0..256 {
            let Some(chain) = self.chain(network.segments())? else {
                // Asks for the next event; what came meanwhile is for now.
                if self.tx.arm()? {
                    continue;
                }
                break;
            };
            busy = true;
            let fetched = self.fetch(platform, peer, &chain);
            if fetched {
                let offload = Offload {
                    checksum: chain.parts[0].flags & NETTXF_CSUM_BLANK != 0,
                    segment: chain.segment,
                };
                network.transmit(&self.frame, offload);
            } else {
                lost += 1;
            }
            for slot in chain.slots {
                let status = match (slot, fetched) {
                    (None, _) => NETIF_RSP_NULL,
                    (_, true) => NETIF_RSP_OKAY,
                    (_, false) => NETIF_RSP_ERROR,
                };
                let id = slot.unwrap_or(0);
                let response = NetifTxResponse { id, status };
                self.tx.put(&response).map_err(|_| Error::Ring)?;
            }
            if self.tx.push() {
                self.tx_channel.notify();
            }
        }
        Ok((busy, lost))
    }

    /// Takes all slots of the next frame. A frontend publishes a frame as a whole or not at all.
    fn chain(&mut self, segments: bool) -> Result<Option<Chain>, Error> {
        let Some(first) = self.tx.take()? else {
            return Ok(None);
        };
        let mut chain = Chain::default();
        chain.slots.push(Some(first.id));
        chain.parts.push(first);
        let mut extra = first.flags & NETTXF_EXTRA_INFO != 0;
        while extra {
            let slot = self.tx.take()?.ok_or(Error::Ring)?;
            chain.slots.push(None);
            let info = NetifExtraInfo::read_from_prefix(slot.as_bytes());
            let (info, _) = info.map_err(|_| Error::Ring)?;
            match info.r#type {
                XEN_NETIF_EXTRA_TYPE_GSO => {
                    let size = u16::from_le_bytes([info.u[0], info.u[1]]);
                    let known =
                        [XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6].contains(&info.u[2]);
                    if size == 0 || !known || !segments {
                        return Err(Error::Ring);
                    }
                    chain.segment = Some(size);
                }
                // Multicast addresses and hashes do not matter here.
                XEN_NETIF_EXTRA_TYPE_MCAST_ADD..XEN_NETIF_EXTRA_TYPE_MAX => {}
                _ => return Err(Error::Ring),
            }
            if chain.slots.len() > usize::from(XEN_NETIF_EXTRA_TYPE_MAX) {
                return Err(Error::Ring);
            }
            extra = info.flags & XEN_NETIF_EXTRA_FLAG_MORE != 0;
        }
        let mut more = first.flags & NETTXF_MORE_DATA != 0;
        while more {
            let part = self.tx.take()?.ok_or(Error::Ring)?;
            if chain.parts.len() >= XEN_NETIF_NR_SLOTS_MIN {
                return Err(Error::Ring);
            }
            chain.slots.push(Some(part.id));
            chain.parts.push(part);
            more = part.flags & NETTXF_MORE_DATA != 0;
        }
        Ok(Some(chain))
    }

    /// Copies a frame out of the guest's pages.
    fn fetch(&mut self, platform: &P, peer: DomId, chain: &Chain) -> bool {
        let total = usize::from(chain.parts[0].size);
        let rest: usize = chain.parts[1..].iter().map(|p| usize::from(p.size)).sum();
        let Some(first) = total.checked_sub(rest) else {
            return false;
        };
        if total < HEADER {
            return false;
        }
        self.frame.clear();
        self.frame.resize(total, 0);
        let mut at = 0;
        for (n, part) in chain.parts.iter().enumerate() {
            let size = if n == 0 {
                first
            } else {
                usize::from(part.size)
            };
            let into = &mut self.frame[at..at + size];
            let offset = usize::from(part.offset);
            if platform
                .copy_from(peer, GrantRef(part.gref), offset, into)
                .is_err()
            {
                return false;
            }
            at += size;
        }
        true
    }

    /// Puts a frame into pages that the guest has posted.
    pub fn deliver(
        &mut self,
        platform: &P,
        peer: DomId,
        frame: &[u8],
        received: Received,
    ) -> Result<Outcome, Error> {
        let parts = frame.len().div_ceil(PAGE);
        let slots = parts + usize::from(received.segment.is_some());
        if (self.rx.waiting()? as usize) < slots {
            self.await_pages(slots);
            if (self.rx.waiting()? as usize) < slots {
                return Ok(Outcome::NoRoom);
            }
        }
        let mut outcome = Outcome::Delivered;
        for (n, part) in frame.chunks(PAGE).enumerate() {
            let request = self.rx.take()?.ok_or(Error::Ring)?;
            let copied = platform.copy_to(peer, GrantRef(request.gref), 0, part);
            let mut response = NetifRxResponse {
                id: request.id,
                // At most a page.
                status: part.len() as i16,
                ..NetifRxResponse::default()
            };
            if copied.is_err() {
                response.status = NETIF_RSP_ERROR;
                outcome = Outcome::Lost;
            }
            if n == 0 {
                response.flags |= match received.integrity {
                    Integrity::Unknown => 0,
                    Integrity::Verified => NETRXF_DATA_VALIDATED,
                    Integrity::Blank => NETRXF_DATA_VALIDATED | NETRXF_CSUM_BLANK,
                };
            }
            let segment = received.segment.filter(|_| n == 0);
            if segment.is_some() {
                response.flags |= NETRXF_EXTRA_INFO;
            }
            if n + 1 < parts {
                response.flags |= NETRXF_MORE_DATA;
            }
            self.rx.put(&response).map_err(|_| Error::Ring)?;
            if let Some(size) = segment {
                self.extra(size, frame)?;
            }
        }
        Ok(outcome)
    }

    /// The slot that says how a frame was put together.
    fn extra(&mut self, size: u16, frame: &[u8]) -> Result<(), Error> {
        // The request makes room; its page is not used.
        self.rx.take()?.ok_or(Error::Ring)?;
        let [low, high] = size.to_le_bytes();
        let kind = if frame.get(12..14) == Some(&[0x86, 0xdd]) {
            XEN_NETIF_GSO_TYPE_TCPV6
        } else {
            XEN_NETIF_GSO_TYPE_TCPV4
        };
        let info = NetifExtraInfo {
            r#type: XEN_NETIF_EXTRA_TYPE_GSO,
            flags: 0,
            u: [low, high, kind, 0, 0, 0],
        };
        let slot: NetifRxResponse = zerocopy::transmute!(info);
        self.rx.put(&slot).map_err(|_| Error::Ring)
    }

    /// Asks to be notified when as many pages are posted as a frame needs.
    fn await_pages(&mut self, slots: usize) {
        // At most 18.
        self.rx.arm_at(slots as u32);
    }
}
