//! A command of the control interfaces: a head, and a union of bodies that `cmd` tells apart.

use xen_abi::domctl::XenDomctl;
use xen_abi::sysctl::XenSysctl;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A structure with such a union.
pub trait Command {
    /// The union's bytes.
    fn union(&self) -> &[u8];

    /// The union's bytes.
    fn union_mut(&mut self) -> &mut [u8];
}

impl Command for XenDomctl {
    fn union(&self) -> &[u8] {
        self.u.as_bytes()
    }

    fn union_mut(&mut self) -> &mut [u8] {
        self.u.as_mut_bytes()
    }
}

impl Command for XenSysctl {
    fn union(&self) -> &[u8] {
        self.u.as_bytes()
    }

    fn union_mut(&mut self) -> &mut [u8] {
        self.u.as_mut_bytes()
    }
}

/// One command, read from the caller.
#[derive(Debug)]
pub struct Request<C> {
    /// Its head and body.
    pub op: C,
}

impl<C: Command> Request<C> {
    /// The command's own struct.
    pub fn body<T: FromBytes + KnownLayout + Immutable>(&self) -> T {
        // Every body fits: its size is checked against the C headers.
        T::read_from_prefix(self.op.union())
            .map_or_else(|_| unreachable!("a body larger than its union"), |(v, _)| v)
    }

    /// Replaces it.
    pub fn set_body<T: IntoBytes + Immutable>(&mut self, body: &T) {
        let from = body.as_bytes();
        self.op.union_mut()[..from.len()].copy_from_slice(from);
    }
}
