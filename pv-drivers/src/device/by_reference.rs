//! A reference to a platform is one.

use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Access, Channels, Clock, DomId, Foreign, GrantRef, Pages, Port, Refused, Store};

impl<T: Pages + ?Sized> Pages for &T {
    type Page = T::Page;

    fn share(&self, peer: DomId, access: Access) -> Result<Self::Page, Refused> {
        (**self).share(peer, access)
    }
}

impl<T: Channels + ?Sized> Channels for &T {
    type Channel = T::Channel;

    fn offer(&self, peer: DomId) -> Result<Self::Channel, Refused> {
        (**self).offer(peer)
    }
}

impl<T: Store + ?Sized> Store for &T {
    type Watch = T::Watch;

    fn incarnation(&self) -> u32 {
        (**self).incarnation()
    }

    fn read(&self, path: &str) -> Result<Option<String>, Refused> {
        (**self).read(path)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Refused> {
        (**self).list(path)
    }

    fn write(&self, path: &str, value: &str) -> Result<(), Refused> {
        (**self).write(path, value)
    }

    fn remove(&self, path: &str) -> Result<(), Refused> {
        (**self).remove(path)
    }

    fn watch(&self, path: &str) -> Result<Self::Watch, Refused> {
        (**self).watch(path)
    }
}

impl<T: Clock + ?Sized> Clock for &T {
    fn now(&self) -> Duration {
        (**self).now()
    }

    fn wait(&self, until: Duration) {
        (**self).wait(until);
    }
}

impl<T: Foreign + ?Sized> Foreign for &T {
    type Mapped = T::Mapped;
    type Bound = T::Bound;

    fn map(&self, peer: DomId, grant: GrantRef) -> Result<Self::Mapped, Refused> {
        (**self).map(peer, grant)
    }

    fn bind(&self, peer: DomId, port: Port) -> Result<Self::Bound, Refused> {
        (**self).bind(peer, port)
    }

    fn copy_from(
        &self,
        peer: DomId,
        grant: GrantRef,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), Refused> {
        (**self).copy_from(peer, grant, offset, into)
    }

    fn copy_to(
        &self,
        peer: DomId,
        grant: GrantRef,
        offset: usize,
        from: &[u8],
    ) -> Result<(), Refused> {
        (**self).copy_to(peer, grant, offset, from)
    }
}
