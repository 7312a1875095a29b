//! Errors, which travel by name.

use std::fmt;

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
                    $(Self::$name => $text,)*
                }
            }

            /// As Linux numbers it.
            #[must_use]
            pub const fn number(self) -> i32 {
                match self {
                    $(Self::$name => libc::$name,)*
                }
            }
        }
    };
}

errors! {
    /// Malformed.
    EINVAL = "EINVAL",
    /// Not permitted to this caller.
    EACCES = "EACCES",
    /// Is there already.
    EEXIST = "EEXIST",
    /// Unused.
    EISDIR = "EISDIR",
    /// No such node, transaction, watch or domain.
    ENOENT = "ENOENT",
    /// No memory.
    ENOMEM = "ENOMEM",
    /// A quota is used up.
    ENOSPC = "ENOSPC",
    /// The server failed.
    EIO = "EIO",
    /// Unused.
    ENOTEMPTY = "ENOTEMPTY",
    /// No such request.
    ENOSYS = "ENOSYS",
    /// The connection may only read.
    EROFS = "EROFS",
    /// A transaction inside a transaction.
    EBUSY = "EBUSY",
    /// Somebody else changed what the transaction used: try again.
    EAGAIN = "EAGAIN",
    /// Unused.
    EISCONN = "EISCONN",
    /// Too long, or too many watches.
    E2BIG = "E2BIG",
    /// Only the owner, or only dom0, may.
    EPERM = "EPERM",
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
        let text = std::io::Error::from_raw_os_error(self.number()).to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        write!(f, "{text} ({})", self.name())
    }
}

impl std::error::Error for Errno {}

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
