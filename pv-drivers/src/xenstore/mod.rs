//! xenstore, as a guest reaches it: requests over the ring page, watches, transactions.
//!
//! One [`Store`] serves a whole guest. A request is sent and its reply awaited, whoever else waits;
//! what watches report meanwhile is kept with them. The server is not trusted: a reply that cannot
//! be is an error, and so is silence.

mod connection;
mod store;
#[cfg(test)]
mod tests;
pub mod wire;

pub use connection::{Connection, Error, Surroundings};
pub use store::{Store, Transaction, Watch};
