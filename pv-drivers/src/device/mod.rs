//! What a driver needs of its surroundings, as small traits.
//!
//! Frontends are generic over [`Platform`]: pages shared with the backend's domain, event channels,
//! the store and a clock. Backends use [`Foreign`] too: what other domains offer. The runtime
//! implements them for a guest on bare metal, `testing` for tests on a host.
//!
//! All methods take `&self`: one platform serves all drivers of a guest. References to a platform
//! are a platform.
//!
//! A peer is never trusted: what it writes to shared pages and to the store is any bytes, it may
//! notify at any moment or never, and keep a page mapped for ever. Implementations keep to their
//! words whatever it does.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

pub use crate::hypercall::{Access, DomId, GrantRef, Port};
use crate::ring::Page;

mod by_reference;
pub mod directory;
pub mod handshake;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod xenbus;

/// Why the surroundings did not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No memory, grant or port is left.
    Exhausted,
    /// The hypervisor or the peer's domain does not permit it: no such grant or port.
    Denied,
    /// The store does not answer, or answered nonsense.
    Store,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exhausted => "no memory, grant or event channel is left",
            Self::Denied => "the peer's domain does not offer that",
            Self::Store => "the store does not answer",
        })
    }
}

impl core::error::Error for Refused {}

/// A page of this domain that one other domain may use.
///
/// When dropped, the grant ends. While the peer still has the page mapped, the page and its
/// reference serve nothing else: who drops it need not wait.
pub trait SharedPage: Page {
    /// By what the peer finds it.
    fn grant(&self) -> GrantRef;
}

/// Memory to share.
pub trait Pages {
    /// What [`share`](Self::share) gives.
    type Page: SharedPage;

    /// A page of zeros that `peer` may use.
    ///
    /// # Errors
    /// [`Refused::Exhausted`].
    fn share(&self, peer: DomId, access: Access) -> Result<Self::Page, Refused>;
}

/// One end of an event channel; closed when dropped.
pub trait Channel {
    /// Its number in this domain.
    fn port(&self) -> Port;

    /// Sends an event to the other end. None there, or a closed one: nothing happens.
    fn notify(&self);
}

/// Event channels.
pub trait Channels {
    /// What [`offer`](Self::offer) gives.
    type Channel: Channel;

    /// A channel that `peer` may connect to.
    ///
    /// # Errors
    /// [`Refused::Exhausted`].
    fn offer(&self, peer: DomId) -> Result<Self::Channel, Refused>;
}

/// A watch of the store; ends when dropped.
pub trait Watch {
    /// Whether something at or below the path may have changed since the last call, or since the
    /// watch was made. The first call says so in any case.
    fn fired(&self) -> bool;
}

/// xenstore. Paths that do not begin with `/` are below the domain's own `/local/domain/N/`.
pub trait Store {
    /// What [`watch`](Self::watch) gives.
    type Watch: Watch;

    /// Counts how often the guest was restored, each time as another domain with other backends.
    /// Pages, channels and nodes that a device has from before are of no use then, and frontends
    /// connect anew; watches go on.
    fn incarnation(&self) -> u32;

    /// The value of a node; none if there is no such node, or it is not for this domain to read,
    /// or is not UTF-8.
    ///
    /// # Errors
    /// [`Refused::Store`].
    fn read(&self, path: &str) -> Result<Option<String>, Refused>;

    /// The names of a node's children; none if there is no such node.
    ///
    /// # Errors
    /// [`Refused::Store`].
    fn list(&self, path: &str) -> Result<Vec<String>, Refused>;

    /// Sets a node's value, and makes the node and those above it.
    ///
    /// # Errors
    /// [`Refused::Store`], [`Refused::Denied`].
    fn write(&self, path: &str, value: &str) -> Result<(), Refused>;

    /// Removes a node and all below it. None there: nothing happens.
    ///
    /// # Errors
    /// [`Refused::Store`], [`Refused::Denied`].
    fn remove(&self, path: &str) -> Result<(), Refused>;

    /// Watches a node and all below it.
    ///
    /// # Errors
    /// [`Refused::Store`], [`Refused::Exhausted`].
    fn watch(&self, path: &str) -> Result<Self::Watch, Refused>;
}

/// Time, and waiting.
pub trait Clock {
    /// Time since some moment in the past; never goes back.
    fn now(&self) -> Duration;

    /// Waits until an event arrives on any channel, a watch fires, or the clock shows `until`.
    ///
    /// An event that came since this vCPU's previous call ended it at once: what arrives between a
    /// driver's last look and this call is not lost. May end early for no reason.
    fn wait(&self, until: Duration);
}

/// All that a frontend needs.
pub trait Platform: Pages + Channels + Store + Clock {}

impl<T: Pages + Channels + Store + Clock + ?Sized> Platform for T {}

/// What other domains offer, for backends.
pub trait Foreign {
    /// A mapped page; unmapped when dropped.
    type Mapped: Page;
    /// One end of a channel.
    type Bound: Channel;

    /// Maps a page that `peer` shares for reading and writing.
    ///
    /// # Errors
    /// [`Refused`].
    fn map(&self, peer: DomId, grant: GrantRef) -> Result<Self::Mapped, Refused>;

    /// Connects to a channel that `peer` offers.
    ///
    /// # Errors
    /// [`Refused`].
    fn bind(&self, peer: DomId, port: Port) -> Result<Self::Bound, Refused>;

    /// Copies bytes out of a page that `peer` shares.
    ///
    /// # Errors
    /// [`Refused::Denied`]; also if the range leaves the page.
    fn copy_from(
        &self,
        peer: DomId,
        grant: GrantRef,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), Refused>;

    /// Copies bytes into a page that `peer` shares for writing.
    ///
    /// # Errors
    /// [`Refused::Denied`]; also if the range leaves the page.
    fn copy_to(
        &self,
        peer: DomId,
        grant: GrantRef,
        offset: usize,
        from: &[u8],
    ) -> Result<(), Refused>;
}
