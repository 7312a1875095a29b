//! Files of another domain, by 9P.
//!
//! [`Files`] is a frontend: it finds its backend through the store, and asks it by rings, one request
//! at a time, in the dialect `9P2000.L`. Every call waits for its answer.
//!
//! ```no_run
//! # fn run(platform: impl pv_drivers::device::Platform) -> Result<(), pv_drivers::p9::Error> {
//! use pv_drivers::p9::{Access, Files, Options};
//!
//! let mut files = Files::open(platform, "device/9pfs/0", Options::default())?;
//! files.connect()?;
//! let motd = files.open_file("etc/motd", Access::Read)?;
//! let mut text = [0; 100];
//! let count = files.read(&motd, 0, &mut text)?;
//! files.close(motd)?;
//! # let _ = count;
//! # Ok(())
//! # }
//! ```
//!
//! # What the backend can do
//!
//! Answers are copied out of the rings before they are looked at. Their lengths, kinds, tags and
//! counts are checked; where they cannot be, the connection is closed, and its [`File`]s are of no
//! use. It can say anything of files, and be slow or never answer: waiting ends after
//! [`Options::patience`].
//!
//! Source of the transport: Xen `docs/misc/9pfs.pandoc`; of the dialect: Linux
//! `include/net/9p/9p.h` and the description at <https://github.com/chaos/diod/blob/master/protocol.md>.

use core::fmt;

use crate::device::Refused;
use crate::device::xenbus::Fault;
use crate::ring::Corrupt;

mod exchange;
mod files;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod wire;

pub use exchange::{Files, Options};
pub use files::{Access, Attributes, File, Kind};

/// Why a file was not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not connected: not yet, or no longer; or the file is of an earlier connection.
    Disconnected,
    /// The backend broke the protocol; the connection was closed.
    Misbehaved(Misbehaviour),
    /// The device's nodes in the store.
    Nodes(Fault),
    /// The backend did not answer within [`Options::patience`]; the connection was closed.
    TimedOut,
    /// The backend says no: Linux' number of an error.
    Refused(u32),
    /// Memory, grants or event channels are used up.
    Exhausted,
    /// No name of a file: empty, `..`, with a NUL, or longer than 255 bytes.
    Name,
}

/// What a backend did that it must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// Impossible indices.
    Indices,
    /// An answer that is too long or too short for what it is.
    Length,
    /// An answer of another kind, or to no request.
    Kind,
    /// More bytes than were asked for or given.
    Count,
    /// No dialect that was offered.
    Version,
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
            Refused::Exhausted => Self::Exhausted,
            Refused::Denied | Refused::Store => Self::Nodes(Fault::Refused(refused)),
        }
    }
}

impl From<wire::Malformed> for Error {
    fn from(wire::Malformed: wire::Malformed) -> Self {
        Self::Misbehaved(Misbehaviour::Length)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disconnected => "the files' backend is not connected",
            Self::Misbehaved(Misbehaviour::Indices) => "the files' backend broke the ring",
            Self::Misbehaved(Misbehaviour::Length) => "the files' backend sends a damaged answer",
            Self::Misbehaved(Misbehaviour::Kind) => "the files' backend answered no request",
            Self::Misbehaved(Misbehaviour::Count) => "the files' backend moved impossibly much",
            Self::Misbehaved(Misbehaviour::Version) => "the files' backend speaks no 9P2000.L",
            Self::Nodes(fault) => return fault.fmt(f),
            Self::TimedOut => "the files' backend does not answer",
            Self::Refused(errno) => return write!(f, "the files' backend refused (errno {errno})"),
            Self::Exhausted => "no memory, grant or event channel is left",
            Self::Name => "no name of a file",
        })
    }
}

impl core::error::Error for Error {}
