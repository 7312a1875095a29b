//! Network cards.
//!
//! [`Card`] is a frontend: frames go out with [`Card::send`] and come in with [`Card::receive`].
//! With the feature `smoltcp` it is a device of that TCP/IP stack: `phy`.
//!
//! # What the backend can do
//!
//! Frames are copied into pages that the backend may read, and out of pages that it may write:
//! each byte is read once, into memory of the guest's own. Its indices, ids, offsets, lengths and
//! chains of slots are checked; where they cannot be, the card is closed. What frames hold is for
//! the network stack to check, as with any cable.
//!
//! Source of the protocol: Xen `include/public/io/netif.h`.

use core::fmt;

use crate::device::Refused;
use crate::device::xenbus::Fault;
use crate::ring::Corrupt;

pub mod backend;
mod card;
pub mod checksum;
#[cfg(any(test, feature = "smoltcp"))]
pub mod phy;
mod rx;
#[cfg(test)]
mod tests;
mod tx;

pub use card::{Card, Features, Options};
pub use rx::{Integrity, Received};
pub use tx::Offload;

/// Bytes of a page, the most of a slot.
const PAGE: usize = 4096;
/// Bytes of an Ethernet header, the least of a frame.
const HEADER: usize = 14;
/// Longest frame, bytes: a slot's length has 16 bits.
pub const MOST: usize = xen_abi::netif::XEN_NETIF_MAX_TX_SIZE;

/// Why a card did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not connected: not yet, or no longer. See [`Card::reconnect`].
    Disconnected,
    /// The backend broke the protocol; the card was closed.
    Misbehaved(Misbehaviour),
    /// The card's nodes in the store.
    Nodes(Fault),
    /// The backend did not connect in time.
    TimedOut,
    /// The ring, or memory, or grants are used up for now.
    Busy,
    /// Shorter than an Ethernet header.
    TooShort,
    /// Longer than the backend takes.
    TooLong,
    /// The backend cannot do that.
    Unsupported,
}

/// What a backend did that it must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// More responses than requests.
    Indices,
    /// A response to no request.
    Id,
    /// A part of a frame that leaves its page.
    Extent,
    /// A frame of too many parts, or too long.
    Chain,
    /// An extra slot of no known kind.
    Extra,
}

impl From<Corrupt> for Error {
    fn from(Corrupt: Corrupt) -> Self {
        Self::Misbehaved(Misbehaviour::Indices)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::Nodes(fault)
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Exhausted => Self::Busy,
            Refused::Denied | Refused::Store => Self::Nodes(Fault::Refused(refused)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "the card's backend is not connected",
            Self::Misbehaved(Misbehaviour::Indices) => "the card's backend broke the ring",
            Self::Misbehaved(Misbehaviour::Id) => "the card's backend answered no request",
            Self::Misbehaved(Misbehaviour::Extent) => "the card's backend names bytes of no page",
            Self::Misbehaved(Misbehaviour::Chain) => "the card's backend sends an endless frame",
            Self::Misbehaved(Misbehaviour::Extra) => "the card's backend sends an unknown slot",
            Self::Nodes(fault) => return fault.fmt(f),
            Self::TimedOut => "the card's backend does not answer",
            Self::Busy => "the card's rings are full",
            Self::TooShort => "no Ethernet frame: too short",
            Self::TooLong => "longer than the card's backend takes",
            Self::Unsupported => "the card's backend cannot do that",
        })
    }
}

impl core::error::Error for Error {}

/// A number that is the same for all frames of one connection: they stay in order on one queue.
fn flow(frame: &[u8]) -> usize {
    // Addresses and ports of IPv4; of IPv6 the addresses' ends and what follows.
    let bytes = match frame.get(12..14) {
        Some([0x86, 0xdd]) => frame.get(34..58),
        _ => frame.get(26..38),
    };
    bytes.unwrap_or(&[]).iter().fold(0_usize, |all, byte| {
        all.wrapping_mul(31).wrapping_add(usize::from(*byte))
    })
}
