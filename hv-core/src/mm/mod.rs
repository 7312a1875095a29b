//! The host's memory.

pub mod heap;
pub mod layout;
pub mod memory_map;
pub mod ranges;
pub mod shared_page;
