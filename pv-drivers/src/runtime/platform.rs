//! The guest as the surroundings of its drivers.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use spin::mutex::SpinMutex;

use super::frames::OwnPage;
use super::store::{GuestStore, store};
use super::{clock, shared, wait, window};
use crate::device::{
    self, Access, Channels, Clock, DomId, Foreign, GrantRef, Pages, Port, Refused,
};
use crate::event::Channel;
use crate::grant::{Grant, Mapping};
use crate::hypercall::{CopySide, Errno, GrantError, Hypervisor, Native, RawPage, Share};
use crate::ring::Page;
use crate::xenstore::wire::Errno as StoreErrno;
use crate::xenstore::{Error, Watch};

/// This guest: what `device` asks of a driver's surroundings.
#[derive(Clone, Copy, Debug, Default)]
pub struct Guest;

impl device::SharedPage for Grant<'static, OwnPage> {
    fn grant(&self) -> GrantRef {
        self.reference()
    }
}

impl Page for Grant<'static, OwnPage> {
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
}

impl Pages for Guest {
    type Page = Grant<'static, OwnPage>;

    fn share(&self, peer: DomId, access: Access) -> Result<Self::Page, Refused> {
        let page = OwnPage::new().ok_or(Refused::Exhausted)?;
        window::grants()
            .grant(peer, page, access)
            .map_err(|_| Refused::Exhausted)
    }
}

/// One end of a channel, whose events end [`wait::any`].
#[derive(Debug)]
pub struct Line(Channel<Native>);

impl Line {
    fn new(channel: Channel<Native>) -> Self {
        wait::add(channel.port());
        Self(channel)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if !self.0.is_dead() {
            wait::remove(self.0.port());
        }
    }
}

impl device::Channel for Line {
    fn port(&self) -> Port {
        self.0.port()
    }

    fn notify(&self) {
        self.0.notify();
    }
}

fn port_refused(why: Errno) -> Refused {
    match why.0 {
        xen_abi::errno::ENOSPC | xen_abi::errno::ENOMEM => Refused::Exhausted,
        _ => Refused::Denied,
    }
}

impl Channels for Guest {
    type Channel = Line;

    fn offer(&self, peer: DomId) -> Result<Self::Channel, Refused> {
        Channel::offer(Native, shared::bits(), peer)
            .map(Line::new)
            .map_err(port_refused)
    }
}

impl device::Watch for Watch<'static, RawPage, Native> {
    fn fired(&self) -> bool {
        Watch::fired(self)
    }
}

fn own_store() -> Result<&'static GuestStore, Refused> {
    store().ok_or(Refused::Store)
}

fn store_refused(why: Error) -> Refused {
    match why {
        Error::Refused(StoreErrno::ENOSPC | StoreErrno::E2BIG | StoreErrno::ENOMEM) => {
            Refused::Exhausted
        }
        Error::Refused(_) | Error::Unfit => Refused::Denied,
        Error::Late | Error::Broken => Refused::Store,
    }
}

/// What is there: none for a node that is not, or not for this guest.
fn there<T>(found: Result<T, Error>) -> Result<Option<T>, Refused> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(Error::Refused(_)) => Ok(None),
        Err(why) => Err(store_refused(why)),
    }
}

impl device::Store for Guest {
    type Watch = Watch<'static, RawPage, Native>;

    fn incarnation(&self) -> u32 {
        Native.incarnation()
    }

    fn read(&self, path: &str) -> Result<Option<String>, Refused> {
        there(own_store()?.read_text(path))
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Refused> {
        there(own_store()?.list(path)).map(Option::unwrap_or_default)
    }

    fn write(&self, path: &str, value: &str) -> Result<(), Refused> {
        own_store()?
            .write(path, value.as_bytes())
            .map_err(store_refused)
    }

    fn remove(&self, path: &str) -> Result<(), Refused> {
        match own_store()?.remove(path) {
            Err(Error::Refused(StoreErrno::ENOENT)) => Ok(()),
            done => done.map_err(store_refused),
        }
    }

    fn watch(&self, path: &str) -> Result<Self::Watch, Refused> {
        own_store()?.watch(path).map_err(store_refused)
    }
}

impl Clock for Guest {
    fn now(&self) -> Duration {
        Duration::from_nanos(clock::now())
    }

    fn wait(&self, until: Duration) {
        wait::any(u64::try_from(until.as_nanos()).unwrap_or(u64::MAX));
    }
}

fn grant_refused(why: GrantError) -> Refused {
    match why {
        GrantError::Call(why) => port_refused(why),
        GrantError::Status(_) => Refused::Denied,
    }
}

/// A page that copies go through, kept from one to the next.
static BETWEEN: SpinMutex<Option<OwnPage>> = SpinMutex::new(None);

/// Runs `copy` with a page of one's own.
fn between(copy: impl FnOnce(&OwnPage) -> Result<(), GrantError>) -> Result<(), Refused> {
    let kept = BETWEEN.lock().take();
    let page = kept.or_else(OwnPage::new).ok_or(Refused::Exhausted)?;
    let copied = copy(&page).map_err(grant_refused);
    *BETWEEN.lock() = Some(page);
    copied
}

/// The peer's end of a copy; the range must lie in a page.
fn granted(
    domain: DomId,
    reference: GrantRef,
    offset: usize,
    bytes: usize,
) -> Result<(CopySide, u16), Refused> {
    let fits = offset.checked_add(bytes).is_some_and(|end| end <= 4096);
    match (u16::try_from(offset), u16::try_from(bytes)) {
        (Ok(offset), Ok(bytes)) if fits => {
            let side = CopySide::Granted {
                domain,
                reference,
                offset,
            };
            Ok((side, bytes))
        }
        _ => Err(Refused::Denied),
    }
}

impl Foreign for Guest {
    type Mapped = Mapping<Native>;
    type Bound = Line;

    fn map(&self, peer: DomId, grant: GrantRef) -> Result<Self::Mapped, Refused> {
        window::map(peer, grant, Access::Write).map_err(grant_refused)
    }

    fn bind(&self, peer: DomId, port: Port) -> Result<Self::Bound, Refused> {
        Channel::bind(Native, shared::bits(), peer, port)
            .map(Line::new)
            .map_err(port_refused)
    }

    fn copy_from(
        &self,
        peer: DomId,
        grant: GrantRef,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), Refused> {
        let (from, bytes) = granted(peer, grant, offset, into.len())?;
        between(|page| {
            let frame = page.frame();
            Native.copy_grant(from, CopySide::Own { frame, offset: 0 }, bytes)?;
            page.read(0, into);
            Ok(())
        })
    }

    fn copy_to(
        &self,
        peer: DomId,
        grant: GrantRef,
        offset: usize,
        from: &[u8],
    ) -> Result<(), Refused> {
        let (to, bytes) = granted(peer, grant, offset, from.len())?;
        between(|page| {
            page.write(0, from);
            let frame = page.frame();
            Native.copy_grant(CopySide::Own { frame, offset: 0 }, to, bytes)
        })
    }
}
