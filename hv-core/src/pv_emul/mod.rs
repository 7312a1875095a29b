//! Decoding and effect of the privileged instructions a PV kernel may still use.
//!
//! A guest kernel runs at CPL 3, so its privileged instructions fault. Kernels avoid
//! most of them; the rest is decoded here ([`decode`]) and given its effect
//! ([`execute()`]) on a [`CpuView`]. A second decoder ([`store`]) turns a faulting store
//! to a page table into one checked update.
//!
//! The room knows neither domains nor page tables: state comes in as a view, hardware
//! and guest memory through the traits of [`seam`]. Lock: one of level `Device`, in
//! [`io`], around the two port accesses that read or write the battery clock.

pub mod control;
pub mod cpuid;
pub mod debug;
pub mod decode;
pub mod execute;
mod insn;
pub mod io;
pub mod msr;
pub mod seam;
pub mod store;

pub use decode::{Decoded, Insn};
pub use execute::{CpuView, Fault, Outcome, execute, finish};
pub use insn::Width;
pub use store::StoreOp;
