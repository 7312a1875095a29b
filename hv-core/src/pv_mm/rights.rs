//! What a domain may put into page tables. A [`Rights`] is made in one place, from a domain
//! with its policy ([`Rights::of`], called by `domain::rights`); all else derives from one.

use super::absent::{self, Absent};
use crate::addr::{DomId, Mfn};

/// How a domain may map a frame that is not RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoAccess {
    /// Read and write.
    ReadWrite,
    /// Read; a writable mapping silently becomes read-only.
    ReadOnly,
}

/// Which device memory a domain may map.
pub trait IoMem {
    /// Whether and how frame `mfn`, which is not RAM, may be mapped. Frames beyond
    /// the machine's physical address width must be refused.
    fn may_map(&self, mfn: Mfn) -> Option<IoAccess>;
}

/// No device memory at all.
#[cfg(test)]
pub struct NoIoMem;

#[cfg(test)]
impl IoMem for NoIoMem {
    fn may_map(&self, _: Mfn) -> Option<IoAccess> {
        None
    }
}

/// Which of the host's memory a domain may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Its own, and what it is given.
    Own,
    /// All of it: it may map any domain's (dom0).
    All,
}

/// On whose behalf entries are written.
#[derive(Clone, Copy)]
pub struct Rights<'a> {
    /// Owner of the page tables.
    pub(super) tables: DomId,
    /// Owner of the frames that L1 entries may map.
    pub(super) frames: DomId,
    /// Whether L1 entries may choose a cache type (domains with devices).
    pub(super) cache_control: bool,
    /// Device memory it may map.
    pub(super) io: &'a dyn IoMem,
    /// What entries that are not present may name.
    pub(super) absent: Absent,
}

impl core::fmt::Debug for Rights<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Rights")
            .field("tables", &self.tables)
            .field("frames", &self.frames)
            .field("cache_control", &self.cache_control)
            .finish_non_exhaustive()
    }
}

impl<'a> Rights<'a> {
    /// Domain `id` maps its own frames into its own tables. `cache_control`: it has devices.
    #[inline]
    #[must_use]
    pub fn of(id: DomId, trust: Trust, cache_control: bool, io: &'a dyn IoMem) -> Self {
        Self {
            tables: id,
            frames: id,
            cache_control,
            io,
            absent: match trust {
                Trust::Own => absent::for_guests(),
                Trust::All => Absent::ANYTHING,
            },
        }
    }

    /// The same, mapping frames of `owner`.
    #[inline]
    #[must_use]
    pub const fn mapping(self, owner: DomId) -> Self {
        Self {
            frames: owner,
            ..self
        }
    }

    /// The same, with the device memory that `other` may map.
    #[inline]
    #[must_use]
    pub const fn with_devices_of(self, other: &Self) -> Self {
        Self {
            io: other.io,
            ..self
        }
    }

    /// Owner of the page tables.
    #[inline]
    #[must_use]
    pub const fn tables(&self) -> DomId {
        self.tables
    }

    /// Whether and how frame `mfn`, which is not RAM, may be mapped.
    #[must_use]
    pub fn may_map_device(&self, mfn: Mfn) -> Option<IoAccess> {
        self.io.may_map(mfn)
    }

    /// Whether L1 entries may choose a cache type.
    #[must_use]
    pub const fn cache_control(&self) -> bool {
        self.cache_control
    }

    /// Owner of the frames that L1 entries may map.
    #[inline]
    #[must_use]
    pub const fn frames(&self) -> DomId {
        self.frames
    }
}
