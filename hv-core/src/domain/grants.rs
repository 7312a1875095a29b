//! A domain's grant table: its frames, and what its death leaves to undo.

use super::{Domain, registry};
use crate::addr::Mfn;
use crate::grant::{GrantError, GrantFrame, Handle, Mapping, Pages, Pin, Use};
use crate::mm;
use crate::mm::shared_page::SharedPage;

impl Domain {
    /// Makes the grant table at least `frames` long.
    ///
    /// # Errors
    /// [`GrantError::General`]: more than it may have, or no memory.
    pub fn grow_grants(&self, frames: u32) -> Result<(), GrantError> {
        self.grants.grow(frames, || {
            let mm = mm::host::get();
            let mfn = mm.alloc_shared(self.id)?;
            Some(GrantFrame {
                page: SharedPage::new(&mm.mem, mfn),
                mfn,
            })
        })
    }

    /// Frees the grant table of a domain that is dead.
    ///
    /// # Errors
    /// Number of mappings that others still have: the domain has to stay a while.
    pub fn free_grants(&self) -> Result<(), u64> {
        for frame in self.grants.take_frames()? {
            mm::host::get().free_shared(frame.mfn);
        }
        Ok(())
    }

    /// Names each frame that a mapping for a device keeps, and whether only for reading.
    pub fn for_each_device_grant(&self, each: &mut dyn FnMut(Mfn, bool)) {
        self.grants.for_each_mapping(|mapping| {
            if mapping.device
                && let Some(granter) = registry::get(mapping.granter)
                && let Ok(mfn) = granter.grants.pinned_frame(mapping.gref)
            {
                each(mfn, mapping.readonly);
            }
        });
    }

    /// Drops up to `budget` of the mappings a dying domain has of others' grants, from
    /// handle `from` on. Its vCPUs no longer run; what its page tables hold they give
    /// back themselves. Answers with the handle to go on from.
    pub fn drop_grant_mappings(&self, from: Handle, budget: usize) -> Option<Handle> {
        self.grants.drop_mappings(from, budget, |mapping| {
            if mapping.granter == self.id {
                self.drop_mapping_of(self, &mapping);
            } else if let Some(granter) = registry::get(mapping.granter) {
                self.drop_mapping_of(&granter, &mapping);
            }
        })
    }

    fn drop_mapping_of(&self, granter: &Self, mapping: &Mapping) {
        if mapping.device {
            if let Ok(mfn) = granter.grants.pinned_frame(mapping.gref) {
                mm::host::get().put(mfn, !mapping.readonly);
            }
            granter.unpin_grant(mapping, Use::Device);
        }
        if mapping.host {
            granter.unpin_grant(mapping, Use::Host);
        }
    }

    /// Ends one use of a mapping of this domain's grant, which is in no TLB any more.
    pub fn unpin_grant(&self, mapping: &Mapping, user: Use) {
        let pin = Pin {
            user,
            readonly: mapping.readonly,
        };
        self.grants.unpin(mapping.gref, pin);
    }
}
