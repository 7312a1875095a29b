//! The two words of a frame's record, as values: who has the frame and what it is used as.

use crate::addr::DomId;
use core::fmt;

/// What a frame is used as. While a frame is of one type it cannot be of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum FrameType {
    /// Nothing that matters.
    None = 0,
    /// Level-1 page table.
    L1 = 1,
    /// Level-2 page table.
    L2 = 2,
    /// Level-3 page table.
    L3 = 3,
    /// Level-4 page table.
    L4 = 4,
    /// Segment descriptors (GDT or LDT).
    Descriptors = 5,
    /// Never writable by any guest (the machine-to-physical table, say).
    ReadOnly = 6,
    /// Mapped writable by a guest, or written by the hypervisor for one.
    Writable = 7,
}

impl FrameType {
    /// The type of a page table of `level`.
    ///
    /// # Panics
    /// If `level` is not 1 to 4.
    #[must_use]
    #[inline]
    pub const fn table(level: u8) -> Self {
        match level {
            1 => Self::L1,
            2 => Self::L2,
            3 => Self::L3,
            4 => Self::L4,
            _ => panic!("no such table level"),
        }
    }

    /// The level of a page-table type.
    #[must_use]
    #[inline]
    pub const fn level(self) -> Option<u8> {
        match self {
            Self::L1 => Some(1),
            Self::L2 => Some(2),
            Self::L3 => Some(3),
            Self::L4 => Some(4),
            Self::None | Self::Descriptors | Self::ReadOnly | Self::Writable => None,
        }
    }

    #[inline]
    const fn from_bits(bits: u64) -> Self {
        match bits & 7 {
            0 => Self::None,
            1 => Self::L1,
            2 => Self::L2,
            3 => Self::L3,
            4 => Self::L4,
            5 => Self::Descriptors,
            6 => Self::ReadOnly,
            _ => Self::Writable,
        }
    }
}

/// A value of the count word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CountWord(pub(super) u64);

impl CountWord {
    pub(super) const OWNER_SHIFT: u32 = 32;
    /// One of the references is the owner's own: the frame is part of its memory.
    pub(super) const ALLOCATED: u64 = 1 << 48;
    /// Made by the hypervisor for its owner (`shared_info`, grant frames): not
    /// counted as the owner's memory, cacheable mappings only.
    pub(super) const HYPERVISOR: u64 = 1 << 49;
    /// In the allocator.
    pub(super) const FREE: u64 = 1 << 50;
    /// First frame of a free block.
    pub(super) const HEAD: u64 = 1 << 51;
    /// The record describes RAM.
    pub(super) const RAM: u64 = 1 << 52;
    pub(super) const ORDER_SHIFT: u32 = 56;
    /// Most references: far enough below 2^32 that a short overshoot cannot wrap.
    pub(super) const MAX_REFS: u32 = 1 << 31;

    /// References.
    #[must_use]
    #[inline]
    pub const fn refs(self) -> u32 {
        self.0 as u32
    }

    /// Owner (of a free frame: its last owner).
    #[must_use]
    #[inline]
    pub const fn owner(self) -> DomId {
        DomId((self.0 >> Self::OWNER_SHIFT) as u16)
    }

    /// Whether the owner's own reference is among the references.
    #[must_use]
    #[inline]
    pub const fn is_allocated(self) -> bool {
        self.0 & Self::ALLOCATED != 0
    }

    /// Whether the hypervisor made the frame for its owner.
    #[must_use]
    #[inline]
    pub const fn is_hypervisor(self) -> bool {
        self.0 & Self::HYPERVISOR != 0
    }

    /// Whether the frame is in the allocator.
    #[must_use]
    #[inline]
    pub const fn is_free(self) -> bool {
        self.0 & Self::FREE != 0
    }

    /// Whether the record describes RAM at all.
    #[must_use]
    #[inline]
    pub const fn is_ram(self) -> bool {
        self.0 & Self::RAM != 0
    }

    /// Order of the free block that starts here.
    #[must_use]
    #[inline]
    pub(in crate::mm) const fn free_head_order(self) -> Option<u32> {
        if self.0 & Self::HEAD != 0 {
            Some((self.0 >> Self::ORDER_SHIFT) as u32 & 0x1f)
        } else {
            None
        }
    }

    /// A frame in use.
    pub(in crate::mm) const fn used(
        owner: DomId,
        refs: u32,
        allocated: bool,
        hypervisor: bool,
    ) -> Self {
        let mut word = Self::RAM | (owner.0 as u64) << Self::OWNER_SHIFT | refs as u64;
        if allocated {
            word |= Self::ALLOCATED;
        }
        if hypervisor {
            word |= Self::HYPERVISOR;
        }
        Self(word)
    }

    /// A free frame that is not the first of its block.
    pub(in crate::mm) const fn free(last_owner: DomId) -> Self {
        Self(Self::RAM | Self::FREE | (last_owner.0 as u64) << Self::OWNER_SHIFT)
    }

    pub(in crate::mm) const fn with_head(self, order: u32) -> Self {
        Self(self.0 | Self::HEAD | (order as u64) << Self::ORDER_SHIFT)
    }

    pub(in crate::mm) const fn without_head(self) -> Self {
        Self(self.0 & !(Self::HEAD | 0x1f << Self::ORDER_SHIFT))
    }
}

impl fmt::Debug for CountWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} refs, owner {:#x}{}{}{}{}",
            self.refs(),
            self.owner().0,
            if self.is_allocated() {
                ", allocated"
            } else {
                ""
            },
            if self.is_hypervisor() {
                ", hypervisor's"
            } else {
                ""
            },
            if self.is_free() { ", free" } else { "" },
            if self.is_ram() { "" } else { ", not RAM" },
        )
    }
}

/// A value of the type word.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TypeWord(pub(super) u64);

impl TypeWord {
    pub(super) const TYPE_SHIFT: u32 = 32;
    pub(super) const PINNED: u64 = 1 << 61;
    pub(super) const PARTIAL: u64 = 1 << 62;
    /// Top bit: the links of a free block never have it set, so a late look at a
    /// frame that was freed meanwhile never finds a usable type.
    pub(super) const VALID: u64 = 1 << 63;
    pub(super) const MAX_COUNT: u32 = 1 << 31;
    /// Of a table: its entries that show another table of its own level.
    pub(super) const LINEAR_ENTRIES: u64 = 0x3ff << 36;
    pub(super) const LINEAR_ENTRY: u64 = 1 << 36;
    /// Of a table: entries of other tables of its own level that show it. Never
    /// together with [`Self::LINEAR_ENTRIES`].
    pub(super) const LINEAR_USES: u64 = 0x7fff << 46;
    pub(super) const LINEAR_USE: u64 = 1 << 46;
    /// A guest may have written to it past the cache, so that what the cache holds is not
    /// what is in memory. It stays until the cache is flushed.
    pub(super) const NON_COHERENT: u64 = 1 << 35;
    /// Bits of the upper half that do not matter to who wants the type.
    pub(super) const ASIDE_HALF: u32 =
        ((Self::PINNED | Self::LINEAR_ENTRIES | Self::LINEAR_USES | Self::NON_COHERENT) >> 32)
            as u32;

    /// Upper half of the word of a frame usable as `ty`, pinned or not.
    #[inline]
    pub(super) const fn half(ty: FrameType) -> u32 {
        (Self::VALID >> 32) as u32 | ty as u32
    }

    pub(super) const fn new(ty: FrameType, count: u32, flags: u64) -> Self {
        Self((ty as u64) << Self::TYPE_SHIFT | count as u64 | flags)
    }

    /// References that need the type.
    #[must_use]
    #[inline]
    pub const fn count(self) -> u32 {
        self.0 as u32
    }

    /// The type; while the count is 0, the last type.
    #[must_use]
    #[inline]
    pub const fn ty(self) -> FrameType {
        FrameType::from_bits(self.0 >> Self::TYPE_SHIFT)
    }

    /// Whether the type may be relied on.
    #[must_use]
    #[inline]
    pub const fn is_valid(self) -> bool {
        self.0 & Self::VALID != 0
    }

    /// Whether one of the type references is a guest's pin.
    #[must_use]
    #[inline]
    pub const fn is_pinned(self) -> bool {
        self.0 & Self::PINNED != 0
    }

    /// Whether validation (or its undoing) was interrupted.
    #[must_use]
    #[inline]
    pub const fn is_partial(self) -> bool {
        self.0 & Self::PARTIAL != 0
    }

    /// Whether a guest may have written to it past the cache.
    #[must_use]
    #[inline]
    pub const fn is_non_coherent(self) -> bool {
        self.0 & Self::NON_COHERENT != 0
    }

    /// Whether somebody is validating, flushing or taking back the type right now.
    #[must_use]
    #[inline]
    pub const fn is_in_transition(self) -> bool {
        self.count() > 0 && self.0 & (Self::VALID | Self::PARTIAL) == 0
    }

    /// Whether it is a usable type `ty` now.
    #[must_use]
    #[inline]
    pub const fn is_valid_as(self, ty: FrameType) -> bool {
        (self.0 >> 32) as u32 & !Self::ASIDE_HALF == Self::half(ty) && self.count() > 0
    }
}

impl fmt::Debug for TypeWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} x{}{}{}{}",
            self.ty(),
            self.count(),
            if self.is_valid() { "" } else { ", not valid" },
            if self.is_pinned() { ", pinned" } else { "" },
            if self.is_partial() { ", partial" } else { "" },
        )
    }
}
