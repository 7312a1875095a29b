//! A card as a device of `smoltcp`.
//!
//! Checksums of TCP and UDP are left to the backend, or to the device at the frame's other end:
//! what never leaves the host is never summed. Frames that come in without word of their checksum
//! are verified here. Long TCP frames go out whole where the backend can cut them.

use alloc::vec::Vec;
use core::num::NonZeroUsize;

use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;

use super::rx::Integrity;
use super::tx::Offload;
use super::{Card, Error, HEADER, checksum, flow};
use crate::device::Platform;

/// A card that `smoltcp` drives.
#[derive(Debug)]
pub struct Phy<P: Platform> {
    card: Card<P>,
    mtu: usize,
    rx: Vec<u8>,
    tx: Vec<u8>,
    /// Frames with a wrong checksum.
    wrong: u64,
    error: Option<Error>,
}

impl<P: Platform> Phy<P> {
    /// A device over a card that is connected: what it can do is asked once.
    ///
    /// # Errors
    /// [`Error::Nodes`]: the toolstack's `mtu` is no number.
    pub fn new(card: Card<P>) -> Result<Self, Error> {
        Ok(Self {
            mtu: card.mtu()?,
            card,
            rx: Vec::new(),
            tx: Vec::new(),
            wrong: 0,
            error: None,
        })
    }

    /// The card: to be polled before the interface is, and armed before sleeping.
    pub const fn card(&mut self) -> &mut Card<P> {
        &mut self.card
    }

    /// The card, and the device given up.
    pub fn into_card(self) -> Card<P> {
        self.card
    }

    /// What went wrong since this was asked last: `smoltcp` itself sees a device where nothing
    /// comes and goes.
    pub const fn error(&mut self) -> Option<Error> {
        self.error.take()
    }

    /// Frames that were dropped for their checksum.
    #[must_use]
    pub const fn wrong_checksums(&self) -> u64 {
        self.wrong
    }

    /// Bytes of the longest frame that the stack may hand over.
    fn most(&self) -> usize {
        let most = self.card.features().map_or(0, |features| features.most);
        let segments = self.card.features().is_some_and(|f| f.segment_v4);
        if segments { most } else { self.mtu + HEADER }
    }

    /// Whether any frame can go out, on whichever queue it will.
    fn has_room(&self) -> bool {
        let most = self.most();
        let queues = self.card.queues();
        queues > 0 && (0..queues).all(|queue| self.card.fits(queue, most))
    }

    fn next_frame(&mut self) -> bool {
        loop {
            match self.card.receive(&mut self.rx) {
                Ok(Some(received)) => {
                    if received.integrity == Integrity::Unknown && !checksum::is_right(&self.rx) {
                        self.wrong += 1;
                        continue;
                    }
                    return true;
                }
                Ok(None) => return false,
                Err(error) => {
                    self.error = Some(error);
                    return false;
                }
            }
        }
    }
}

impl<P: Platform> Device for Phy<P> {
    type RxToken<'a>
        = RxToken<'a>
    where
        P: 'a;
    type TxToken<'a>
        = TxToken<'a, P>
    where
        P: 'a;

    fn receive(&mut self, _: Instant) -> Option<(RxToken<'_>, TxToken<'_, P>)> {
        if !self.has_room() || !self.next_frame() {
            return None;
        }
        let rx = RxToken(&self.rx);
        let tx = TxToken {
            card: &mut self.card,
            frame: &mut self.tx,
            error: &mut self.error,
            segment: None,
        };
        Some((rx, tx))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_, P>> {
        self.has_room().then_some(TxToken {
            card: &mut self.card,
            frame: &mut self.tx,
            error: &mut self.error,
            segment: None,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut able = DeviceCapabilities::default();
        able.medium = Medium::Ethernet;
        able.max_transmission_unit = self.mtu + HEADER;
        able.checksum.tcp = Checksum::None;
        able.checksum.udp = Checksum::None;
        if self.card.features().is_some_and(|f| f.segment_v4) {
            able.segmentation.tcpv4 = NonZeroUsize::new(self.most());
        }
        able
    }
}

/// A frame that came.
#[derive(Debug)]
pub struct RxToken<'a>(&'a [u8]);

impl smoltcp::phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Room for a frame.
#[derive(Debug)]
pub struct TxToken<'a, P: Platform> {
    card: &'a mut Card<P>,
    frame: &'a mut Vec<u8>,
    error: &'a mut Option<Error>,
    segment: Option<u16>,
}

impl<P: Platform> smoltcp::phy::TxToken for TxToken<'_, P> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // What an earlier frame left is written over: clearing it would cost as much as a copy.
        if self.frame.len() < len {
            self.frame.resize(len, 0);
        }
        let frame = &mut self.frame[..len];
        let result = f(frame);
        let v6 = frame.get(12..14) == Some(&[0x86, 0xdd]);
        let blank = !v6 || self.card.features().is_some_and(|f| f.checksum_v6);
        let offload = Offload {
            checksum: if blank {
                checksum::blank(frame)
            } else {
                checksum::complete(frame);
                false
            },
            segment: self.segment,
        };
        let queue = flow(frame) % self.card.queues().max(1);
        match self.card.send(queue, &[frame], offload) {
            Ok(()) => self.card.push(),
            Err(error) => *self.error = Some(error),
        }
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment = meta.segmentation_offload_size.map(Into::into);
    }
}
