//! Grants: pages that a peer may use, and a peer's pages that this domain uses.
//!
//! A granted page belongs to its [`Grant`] until the peer has let go of it. One that is dropped
//! while the peer still maps the page is kept aside, page and entry, and looked at again when
//! entries are wanted: a peer that never lets go costs memory, and is never given what the page
//! holds next.

mod mapping;
mod table;
#[cfg(test)]
mod tests;

pub use mapping::{Mapping, Slots};
pub use table::{ENTRIES_PER_FRAME, Entry, Exhausted, Grant, GrantTable, TableSource};
