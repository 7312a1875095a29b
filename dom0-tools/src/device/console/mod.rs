//! Consoles: a domain's ring to a terminal (pty) and a log.
//!
//! ```text
//!  guest ══ring══ pump ──► log file (rotated; the scroll-back of `ox logs`)
//!     ▲             │
//!     └── input ◄───┴────► pty, named in /local/domain/N/console/tty
//! ```
//!
//! [`service`] is one thread for all domains, woken by event channels and terminals. What one
//! guest can cost is bounded: [`pump::OUTPUT_BYTES`] of memory, [`service::ROUND_BYTES`] of
//! work a round, and [`service::ROUNDS`] rounds in each [`service::PERIOD`]; then its event
//! channel stays masked until the period is over. A guest whose ring contradicts itself is
//! read no more and keeps its terminal.
//!
//! Nothing here is kept over a restart of the program but the log: the ring is mapped anew,
//! the port bound anew, the terminal made anew and its new name published.

pub mod log;
pub mod pump;
pub mod service;
mod terminal;

#[cfg(test)]
mod tests;
