//! Shared rings with a peer that is never trusted.
//!
//! A byte ring is a power-of-two array with two free-running indices: the producer writes `prod`,
//! the consumer `cons`, both wrap at 2³². Each side keeps its own index here and never reads it
//! back from the page, so a peer that overwrites it changes nothing. The peer's index is read once
//! an operation and checked; one that claims more than the ring holds is [`Corrupt`], and nothing
//! was moved.
//!
//! This room knows no mapping: memory is a [`Page`], which copies bytes with atomic accesses, so
//! there is no reference into memory that others write and no `unsafe` here.
//!
//! Who moved bytes notifies the peer by event channel; a byte ring has no mark that saves it. Split
//! drivers use [`FrontRing`] and [`BackRing`], which have.

use core::sync::atomic::{Ordering, fence};

mod console;
mod files;
mod lane;
mod typed;
mod xenstore;

#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;

pub use console::{ConsoleBackend, ConsoleFrontend};
pub use files::{FilesClient, FilesServer, MOST_ORDER};
pub use lane::{Consumer, Corrupt, Producer};
pub use typed::{BackRing, FrontRing, Full};
pub use xenstore::{RingFault, XenstoreClient, XenstoreServer};

/// Memory shared with a peer.
///
/// Every offset passed lies within one 4 KiB page; implementations may panic on others.
pub trait Page {
    /// Copies bytes out, each by an atomic access of any order.
    fn read(&self, offset: usize, into: &mut [u8]);

    /// Copies bytes in, each by an atomic access of any order.
    fn write(&self, offset: usize, from: &[u8]);

    /// Reads an aligned word: acquire.
    fn load(&self, offset: usize) -> u32;

    /// Writes an aligned word: release.
    fn store(&self, offset: usize, value: u32);

    /// Orders what was written before against what is read after: a full fence. Only a model of
    /// memory has one of its own.
    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

impl<P: Page + ?Sized> Page for &P {
    fn read(&self, offset: usize, into: &mut [u8]) {
        (**self).read(offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        (**self).write(offset, from);
    }

    fn load(&self, offset: usize) -> u32 {
        (**self).load(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        (**self).store(offset, value);
    }

    fn fence(&self) {
        (**self).fence();
    }
}
