//! Clocks.
pub mod scale;
pub mod wallclock;
