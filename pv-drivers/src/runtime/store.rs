//! The guest's xenstore, by the ring that the toolstack made.

use core::ptr::NonNull;

use spin::Once;

use super::boot::links;
use super::{clock, mmu, shared, wait};
use crate::event::Channel;
use crate::hypercall::{Native, Port, RawPage};
use crate::xenstore::{Connection, Error, Store, Surroundings};

/// The store as a guest on bare metal has it.
pub type GuestStore = Store<RawPage, Native>;

static STORE: Once<Option<GuestStore>> = Once::new();

/// The page and the channel of the ring.
fn ring() -> Option<(RawPage, Channel<Native>)> {
    let link = links().store;
    if link.mfn == 0 || link.port == 0 {
        return None;
    }
    let start = NonNull::new(mmu::address(mmu::m2p(link.mfn)) as *mut u8)?;
    // SAFETY: the toolstack made this page the store's ring; it is mapped with the kernel, and used
    // for nothing else.
    let page = unsafe { RawPage::new(start) };
    let channel = Channel::adopt(Native, shared::bits(), Port(link.port));
    // Watches report by it at any time.
    wait::add(Port(link.port));
    Some((page, channel))
}

fn open() -> Option<GuestStore> {
    let (page, channel) = ring()?;
    let surroundings = Surroundings {
        now: clock::now,
        fired: wait::ring_all,
    };
    Some(Store::new(
        Connection::new(page, channel, surroundings),
        Native,
    ))
}

/// The guest was restored: another server serves the ring.
///
/// # Errors
/// The store's: it does not know all watches.
pub(super) fn renew() -> Result<(), Error> {
    // A store that nobody has used is opened when somebody does.
    let Some(Some(store)) = STORE.get() else {
        return Ok(());
    };
    let (page, channel) = ring().ok_or(Error::Broken)?;
    store.renew(page, channel)
}

/// The guest's store; none for a domain that the toolstack did not make.
pub fn store() -> Option<&'static GuestStore> {
    STORE.call_once(open).as_ref()
}
