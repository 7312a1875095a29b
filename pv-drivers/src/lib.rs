//! The guest's side of the PV interface, and the shared rings that both sides use.
#![cfg_attr(not(test), no_std)]

pub mod ring;
