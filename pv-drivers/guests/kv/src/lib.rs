//! What the guest `kv` keeps and how: also for the host, where it is tested.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod log;
