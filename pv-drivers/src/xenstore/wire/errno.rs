//! Errors, which travel by name.

use core::fmt;

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why a request was refused: the names of `xsd_errors`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(clippy::upper_case_acronyms, reason = "named as in C")]
        pub enum Errno {
            $($(#[$doc])* $name,)*
        }

        impl Errno {
            /// All of them, for lookups.
            const ALL: &'static [Self] = &[$(Self::$name),*];

            /// As on the wire.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// In words.
            const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// As Linux numbers it.
            #[must_use]
            pub const fn number(self) -> i32 {
                match self {
                    $(Self::$name => xen_abi::errno::$name as i32,)*
                }
            }
        }
    };
}

errors! {
    /// Malformed.
    EINVAL = "Invalid argument",
    /// Not permitted to this caller.
    EACCES = "Permission denied",
    /// Is there already.
    EEXIST = "File exists",
    /// Unused.
    EISDIR = "Is a directory",
    /// No such node, transaction, watch or domain.
    ENOENT = "No such file or directory",
    /// No memory.
    ENOMEM = "Cannot allocate memory",
    /// A quota is used up.
    ENOSPC = "No space left on device",
    /// The server failed.
    EIO = "Input/output error",
    /// Unused.
    ENOTEMPTY = "Directory not empty",
    /// No such request.
    ENOSYS = "Function not implemented",
    /// The connection may only read.
    EROFS = "Read-only file system",
    /// A transaction inside a transaction.
    EBUSY = "Device or resource busy",
    /// Somebody else changed what the transaction used: try again.
    EAGAIN = "Resource temporarily unavailable",
    /// Unused.
    EISCONN = "Transport endpoint is already connected",
    /// Too long, or too many watches.
    E2BIG = "Argument list too long",
    /// Only the owner, or only dom0, may.
    EPERM = "Operation not permitted",
}

impl Errno {
    /// The error of a name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|e| e.name() == name)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text(), self.name())
    }
}

impl core::error::Error for Errno {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for name in ["EINVAL", "EAGAIN", "E2BIG", "EPERM"] {
            assert_eq!(Errno::of_name(name).unwrap().name(), name);
        }
        assert_eq!(Errno::of_name("EWHAT"), None);
        assert_eq!(
            Errno::ENOENT.to_string(),
            "No such file or directory (ENOENT)"
        );
    }
}
