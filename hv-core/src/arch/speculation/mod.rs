//! Which leaks by speculation the CPU has, and what is done about each.
//!
//! [`Facts`] is what the CPU says of itself, [`Choices`] what the command line says.
//! [`decide()`] makes the [`Plan`] of the two. All of it is pure: no instruction is executed here.
//! `x86_64::speculation` reads the facts and carries the plan out, entry code does its part of the
//! plan at each entry and exit, and [`Shown`] is what guests are told.
//!
//! The rules are those of Xen 4.17.7 (`xen/arch/x86/spec_ctrl.c`) built without thunks for indirect
//! branches, since stable Rust has none: where the CPU has IBRS it is used. `decide/tests.rs` holds
//! a table of CPUs with the decision of each, and says where Oxen decides otherwise.

pub mod bits;
mod choices;
mod decide;
mod facts;
mod models;
mod plan;
mod report;
mod shown;

pub use choices::{Choices, Sequence};
pub use decide::decide;
pub use facts::{Facts, Surroundings, Vendor, model_of};
pub use plan::{Change, Plan, SpecCtrl, Warning, enter, idle, leave, needs_barrier};
pub use report::report;
pub use shown::Shown;
