//! What can go wrong when the hypervisor is asked.

use std::fmt;
use std::io;

use crate::sys::DomId;

/// Result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a call failed: what was attempted, on whom, and the errno.
#[derive(Debug)]
pub enum Error {
    /// A device of dom0's kernel cannot be used.
    Device {
        /// Path.
        device: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Something about one domain.
    Domain {
        /// What was attempted, as in "cannot {operation} domain 3".
        operation: &'static str,
        /// On whom.
        domain: DomId,
        /// Why.
        source: io::Error,
    },
    /// Something about the host.
    Host {
        /// What was attempted, as in "cannot {operation}".
        operation: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The hypervisor's or the kernel's errno, positive.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.io().raw_os_error()
    }

    /// Whether the domain does not exist (any more).
    #[must_use]
    pub fn is_no_domain(&self) -> bool {
        matches!(self, Self::Domain { .. }) && self.errno() == Some(libc::ESRCH)
    }

    const fn io(&self) -> &io::Error {
        match self {
            Self::Device { source, .. }
            | Self::Domain { source, .. }
            | Self::Host { source, .. } => source,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device { device, source } => {
                write!(f, "cannot use {device}: {source}")?;
                if source.kind() == io::ErrorKind::NotFound {
                    f.write_str(" (is this the control domain, with Xen's modules loaded?)")?;
                }
                return Ok(());
            }
            Self::Domain {
                operation, domain, ..
            } => write!(f, "cannot {operation} domain {domain}: ")?,
            Self::Host { operation, .. } => write!(f, "cannot {operation}: ")?,
        }
        match self.errno() {
            Some(libc::ESRCH) => f.write_str("there is no such domain"),
            Some(libc::EPERM) => f.write_str("the hypervisor does not permit it"),
            Some(libc::ENOSYS | libc::EOPNOTSUPP) => f.write_str("this hypervisor cannot do that"),
            Some(libc::ENOMEM) => f.write_str("not enough memory in the hypervisor"),
            // What domctl and sysctl answer to another version of their interface.
            Some(libc::EACCES) => f.write_str("the hypervisor is not of version 4.17"),
            _ => self.io().fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.io())
    }
}

/// An errno as an error of the library.
pub(super) fn errno(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_operation_and_domain() {
        let error = Error::Domain {
            operation: "pause",
            domain: DomId(7),
            source: errno(libc::ESRCH),
        };
        assert_eq!(
            error.to_string(),
            "cannot pause domain 7: there is no such domain"
        );
        assert!(error.is_no_domain());
    }
}
