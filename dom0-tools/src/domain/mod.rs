//! A domain's life: create, watch, restart, end.
//!
//! | part | one job |
//! |---|---|
//! | [`life`] | the states, as a picture and as a pure machine |
//! | [`layout`], [`balloon`] | what stands in xenstore about a domain |
//! | [`create`], [`undo`] | from a configuration to a running domain, or to nothing |
//! | [`machine`] | the steps of a creation on this machine |
//! | [`link`] | a connection to xenstore |
//! | [`worker`], [`control`] | a domain's own thread, and what can be asked of it |
//! | [`keeping`] | a stopped domain beside its successor |
//! | [`registry`], [`persist`] | which domains there are: in memory, on disk |
//! | [`daemon`], [`server`] | what all threads share; the socket |
//! | [`saving`], [`restoring`] | a domain into a file, and out of one |
//! | [`snapshot`] | memory and disks of a moment, on disk |
//! | [`protocol`] | what `ox` and `oxd` say to each other |
//! | [`failure`], [`events`] | what went wrong, what happened |
//! | [`metrics`], [`exporter`] | figures, and their offer |
//! | [`oxd`] | the start of the daemon |
//!
//! Threads of `oxd`: one for each domain, which alone changes it; one for each connection of
//! `ox`; one for all consoles; one that watches for domains that end; xenstore's. None waits
//! for a domain's thread but a connection that asked it for something.

pub mod balloon;
pub mod control;
pub mod create;
pub mod daemon;
pub mod events;
pub mod exporter;
pub mod failure;
pub mod keeping;
pub mod layout;
pub mod life;
pub mod link;
pub mod machine;
pub mod metrics;
pub mod oxd;
pub mod persist;
pub mod protocol;
pub mod registry;
pub mod restoring;
pub mod saving;
pub mod server;
pub mod snapshot;
pub mod undo;
pub mod worker;
