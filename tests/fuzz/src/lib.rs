//! Fuzz targets: each a parser of bytes that a guest, a file or a loader brings, with what must
//! hold whatever they are. No target may panic, run long or take much memory.
//!
//! Two harnesses share them: this package's binary, which mutates the seeds in a reproducible way
//! on any toolchain, and `libfuzzer/`, a workspace of its own for `cargo fuzz`, whose mutations are
//! led by coverage.

pub mod mutate;
mod targets;

pub use targets::{TARGETS, devices};

/// A parser under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// What it is called on command lines.
    pub name: &'static str,
    /// What its bytes are.
    pub about: &'static str,
    /// Parses, and asserts what must hold.
    pub fuzz: fn(&[u8]),
    /// Well-formed bytes to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Most bytes of memory that one input may take.
    pub memory: usize,
}

/// The target of a name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
