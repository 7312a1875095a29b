//! xenstore: wire format, tree, transactions, watches, server and client.
//!
//! | room | one job |
//! |---|---|
//! | [`wire`] | messages and errors as bytes, and back |
//! | [`path`] | names of nodes |
//! | [`permissions`] | who may do what to a node |
//! | [`tree`] | all nodes, at one moment; a copy costs nothing |
//! | [`quota`] | how much one guest may have |
//! | [`change`] | what requests do to a tree, and what watchers hear of it |
//! | [`transaction`] | changes that happen together or not |
//! | [`watch`] | who hears of what |
//! | [`core`] | requests of connections into replies and events; knows no transport |
//! | [`journal`] | what survives the daemon's death at any moment |
//! | [`server`] | sockets, rings, event channels around [`core`] |
//! | [`client`] | the other side, whoever serves |
//!
//! All but `server` and `client` are pure. A guest's message is hostile until parsed.
//!
//! Source of behaviour: Xen `docs/misc/xenstore.txt`, `include/public/io/xs_wire.h`, and the C
//! `xenstored` of 4.17 where they are silent.

pub mod change;
pub mod client;
pub mod core;
pub mod journal;
pub mod path;
pub mod permissions;
pub mod quota;
pub mod server;
pub mod transaction;
pub mod tree;
pub mod watch;

pub use pv_drivers::xenstore::wire;
