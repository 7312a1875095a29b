//! Numbers of different things as different types.

use std::fmt;

use serde::{Deserialize, Serialize};
use xen_abi::xen::{DOMID_FIRST_RESERVED, DOMID_SELF, DOMID_XEN};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize,
            Deserialize,
        )]
        #[repr(transparent)]
        pub struct $name(pub $raw);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A domain's number. Ordinary domains are below [`DomId::FIRST_RESERVED`].
    DomId(u16)
}
number! {
    /// Machine frame number: physical address / 4096.
    Mfn(u64)
}
number! {
    /// A domain's own, pseudo-physical frame number.
    Pfn(u64)
}
number! {
    /// An event channel of one domain.
    Port(u32)
}
number! {
    /// An entry of a domain's grant table.
    GrantRef(u32)
}
number! {
    /// A vCPU of one domain.
    Vcpu(u32)
}

impl DomId {
    /// The control domain.
    pub const DOM0: Self = Self(0);
    /// The first number that no domain has.
    pub const FIRST_RESERVED: u16 = DOMID_FIRST_RESERVED;
    /// The caller.
    pub const SELF: Self = Self(DOMID_SELF);
    /// The hypervisor, as owner of the machine-to-physical table.
    pub const XEN: Self = Self(DOMID_XEN);

    /// Whether a domain may have this number.
    #[must_use]
    pub const fn is_ordinary(self) -> bool {
        self.0 < Self::FIRST_RESERVED
    }
}
