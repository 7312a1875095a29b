//! Saved domains: Xen's migration stream for PV guests, in a file that `xl` and `ox` both read.
//!
//! | part | what it is |
//! |---|---|
//! | [`file`](mod@file) | the file: `xl`'s head with the configuration, a checksum |
//! | `partial`, [`Place`] | written whole or not at all; where something is wrong |
//! | `format` | heads and records of the two streams, one inside the other |
//! | [`mod@save`] | a suspended domain into a stream (version 3, as Xen 4.17 writes it) |
//! | [`mod@restore`] | a stream (version 2 or 3) into a [`NewDomain`](crate::build::NewDomain) |
//! | [`mod@dump`] | a domain into a core file for debuggers |
//!
//! A stream is untrusted: every number in it is checked before it counts, allocates or indexes.
//!
//! Sources: Xen `docs/specs/libxc-migration-stream.pandoc`,
//! `docs/specs/libxl-migration-stream.pandoc`.

mod dump;
mod error;
pub mod file;
mod format;
mod guest;
pub(crate) mod partial;
mod place;
mod records;
mod restore;
mod save;
#[cfg(test)]
mod tests;
mod vcpus;

pub use dump::dump;
pub use error::Error;
pub use place::{Part, Place};
pub use restore::{Restored, restore};
pub use save::save;
