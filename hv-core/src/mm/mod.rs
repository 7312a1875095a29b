//! The host's memory.
