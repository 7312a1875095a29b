//! What can go wrong for a client.

use std::io;

use crate::store::wire::Errno;

/// A client's result.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody serves xenstore, or not for this user.
    #[error("xenstore cannot be reached at {place}: {source}; does oxd or xenstored run?")]
    Unreachable {
        /// Socket or device.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection ended.
    #[error("xenstore has closed the connection")]
    Closed,
    /// The store refused.
    #[error("xenstore {what}: {errno}")]
    Refused {
        /// Path or domain.
        what: String,
        /// Why.
        errno: Errno,
    },
    /// The store answered something that is no answer.
    #[error("xenstore {what}: the answer makes no sense")]
    Nonsense {
        /// Path or domain.
        what: String,
    },
}

impl Error {
    pub(super) fn refused(what: &str, errno: Errno) -> Self {
        let what = what.to_owned();
        Self::Refused { what, errno }
    }

    pub(super) fn nonsense(what: &str) -> Self {
        let what = what.to_owned();
        Self::Nonsense { what }
    }

    /// Whether the store refused for this reason.
    #[must_use]
    pub fn is(&self, errno: Errno) -> bool {
        matches!(self, Self::Refused { errno: e, .. } if *e == errno)
    }
}

/// A thing that is not there as `None`.
pub(super) fn absent<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.is(Errno::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}
