//! `mem-set` and `mem-max`.

use super::life::ask;
use crate::cli::args::MemSet;
use crate::cli::exit::Fail;
use crate::cli::world::{World, find_guest};
use crate::domain::protocol::Request;

/// `mem-set`
///
/// # Errors
/// There is no such guest, it may not have so much, or `oxd`'s.
pub fn set(world: &dyn World, args: &MemSet) -> Result<(), Fail> {
    let domain = find_guest(world, &args.domain, "mem-set")?.id.0;
    let kib = args.memory.kib();
    ask(world, &Request::MemSet { domain, kib }).map(drop)
}

/// `mem-max`
///
/// # Errors
/// There is no such guest, it has more already, or `oxd`'s.
pub fn max(world: &dyn World, args: &MemSet) -> Result<(), Fail> {
    let domain = find_guest(world, &args.domain, "mem-max")?.id.0;
    let kib = args.memory.kib();
    ask(world, &Request::MemMax { domain, kib }).map(drop)
}
