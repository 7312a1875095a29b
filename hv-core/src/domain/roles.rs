//! What domains are there for. What follows from that is `access`'s to say.
#![allow(
    clippy::disallowed_methods,
    reason = "`bitflags` extends flags, not memory"
)]

use bitflags::bitflags;

bitflags! {
    /// What a domain is there for. A domain without any is a plain guest.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Roles: u8 {
        /// Owns the devices: ports, interrupts, memory-mapped I/O, power.
        const HARDWARE = 1 << 0;
        /// Builds, changes and destroys other domains.
        const CONTROL = 1 << 1;
        /// Serves xenstore: is told of domains that come and go.
        const XENSTORE = 1 << 2;
        /// Has devices that tools gave it, and may serve others with them.
        const DRIVER = 1 << 3;
    }
}

impl Roles {
    /// Those of dom0: all.
    pub const DOM0: Self = Self::all();
}
