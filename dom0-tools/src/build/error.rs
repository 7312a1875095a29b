//! Why a domain cannot be built.

use std::fmt;
use std::io;

use crate::ctl;
use crate::sys::DomId;

pub(super) type Result<T> = std::result::Result<T, Error>;

/// Why a domain cannot be built.
#[derive(Debug)]
pub enum Error {
    /// The kernel file is not one, or does not fit.
    Kernel(pv_image::Error),
    /// The unpacked kernel would be larger than any kernel is.
    KernelTooLarge {
        /// Bytes it would have.
        bytes: usize,
        /// Bytes it may have.
        most: usize,
    },
    /// The initial RAM disk cannot be read to its end.
    Initrd(io::Error),
    /// The command line is too long.
    CommandLine {
        /// Bytes it has.
        bytes: usize,
        /// Bytes it may have.
        most: usize,
    },
    /// The host has not that much free memory.
    Memory {
        /// Who wanted it.
        domain: DomId,
        /// Pages wanted.
        wanted: u64,
        /// Pages there were.
        got: u64,
    },
    /// The hypervisor refused something.
    Hypervisor(ctl::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel(error) => write!(f, "kernel: {error}"),
            Self::KernelTooLarge { bytes, most } => write!(
                f,
                "kernel: unpacks to {bytes} bytes, more than the {most} that one may have"
            ),
            Self::Initrd(error) => write!(f, "ramdisk: {error}"),
            Self::CommandLine { bytes, most } => write!(
                f,
                "the kernel's command line has {bytes} bytes, more than the {most} it may have"
            ),
            Self::Memory {
                domain,
                wanted,
                got,
            } => write!(
                f,
                "domain {domain} needs {} MiB of memory, and there were only {} MiB",
                wanted / 256,
                got / 256
            ),
            Self::Hypervisor(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Kernel(error) => Some(error),
            Self::Initrd(error) => Some(error),
            Self::Hypervisor(error) => Some(error),
            Self::KernelTooLarge { .. } | Self::CommandLine { .. } | Self::Memory { .. } => None,
        }
    }
}

impl From<pv_image::Error> for Error {
    fn from(error: pv_image::Error) -> Self {
        Self::Kernel(error)
    }
}

impl From<ctl::Error> for Error {
    fn from(error: ctl::Error) -> Self {
        Self::Hypervisor(error)
    }
}
