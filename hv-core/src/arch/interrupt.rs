//! Where interrupts come from, as plain data.

use super::msi::PciAddress;
use super::platform::Signal;
use crate::addr::MachAddr;
use core::fmt;

/// Where a line comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A pin of an I/O APIC.
    Gsi {
        /// Global system interrupt.
        gsi: u32,
        /// How it signals.
        signal: Signal,
    },
    /// A message of a function's MSI capability.
    Msi {
        /// The function.
        device: PciAddress,
        /// Which of its messages.
        index: u8,
        /// log2 of the messages it uses; their vectors are consecutive and aligned.
        log2: u8,
    },
    /// An entry of a function's MSI-X table.
    Msix {
        /// The function.
        device: PciAddress,
        /// Table entry.
        entry: u16,
        /// Where that entry is. Found once, when the line gets its number: a domain that has the
        /// device might move its registers later, and the hypervisor writes there.
        at: MachAddr,
    },
}

impl Source {
    /// Whether the line stays asserted until the device is served.
    #[must_use]
    pub const fn is_level(&self) -> bool {
        matches!(self, Self::Gsi { signal, .. } if signal.level)
    }

    /// The function whose message this is.
    #[must_use]
    pub const fn device(&self) -> Option<PciAddress> {
        match self {
            Self::Gsi { .. } => None,
            Self::Msi { device, .. } | Self::Msix { device, .. } => Some(*device),
        }
    }
}

/// What the error register of a local APIC holds. Source: Intel SDM vol. 3, 11.5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApicErrors(pub u32);

/// The bits of the register, in words.
const APIC_ERRORS: [&str; 8] = [
    "send checksum",
    "receive checksum",
    "nobody accepted what was sent",
    "nobody accepted what was received",
    "lowest priority cannot be redirected",
    "illegal vector sent",
    "illegal vector received",
    "no such register",
];

impl fmt::Display for ApicErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)?;
        let names = APIC_ERRORS.iter().enumerate();
        let mut names = names.filter(|(bit, _)| self.0 >> bit & 1 != 0);
        names.try_for_each(|(_, name)| write!(f, ", {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn errors_of_the_local_apic_are_named() {
        assert_eq!(ApicErrors(0).to_string(), "0x0");
        let both = ApicErrors(0x60).to_string();
        assert_eq!(both, "0x60, illegal vector sent, illegal vector received");
    }
}
