//! A minimal PV guest kernel: entry, hypercalls, console, memory, exceptions.
//!
//! One vCPU, no heap. The kernel is linked at VIRT_BASE (`pv.ld`), where PFN 0 is; all memory it
//! uses lies in the boot region. Builds for bare metal only, elsewhere the crate is empty.
//!
//! Tests make the hypervisor change mappings and pages on purpose. That is sound as long as it
//! hits `memory::Page`s only: they are read and written through raw volatile accesses, no Rust
//! reference to their contents exists.
#![cfg_attr(target_os = "none", no_std)]
#![cfg(target_os = "none")]
#![allow(
    unsafe_code,
    reason = "a kernel: entry points, hypercall instructions, raw page accesses"
)]

pub mod boot;
pub mod console;
pub mod hypercall;
pub mod memory;
pub mod shared;
pub mod trap;
