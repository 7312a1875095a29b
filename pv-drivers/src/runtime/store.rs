//! The guest's xenstore, by the ring that the toolstack made.

use core::ptr::NonNull;

use spin::Once;

use super::boot::start_info;
use super::{clock, mmu, shared, wait};
use crate::event::Channel;
use crate::hypercall::{Native, Port, RawPage};
use crate::xenstore::{Connection, Store, Surroundings};

/// The store as a guest on bare metal has it.
pub type GuestStore = Store<RawPage, Native>;

static STORE: Once<Option<GuestStore>> = Once::new();

fn open() -> Option<GuestStore> {
    let (mfn, port) = (start_info().store_mfn, start_info().store_evtchn);
    if mfn == 0 || port == 0 {
        return None;
    }
    let start = NonNull::new(mmu::address(mmu::m2p(mfn)) as *mut u8)?;
    // SAFETY: the toolstack made this page the store's ring; it is mapped with the kernel, and used
    // for nothing else.
    let page = unsafe { RawPage::new(start) };
    let channel = Channel::adopt(Native, shared::bits(), Port(port));
    // Watches report by it at any time.
    wait::add(Port(port));
    let surroundings = Surroundings {
        now: clock::now,
        fired: wait::ring_all,
    };
    Some(Store::new(
        Connection::new(page, channel, surroundings),
        Native,
    ))
}

/// The guest's store; none for a domain that the toolstack did not make.
pub fn store() -> Option<&'static GuestStore> {
    STORE.call_once(open).as_ref()
}
