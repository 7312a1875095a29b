//! The guest's side of the PV interface, and the shared rings that both sides use.
#![cfg_attr(not(any(test, feature = "testing")), no_std)]

extern crate alloc;

pub mod balloon;
pub mod block;
pub mod clock;
pub mod console;
pub mod device;
pub mod event;
pub mod grant;
pub mod hypercall;
pub mod net;
pub mod p9;
#[cfg(any(test, feature = "random"))]
pub mod random;
pub mod ring;
#[cfg(target_os = "none")]
pub mod runtime;
pub mod xenstore;
