//! Disks.
//!
//! [`Disk`] is a frontend: it finds its backend through the store, and reads and writes through
//! rings. [`Disk::read`], [`Disk::write`], [`Disk::flush`] and [`Disk::discard`] wait for the
//! backend; [`Disk::submit`] and [`Disk::completed`] do not, and keep many requests under way.
//!
//! ```no_run
//! # fn run(platform: impl pv_drivers::device::Platform) -> Result<(), pv_drivers::block::Error> {
//! use pv_drivers::block::{Disk, Options};
//!
//! let mut disk = Disk::open(platform, "device/vbd/51712", Options::default())?;
//! disk.connect()?;
//! let mut sector = [0; 512];
//! disk.read(0, &mut sector)?;
//! sector[0] = 1;
//! disk.write(0, &sector)?;
//! disk.flush()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What the backend can do
//!
//! Data lies in pages that are shared with the backend once and used again and again (persistent
//! grants), and is copied in and out: the backend sees these pages, and nothing else of the
//! guest. What it writes there while it should not changes data, as it could anyway. Its indices,
//! ids, echoed operations and its nodes in the store are checked; where they cannot be, the device
//! is closed and every request ends with an error. It can be slow, or never answer: waiting ends
//! after [`Options::patience`].
//!
//! Source of the protocol: Xen `include/public/io/blkif.h`.

use core::fmt;

use crate::device::Refused;
use crate::device::xenbus::Fault;
use crate::ring::Corrupt;

pub mod backend;
mod buffer;
mod frontend;
mod geometry;
mod queue;
#[cfg(test)]
mod tests;
mod waiting;

pub use buffer::Buffer;
pub use frontend::{Disk, Options};
pub use geometry::{Discard, Flush, Geometry};
pub use queue::{Completion, Operation, Rejected, Tag};

/// Bytes of a sector as the protocol counts them.
pub const SECTOR: usize = 512;
/// Bytes of a page, the most of a segment.
const PAGE: usize = 4096;

/// Why a disk did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not connected: not yet, or no longer. See [`Disk::reconnect`].
    Disconnected,
    /// The backend broke the protocol; the device was closed.
    Misbehaved(Misbehaviour),
    /// The device's nodes in the store.
    Nodes(Fault),
    /// The backend did not answer within [`Options::patience`].
    TimedOut,
    /// The backend tried and failed.
    Failed,
    /// The backend cannot do that.
    Unsupported,
    /// The disk is not for writing.
    ReadOnly,
    /// The range leaves the disk.
    OutOfRange,
    /// Not a multiple of the disk's [`sector_size`](Geometry::sector_size), or no bytes at all.
    Unaligned,
    /// More bytes than one request carries.
    TooLong,
    /// As many requests as the ring holds are under way, or memory or grants are used up.
    Busy,
}

/// What a backend did that it must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// More responses than requests.
    Indices,
    /// A response to no request.
    Id,
    /// A response that names another operation than its request.
    Operation,
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
            Self::Disconnected => "the disk's backend is not connected",
            Self::Misbehaved(Misbehaviour::Indices) => "the disk's backend broke the ring",
            Self::Misbehaved(Misbehaviour::Id) => "the disk's backend answered no request",
            Self::Misbehaved(Misbehaviour::Operation) => {
                "the disk's backend answered another operation"
            }
            Self::Nodes(fault) => return fault.fmt(f),
            Self::TimedOut => "the disk's backend does not answer",
            Self::Failed => "the disk's backend failed",
            Self::Unsupported => "the disk's backend cannot do that",
            Self::ReadOnly => "the disk is not for writing",
            Self::OutOfRange => "beyond the end of the disk",
            Self::Unaligned => "not a whole number of the disk's sectors",
            Self::TooLong => "longer than one request may be",
            Self::Busy => "too many requests are under way",
        })
    }
}

impl core::error::Error for Error {}
