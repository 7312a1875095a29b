//! A domain's life: create, watch, restart, end.

pub mod protocol;
