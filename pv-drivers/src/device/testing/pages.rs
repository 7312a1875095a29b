//! Pages: shared by their domain, mapped and copied by another.

use std::sync::Arc;

use super::{Domain, Grant, Line, Machine};
use crate::device::{Access, DomId, Foreign, GrantRef, Pages, Port, Refused, SharedPage};
use crate::ring::Page;
use crate::ring::testing::TestPage;

/// A page that a [`Domain`] shares.
#[derive(Debug)]
pub struct Shared {
    machine: Machine,
    page: Arc<TestPage>,
    grant: GrantRef,
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(grant) = self.machine.world().grants.get_mut(&self.grant.0) {
            grant.live = false;
        }
    }
}

impl Page for Shared {
    fn read(&self, offset: usize, into: &mut [u8]) {
        self.page.read(offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.page.write(offset, from);
    }

    fn load(&self, offset: usize) -> u32 {
        self.page.load(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        self.page.store(offset, value);
    }
}

impl Page for Arc<TestPage> {
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

impl SharedPage for Shared {
    fn grant(&self) -> GrantRef {
        self.grant
    }
}

impl Pages for Domain {
    type Page = Shared;

    fn share(&self, peer: DomId, access: Access) -> Result<Shared, Refused> {
        let page = Arc::new(TestPage::new());
        let mut world = self.machine.world();
        if world
            .most_grants
            .is_some_and(|most| world.grants.values().filter(|g| g.live).count() >= most)
        {
            return Err(Refused::Exhausted);
        }
        world
            .grants
            .retain(|_, grant| grant.live || Arc::strong_count(&grant.page) > 1);
        let number = world.next_grant.max(8);
        world.next_grant = number + 1;
        world.grants.insert(
            number,
            Grant {
                page: Arc::clone(&page),
                owner: self.id,
                peer,
                access,
                live: true,
            },
        );
        Ok(Shared {
            machine: self.machine.clone(),
            page,
            grant: GrantRef(number),
        })
    }
}

/// A mapped page.
#[derive(Debug)]
pub struct Mapped(Arc<TestPage>);

impl Page for Mapped {
    fn read(&self, offset: usize, into: &mut [u8]) {
        self.0.read(offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.0.write(offset, from);
    }

    fn load(&self, offset: usize) -> u32 {
        self.0.load(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        self.0.store(offset, value);
    }
}

impl Foreign for Domain {
    type Mapped = Mapped;
    type Bound = Line;

    fn map(&self, peer: DomId, grant: GrantRef) -> Result<Mapped, Refused> {
        let (page, access) = self.foreign(peer, grant)?;
        if access == Access::Read {
            return Err(Refused::Denied);
        }
        Ok(Mapped(page))
    }

    fn bind(&self, peer: DomId, port: Port) -> Result<Line, Refused> {
        let world = self.machine.world();
        match world.ends.get(&(peer, port.0)) {
            Some(end) if end.peer == self.id && end.other.is_none() => {
                drop(world);
                Ok(self.line(peer, Some((peer, port.0))))
            }
            _ => Err(Refused::Denied),
        }
    }

    fn copy_from(
        &self,
        peer: DomId,
        grant: GrantRef,
        offset: usize,
        into: &mut [u8],
    ) -> Result<(), Refused> {
        let (page, _) = self.foreign(peer, grant)?;
        if offset.checked_add(into.len()).is_none_or(|end| end > 4096) {
            return Err(Refused::Denied);
        }
        page.read(offset, into);
        Ok(())
    }

    fn copy_to(
        &self,
        peer: DomId,
        grant: GrantRef,
        offset: usize,
        from: &[u8],
    ) -> Result<(), Refused> {
        let (page, access) = self.foreign(peer, grant)?;
        let fits = offset
            .checked_add(from.len())
            .is_some_and(|end| end <= 4096);
        if access == Access::Read || !fits {
            return Err(Refused::Denied);
        }
        page.write(offset, from);
        Ok(())
    }
}
