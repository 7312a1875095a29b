//! Event channels: ports that close themselves, and the bits by which events show.
//!
//! A guest of this crate takes no upcall for its channels: their ports stay masked, and whoever
//! waits for one looks at its pending bit and sleeps by `SCHEDOP_poll`. So nothing interrupts the
//! code of a driver, and a storm of events costs its receiver nothing but the looking.

mod bits;
mod channel;
#[cfg(test)]
mod tests;

pub use bits::{Bits, PORTS};
pub use channel::Channel;
