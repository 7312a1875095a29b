//! Saved domains: Xen's migration stream for PV guests, in a file that `xl` and `ox` both read.
//!
//! | part | what it is |
//! |---|---|
//! | [`file`](mod@file) | the file: `xl`'s head with the configuration, a checksum, written whole or not at all |
//! | `format` | heads and records of the two streams, one inside the other |
//! | [`mod@save`] | a suspended domain into a stream (version 3, as Xen 4.17 writes it) |
//! | [`mod@restore`] | a stream (version 2 or 3) into a [`NewDomain`](crate::build::NewDomain) |
//!
//! A stream is untrusted: every number in it is checked before it counts, allocates or indexes.
//!
//! Sources: Xen `docs/specs/libxc-migration-stream.pandoc`,
//! `docs/specs/libxl-migration-stream.pandoc`.

mod error;
pub mod file;
mod format;
mod guest;
mod records;
mod restore;
mod save;
mod vcpus;

pub use error::Error;
pub use restore::{Restored, restore};
pub use save::save;
