//! Hypercalls: parse, check, commit. One file per hypercall.

pub mod error;

pub use error::Error;

/// What a hypercall that did not fail tells its guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Finished, with this value for `rax`.
    Done(u64),
    /// Stopped to let events in: the guest re-executes the call with these
    /// arguments. They come back through the guest, so they are checked again.
    Continue([u64; 6]),
}

/// Result of a hypercall handler.
pub type HypercallResult = Result<Reply, Error>;
