//! Oxen's toolstack: what `ox` and `oxd` are made of.
//!
//! A room uses those before it in this list, never one behind it:
//!
//! | room | one job |
//! |---|---|
//! | [`sys`] | device nodes, ioctls and mappings of dom0's kernel; the only `unsafe` |
//! | [`ctl`] | the hypervisor's control interface as typed calls |
//! | [`build`] | a kernel file into a new domain's memory |
//! | [`store`] | xenstore: wire, tree, transactions, watches, server, client |
//! | [`config`] | configuration files into typed values, offline |
//! | [`device`] | disks, network cards, consoles |
//! | [`stream`] | saved domains: write and read |
//! | [`domain`] | a domain's life: create, watch, restart, end |
//! | [`cli`] | what a person types and reads |

pub mod build;
pub mod cli;
pub mod config;
pub mod ctl;
pub mod device;
pub mod domain;
pub mod store;
pub mod stream;
pub mod sys;
