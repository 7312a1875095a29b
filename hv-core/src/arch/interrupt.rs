//! Where interrupts come from, as plain data.

use super::msi::PciAddress;
use super::platform::Signal;

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
