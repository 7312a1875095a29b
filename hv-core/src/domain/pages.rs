//! A domain's memory account: how many frames it has and may have.
//!
//! The accounts live in [`crate::mm::account`], where the last reference to a frame
//! is given back; a domain finds its own by number.

pub use crate::mm::account::{DomainPages, OverLimit};
