//! The host's memory.

pub mod shared_page;
