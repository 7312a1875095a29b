//! Disks, network cards and consoles of a domain.
//!
//! | part | one job |
//! |---|---|
//! | [`nodes`] | what stands in xenstore: paths, permissions, device states; the seam [`nodes::Nodes`] |
//! | [`backend`] | which domain serves a device; what becomes of devices whose domain ends |
//! | [`handshake`] | waiting for backends, and their orderly end |
//! | [`vbd`] | disks: what backs them, their nodes |
//! | [`vif`] | network cards: their nodes, bridges |
//! | [`script`] | hot-plug scripts that a configuration names |
//! | [`console`] | ring to terminal and log |
//!
//! A device is an [`nodes::Device`]: a kind and a number, of one domain. Nothing here knows
//! how a domain is made or why it ends; nothing here trusts what a guest wrote in its part
//! of the store.

pub mod backend;
pub mod console;
#[cfg(test)]
pub mod fake;
pub mod handshake;
pub mod nodes;
pub mod script;
pub mod vbd;
pub mod vif;
