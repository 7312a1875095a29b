//! Numbers of the interface, each of its own type.

use core::fmt;

use xen_abi::errno as abi;
use xen_abi::grant_table::{
    GNTST_BAD_COPY_ARG, GNTST_BAD_DOMAIN, GNTST_BAD_GNTREF, GNTST_BAD_HANDLE, GNTST_BAD_PAGE,
    GNTST_BAD_VIRT_ADDR, GNTST_EAGAIN, GNTST_NO_SPACE, GNTST_PERMISSION_DENIED,
};
use xen_abi::xen::DOMID_SELF;

use super::SharedFrame;

/// A domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomId(pub u16);

impl DomId {
    /// The caller's own domain, where a hypercall takes one.
    pub const SELF: Self = Self(DOMID_SELF);
    /// The domain that owns the hardware and, as a rule, serves the devices.
    pub const ZERO: Self = Self(0);
}

impl fmt::Display for DomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A local event channel port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Port(pub u32);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a port is connected to (`EVTCHNSTAT_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortStatus(pub u32);

/// An entry of a domain's grant table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantRef(pub u32);

impl fmt::Display for GrantRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A mapping of a peer's frame, as the hypervisor names it.
#[derive(Debug, PartialEq, Eq)]
pub struct GrantHandle(pub(crate) u32);

/// What a peer may do with a granted frame, or this domain with a mapped one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read it.
    Read,
    /// Read and write it.
    Write,
}

/// One end of a copy by the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopySide {
    /// A frame that a peer has granted.
    Granted {
        /// Whose.
        domain: DomId,
        /// Which.
        reference: GrantRef,
        /// First byte.
        offset: u16,
    },
    /// A frame of this domain's own.
    Own {
        /// Which.
        frame: SharedFrame,
        /// First byte.
        offset: u16,
    },
}

/// Why a hypercall was refused: a positive `errno` (Xen `include/public/errno.h`).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i64);

impl Errno {
    /// A hypercall's result: negative numbers are errors.
    ///
    /// # Errors
    /// The error it stands for.
    pub const fn check(result: i64) -> Result<u64, Self> {
        if result < 0 {
            Err(Self(result.saturating_neg()))
        } else {
            Ok(result.cast_unsigned())
        }
    }

    const fn text(self) -> &'static str {
        match self.0 {
            abi::EPERM => "not permitted",
            abi::ENOENT => "no such object",
            abi::ESRCH => "no such domain",
            abi::ENOMEM => "out of memory",
            abi::EACCES => "permission denied",
            abi::EFAULT => "bad address",
            abi::EBUSY => "busy",
            abi::EEXIST => "exists",
            abi::EINVAL => "invalid argument",
            abi::ENOSPC => "no space",
            abi::ENOSYS => "not implemented",
            abi::EOPNOTSUPP => "not supported",
            _ => "refused",
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (errno {})", self.text(), self.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for Errno {}

/// Why an operation on a grant failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// The hypercall as a whole.
    Call(Errno),
    /// This one: a negative `GNTST_*`.
    Status(i16),
}

impl GrantError {
    /// A status from the hypervisor.
    ///
    /// # Errors
    /// The error it stands for, if it is one.
    pub const fn check(status: i16) -> Result<(), Self> {
        if status == 0 {
            Ok(())
        } else {
            Err(Self::Status(status))
        }
    }
}

impl From<Errno> for GrantError {
    fn from(why: Errno) -> Self {
        Self::Call(why)
    }
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match self {
            Self::Call(why) => return write!(f, "grant table: {why}"),
            Self::Status(status) => *status,
        };
        let text = match status {
            GNTST_BAD_DOMAIN => "no such domain",
            GNTST_BAD_GNTREF => "not granted",
            GNTST_BAD_HANDLE => "no such mapping",
            GNTST_BAD_VIRT_ADDR => "bad address",
            GNTST_PERMISSION_DENIED => "permission denied",
            GNTST_BAD_PAGE => "bad frame",
            GNTST_BAD_COPY_ARG => "the copy leaves its page",
            GNTST_EAGAIN => "not now",
            GNTST_NO_SPACE => "out of handles",
            _ => "refused",
        };
        write!(f, "grant: {text} (status {status})")
    }
}

impl core::error::Error for GrantError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_below_zero_are_errors() {
        assert_eq!(Errno::check(7), Ok(7));
        assert_eq!(Errno::check(-22), Err(Errno(22)));
        assert!(Errno::check(i64::MIN).is_err());
        assert_eq!(Errno(22).to_string(), "invalid argument (errno 22)");
        assert!(GrantError::check(-3).is_err_and(|why| why.to_string().contains("not granted")));
    }
}
