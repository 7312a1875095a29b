//! A domain in the making.

use crate::ctl::{CreateDomain, Result, Xen};
use crate::sys::DomId;

/// A domain that is not ready: dropping it destroys it.
#[derive(Debug)]
#[must_use = "the domain is destroyed when this is dropped"]
pub struct NewDomain {
    xen: Xen,
    id: DomId,
    kept: bool,
}

impl NewDomain {
    /// Makes a domain, paused, without vCPUs and memory. `id` asks for a number.
    ///
    /// # Errors
    /// As [`Xen::create_domain`].
    pub fn create(xen: &Xen, id: Option<DomId>, params: &CreateDomain) -> Result<Self> {
        let id = xen.create_domain(id, params)?;
        Ok(Self {
            xen: xen.clone(),
            id,
            kept: false,
        })
    }

    /// Its number.
    #[must_use]
    pub const fn id(&self) -> DomId {
        self.id
    }

    /// The hypervisor it is on.
    #[must_use]
    pub const fn xen(&self) -> &Xen {
        &self.xen
    }

    /// It is ready: from now on it lives on its own.
    pub fn keep(mut self) -> DomId {
        self.kept = true;
        self.id
    }
}

impl Drop for NewDomain {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.xen.destroy(self.id)
            && !error.is_no_domain()
        {
            tracing::error!("a half-made domain remains: {error}");
        }
    }
}
