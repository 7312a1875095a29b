//! Why a domain cannot be saved or restored.

use std::fmt;
use std::io;

use super::place::Place;
use crate::{build, ctl};

pub(super) type Result<T> = std::result::Result<T, Error>;

/// Why a domain cannot be saved or restored.
#[derive(Debug)]
pub enum Error {
    /// Reading or writing.
    Io(io::Error),
    /// The file ends too early.
    Truncated,
    /// The file's checksum is not that of its content.
    Damaged(String),
    /// Something is wrong with this place of the file.
    At(Place, Box<Self>),
    /// The file is no saved PV domain, or contradicts itself.
    Format(String),
    /// The domain is in a state that cannot be saved.
    Domain(String),
    /// The hypervisor refused something.
    Hypervisor(ctl::Error),
    /// The domain cannot be built.
    Build(build::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Truncated => f.write_str("the saved domain is cut off: the file ends too early"),
            Self::Damaged(how) => write!(f, "the saved domain is damaged: {how}"),
            Self::At(place, error) => write!(f, "{error}, {place}"),
            Self::Format(what) => write!(f, "not a saved PV domain: {what}"),
            Self::Domain(what) => f.write_str(what),
            Self::Hypervisor(error) => error.fmt(f),
            Self::Build(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Says where in the file, if it is the file's fault and nobody has said so yet.
    pub(super) fn at(self, place: Place) -> Self {
        match self {
            Self::Truncated | Self::Damaged(_) | Self::Format(_) => Self::At(place, Box::new(self)),
            Self::At(..) | Self::Io(_) | Self::Domain(_) | Self::Hypervisor(_) | Self::Build(_) => {
                self
            }
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Truncated
        } else {
            Self::Io(error)
        }
    }
}

impl From<ctl::Error> for Error {
    fn from(error: ctl::Error) -> Self {
        Self::Hypervisor(error)
    }
}

impl From<build::Error> for Error {
    fn from(error: build::Error) -> Self {
        Self::Build(error)
    }
}

/// A stream that contradicts itself.
pub(super) fn bad<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::Format(what.into()))
}
