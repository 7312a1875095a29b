//! What the tests' kernels have beyond `pv_drivers::runtime`: raw hypercalls with any arguments,
//! and pages that the hypervisor may do anything to.
//!
//! One vCPU. Nothing is set up before a kernel runs, so that tests find what the hypervisor left.
//! Builds for bare metal only, elsewhere the crate is empty.
//!
//! Tests make the hypervisor change mappings and pages on purpose. That is sound as long as it
//! hits `memory::Page`s only: they are read and written through raw volatile accesses, no Rust
//! reference to their contents exists.
#![cfg_attr(target_os = "none", no_std)]
#![cfg(target_os = "none")]
#![allow(
    unsafe_code,
    reason = "a kernel: hypercall instructions, raw page accesses"
)]

pub mod hypercall;
pub mod memory;
pub mod shared;

pub use pv_drivers::runtime::{boot, power, trap};
pub use pv_drivers::{entry, println};
