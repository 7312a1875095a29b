//! Another guest of the same host, found through the store.
//!
//! Guests cannot look for each other: somebody in dom0 introduces them, by writing to each guest's
//! node `data/peer` the other one's domain number. One then serves (see [`serve`]), the other
//! visits (see [`visit`]): they share a page and an event channel.

use alloc::format;
use alloc::string::String;
use core::time::Duration;

use super::frames::OwnPage;
use super::store::store;
use super::{Guest, clock, shared, window};
use crate::device::{Access, Clock, DomId, GrantRef, Pages, Port};
use crate::event::Channel;
use crate::grant::{Grant, Mapping};
use crate::hypercall::Native;
use crate::hypercall::RawPage;
use crate::xenstore::wire::Errno;
use crate::xenstore::{Error, Store};

/// Longest wait for the other guest.
const PATIENCE: Duration = Duration::from_secs(120);

/// Time between two looks at the other guest's nodes.
const INTERVAL: Duration = Duration::from_millis(20);

/// What two guests share.
#[derive(Debug)]
pub struct Shared<P> {
    /// The other one.
    pub peer: DomId,
    /// One end of their channel.
    pub channel: Channel<Native>,
    /// The page that the serving one grants.
    pub page: P,
}

/// The number of this domain.
///
/// # Errors
/// The store's.
pub fn own_id() -> Result<DomId, Error> {
    number(&own_store()?.read_text("domid")?)
        .map(DomId)
        .ok_or(Error::Broken)
}

fn own_store() -> Result<&'static Store<RawPage, Native>, Error> {
    store().ok_or(Error::Broken)
}

fn number<T: core::str::FromStr>(text: &str) -> Option<T> {
    text.trim().parse().ok()
}

/// Reads a node until it is there.
fn awaited(path: &str) -> Result<String, Error> {
    let end = Guest.now() + PATIENCE;
    loop {
        match own_store()?.read_text(path) {
            Err(Error::Refused(Errno::ENOENT | Errno::EACCES)) => {}
            Ok(text) if text.is_empty() => {}
            done => return done,
        }
        let now = Guest.now();
        if now >= end {
            return Err(Error::Late);
        }
        let until = now + INTERVAL;
        while Guest.now() < until {
            Guest.wait(until);
        }
    }
}

fn peer() -> Result<DomId, Error> {
    number(&awaited("data/peer")?)
        .map(DomId)
        .ok_or(Error::Broken)
}

/// Waits for an introduction, and offers the peer a page and a channel.
///
/// # Errors
/// [`Error::Late`]: nobody was introduced; others: the store's.
pub fn serve() -> Result<Shared<Grant<'static, OwnPage>>, Error> {
    let exhausted = Error::Refused(Errno::ENOMEM);
    let peer = peer()?;
    let channel = Channel::offer(Native, shared::bits(), peer).map_err(|_| exhausted)?;
    let page = Guest.share(peer, Access::Write).map_err(|_| exhausted)?;
    let store = own_store()?;
    let offer = format!("{} {}", channel.port(), page.reference());
    store.write("data/offer", offer.as_bytes())?;
    let (owner, reader) = (format!("n{}", own_id()?), format!("r{peer}"));
    store.set_permissions("data/offer", &[&owner, &reader])?;
    Ok(Shared {
        peer,
        channel,
        page,
    })
}

/// Waits for an introduction, and takes what the peer offers.
///
/// # Errors
/// [`Error::Late`]: nobody was introduced, or the peer offers nothing; others: the store's.
pub fn visit() -> Result<Shared<Mapping<Native>>, Error> {
    let peer = peer()?;
    let offer = awaited(&format!("/local/domain/{peer}/data/offer"))?;
    let mut words = offer.split(' ').map(number);
    let (Some(Some(port)), Some(Some(grant))) = (words.next(), words.next()) else {
        return Err(Error::Broken);
    };
    let refused = Error::Refused(Errno::EPERM);
    let page = window::map(peer, GrantRef(grant), Access::Write).map_err(|_| refused)?;
    let channel = Channel::bind(Native, shared::bits(), peer, Port(port)).map_err(|_| refused)?;
    Ok(Shared {
        peer,
        channel,
        page,
    })
}

/// Sleeps for so long.
pub fn pause(time: Duration) {
    let end = clock::now() + time.as_nanos() as u64;
    while clock::now() < end {
        super::wait::any(end);
    }
}
