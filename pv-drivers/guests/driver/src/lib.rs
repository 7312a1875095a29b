//! What the guest `driver` serves: also for the host, where it is tested.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod ram;
pub mod switch;
