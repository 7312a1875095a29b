//! One record for each frame of RAM: who owns it, who refers to it, what it is used as.
//!
//! Knows neither domains nor page tables; it holds the words and their atomic
//! transitions. [`super::page_ref`] builds references from them.
//!
//! A record is 24 bytes: the *count word* (references, owner, state), the *type
//! word* (type count, type, state of validation), a flush stamp and the table lock.
//!
//! Invariants:
//! - A free frame has no references and is marked free; only the allocator changes it.
//! - A type count above zero holds one reference. So a typed reference keeps its frame.
//! - The owner changes only while there are no references.
//! - The type changes only while the type count is 0, and the new type is marked
//!   valid only after TLB entries from the old use are flushed and (tables,
//!   descriptor pages) the contents are checked. Who moved the count from 0 alone
//!   does that; others wait.
//! - `partial` marks a table of which only the first [`TableGuard::progress`] entries
//!   hold references (and perhaps the next one, [`TableGuard::half`]).
//!
//! The table lock of a record is taken only by who needs the frame to stay a table
//! while an entry changes. Nested table locks go from a higher table level to a
//! lower one, which cannot cycle because a frame has one type at a time; or one step
//! from a table that shows others of its level to one that is shown, never back.
#![allow(unsafe_code, reason = "a sparse table reached by pointer arithmetic")]

mod words;

pub use words::{CountWord, FrameType, TypeWord};

use crate::addr::{DomId, Mfn};
use crate::arch::FlushStamp;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The record of one frame.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Frame {
    count: AtomicU64,
    kind: AtomicU64,
    /// When the frame last lost an access that a TLB may remember. While the frame is
    /// a table, which has no use for that: bit `n` is set if any of the entries `16n` to
    /// `16n + 15` was ever present.
    stamp: AtomicU32,
    /// Bit 0: locked; bit 1: half; bits 16 up: progress.
    lock: AtomicU32,
}

const _: () = assert!(size_of::<Frame>() == 24);

const LOCKED: u32 = 1;
const HALF: u32 = 2;
const PROGRESS_SHIFT: u32 = 16;

/// What came of asking for a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// The count went up; the type is usable.
    Held,
    /// The count went from 0 to 1: the asker must flush, validate, then publish.
    /// Holds the type the frame had before. The asker's reference is now the type's.
    Claimed(FrameType),
    /// The count went up, and the asker must finish an interrupted validation.
    Resume,
    /// Somebody is changing the type: look again.
    Wait,
    /// In use as this other type.
    Conflict(FrameType),
    /// The count cannot go higher.
    Overflow,
    /// The count is 0 and the asker brought no reference.
    NeedsRef,
}

/// What came of giving a type reference back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Released {
    /// Others still hold the type.
    Shared,
    /// The count went to 0; the type's own reference is now the caller's to put.
    Last,
    /// It was the last reference to a table or descriptor page, which is now in
    /// transition: the caller must take its contents apart, then publish.
    Dismantle,
}

impl Frame {
    /// A snapshot of the count word.
    #[must_use]
    #[inline]
    pub fn count(&self) -> CountWord {
        CountWord(self.count.load(Ordering::Relaxed))
    }

    /// A snapshot of the type word.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> TypeWord {
        TypeWord(self.kind.load(Ordering::Acquire))
    }

    /// The owner.
    #[must_use]
    #[inline]
    pub fn owner(&self) -> DomId {
        self.count().owner()
    }

    /// When the frame last lost an access.
    #[must_use]
    #[inline]
    pub fn stamp(&self) -> FlushStamp {
        FlushStamp(self.stamp.load(Ordering::Relaxed))
    }

    #[inline]
    pub(super) fn set_stamp(&self, stamp: FlushStamp) {
        self.stamp.store(stamp.0, Ordering::Relaxed);
    }

    /// Takes a reference if `owner` owns the frame and it is in use.
    #[inline]
    pub(crate) fn get_ref(&self, owner: DomId) -> bool {
        self.get_ref_if(|c| c.owner() == owner)
    }

    /// Takes a reference to a frame in use that satisfies `wanted`.
    #[inline]
    pub(crate) fn get_ref_if(&self, wanted: impl Fn(CountWord) -> bool) -> bool {
        let mut word = self.count.load(Ordering::Relaxed);
        loop {
            let refs = word as u32;
            if refs == 0 || refs >= CountWord::MAX_REFS || !wanted(CountWord(word)) {
                return false;
            }
            match self.count.compare_exchange_weak(
                word,
                word + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// Takes one more reference on behalf of someone who already keeps the frame.
    /// False if the count is too high.
    #[inline]
    pub(crate) fn add_ref(&self) -> bool {
        if self.count.fetch_add(1, Ordering::Relaxed) as u32 >= CountWord::MAX_REFS {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Gives a reference back; true if it was the last, and the frame is the caller's to free.
    #[inline]
    pub(crate) fn put_ref(&self) -> bool {
        let before = self.count.fetch_sub(1, Ordering::AcqRel);
        debug_assert!(before as u32 != 0, "reference count below zero");
        before as u32 == 1
    }

    /// Takes away the owner's own reference, leaving its count in place for the
    /// caller to put. False if there is none.
    pub(super) fn clear_allocated(&self) -> bool {
        let before = self
            .count
            .fetch_and(!CountWord::ALLOCATED, Ordering::AcqRel);
        before & CountWord::ALLOCATED != 0
    }

    /// As [`Self::clear_allocated`], but only while that is the only reference, and
    /// then the reference goes too: the frame is the caller's.
    pub(super) fn steal(&self, owner: DomId) -> bool {
        let sole = CountWord::used(owner, 1, true, false);
        let gone = CountWord::used(owner, 0, false, false);
        self.count
            .compare_exchange(sole.0, gone.0, Ordering::AcqRel, Ordering::Relaxed)
            .is_ok()
    }

    /// Writes the count word of a frame nobody else can reach or refer to.
    #[inline]
    pub(super) fn set_count(&self, word: CountWord) {
        self.count.store(word.0, Ordering::Release);
    }

    /// Makes a frame taken from the allocator fit for use. The count word comes last.
    #[inline]
    pub(super) fn reset(&self, word: CountWord) {
        self.kind.store(0, Ordering::Relaxed);
        self.stamp.store(0, Ordering::Relaxed);
        // Who looked for a table here before the frame was freed may have its lock still, and
        // will let go of it: were it taken away, that would unlock whoever has it next.
        self.lock.fetch_and(LOCKED, Ordering::Relaxed);
        self.set_count(word);
    }

    /// Next and previous block of a free block's list (frame numbers below 2^31).
    #[inline]
    pub(super) fn links(&self) -> (u32, u32) {
        let word = self.kind.load(Ordering::Relaxed);
        (word as u32, (word >> 32) as u32)
    }

    #[inline]
    pub(super) fn set_links(&self, next: u32, prev: u32) {
        debug_assert!(next >> 31 == 0 && prev >> 31 == 0);
        self.kind
            .store(u64::from(next) | u64::from(prev) << 32, Ordering::Relaxed);
    }

    /// Takes a reference to type `ty` if others hold it already. The frame may have
    /// been freed and given to another owner meanwhile: look at the owner afterwards.
    #[inline]
    pub(crate) fn share_type(&self, ty: FrameType) -> bool {
        let mut word = self.kind.load(Ordering::Relaxed);
        loop {
            let count = word as u32;
            if (word >> 32) as u32 & !TypeWord::ASIDE_HALF != TypeWord::half(ty)
                || count == 0
                || count >= TypeWord::MAX_COUNT
            {
                return false;
            }
            match self.kind.compare_exchange_weak(
                word,
                word + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
    }

    /// Notes that an entry of this table, whose lock the caller has, will show another
    /// table of its level. False if others show this one, or too many entries do.
    pub(crate) fn add_linear_entry(&self) -> bool {
        self.kind
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
                let full = word & TypeWord::LINEAR_ENTRIES == TypeWord::LINEAR_ENTRIES;
                let shown = word & TypeWord::LINEAR_USES != 0;
                (!full && !shown).then(|| word + TypeWord::LINEAR_ENTRY)
            })
            .is_ok()
    }

    /// Undoes [`Self::add_linear_entry`].
    pub(crate) fn drop_linear_entry(&self) {
        let before = self
            .kind
            .fetch_sub(TypeWord::LINEAR_ENTRY, Ordering::AcqRel);
        debug_assert!(before & TypeWord::LINEAR_ENTRIES != 0, "no linear entry");
    }

    /// Takes a type reference to this valid table of type `ty` for an entry of another
    /// table of the same type. False if it is not valid, or shows others itself. As
    /// with [`Self::share_type`], look at the owner afterwards.
    pub(crate) fn share_linear(&self, ty: FrameType) -> bool {
        self.kind
            .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |word| {
                let good = TypeWord(word).is_valid_as(ty)
                    && TypeWord(word).count() < TypeWord::MAX_COUNT
                    && word & TypeWord::LINEAR_ENTRIES == 0
                    && word & TypeWord::LINEAR_USES != TypeWord::LINEAR_USES;
                good.then(|| word + TypeWord::LINEAR_USE + 1)
            })
            .is_ok()
    }

    /// Notes that a linear entry no longer shows this table; its type reference is still
    /// to be put.
    pub(crate) fn drop_linear_use(&self) {
        let before = self.kind.fetch_sub(TypeWord::LINEAR_USE, Ordering::AcqRel);
        debug_assert!(before & TypeWord::LINEAR_USES != 0, "no linear use");
    }

    /// One try for a reference to type `ty`. `has_ref`: the caller brings a reference
    /// that becomes the type's own if the count is 0 (see [`Acquired::Claimed`]).
    pub(crate) fn get_type(&self, ty: FrameType, has_ref: bool) -> Acquired {
        let word = TypeWord(self.kind.load(Ordering::Acquire));
        let (next, outcome) = if word.count() == 0 {
            if !has_ref {
                return Acquired::NeedsRef;
            }
            let flags = word.0 & TypeWord::NON_COHERENT;
            (TypeWord::new(ty, 1, flags), Acquired::Claimed(word.ty()))
        } else if word.ty() != ty {
            return Acquired::Conflict(word.ty());
        } else if word.count() >= TypeWord::MAX_COUNT {
            return Acquired::Overflow;
        } else if word.is_valid() {
            (TypeWord(word.0 + 1), Acquired::Held)
        } else if word.is_partial() {
            (
                TypeWord((word.0 & !TypeWord::PARTIAL) + 1),
                Acquired::Resume,
            )
        } else {
            return Acquired::Wait;
        };
        match self
            .kind
            .compare_exchange(word.0, next.0, Ordering::AcqRel, Ordering::Relaxed)
        {
            Ok(_) => outcome,
            Err(_) => Acquired::Wait,
        }
    }

    /// Gives a type reference back. `now` tells the time if the last access goes.
    #[inline]
    pub(crate) fn put_type(&self, now: impl Fn() -> FlushStamp) -> Released {
        loop {
            let word = TypeWord(self.kind.load(Ordering::Acquire));
            debug_assert!(word.count() != 0, "type count below zero");
            let (next, outcome) = if word.is_in_transition() {
                // Somebody finishes an interrupted validation, or a flush.
                crate::arch::machine::relax();
                continue;
            } else if word.count() > 1 {
                (TypeWord(word.0 - 1), Released::Shared)
            } else {
                match word.ty() {
                    FrameType::L1 | FrameType::L2 | FrameType::L3 | FrameType::L4 => {
                        // Its entries are still there, the linear ones too.
                        let flags = word.0 & TypeWord::LINEAR_ENTRIES;
                        (TypeWord::new(word.ty(), 1, flags), Released::Dismantle)
                    }
                    FrameType::None
                    | FrameType::Descriptors
                    | FrameType::ReadOnly
                    | FrameType::Writable => {
                        // Before the count is seen to be 0: who takes another type
                        // next reads the stamp.
                        self.set_stamp(now());
                        let flags = word.0 & TypeWord::NON_COHERENT;
                        (TypeWord::new(word.ty(), 0, flags), Released::Last)
                    }
                }
            };
            if self
                .kind
                .compare_exchange_weak(word.0, next.0, Ordering::AcqRel, Ordering::Relaxed)
                .is_ok()
            {
                if outcome == Released::Dismantle && word.is_valid() {
                    self.lock_table().set_progress(512, false);
                }
                return outcome;
            }
        }
    }

    /// Notes that a guest is about to map the frame so that it writes past the cache. The
    /// caller has a writable reference.
    #[cold]
    pub(crate) fn note_non_coherent(&self) {
        self.kind.fetch_or(TypeWord::NON_COHERENT, Ordering::AcqRel);
    }

    /// Forgets that: the caller flushes the cache.
    #[inline]
    pub(super) fn take_non_coherent(&self) -> bool {
        self.kind().is_non_coherent()
            && self
                .kind
                .fetch_and(!TypeWord::NON_COHERENT, Ordering::AcqRel)
                & TypeWord::NON_COHERENT
                != 0
    }

    /// Ends a transition: the type is usable.
    pub(crate) fn publish_valid(&self) {
        self.kind.fetch_or(TypeWord::VALID, Ordering::AcqRel);
    }

    /// Ends a transition: it was interrupted, and whoever holds the type may resume.
    pub(crate) fn publish_partial(&self) {
        self.kind.fetch_or(TypeWord::PARTIAL, Ordering::AcqRel);
    }

    /// Ends a transition by giving the type reference back; the type's contents are
    /// gone. True if it was the last: its own reference is the caller's to put.
    pub(crate) fn publish_dismantled(&self, stamp: FlushStamp) {
        self.set_stamp(stamp);
        let word = TypeWord(self.kind.load(Ordering::Relaxed));
        debug_assert!(word.count() == 1 && word.is_in_transition());
        debug_assert!(word.0 & (TypeWord::LINEAR_ENTRIES | TypeWord::LINEAR_USES) == 0);
        self.kind
            .store(TypeWord::new(word.ty(), 0, 0).0, Ordering::Release);
    }

    /// Sets the pin flag (the pin's type reference is the caller's). False if it was set.
    pub(crate) fn set_pinned(&self) -> bool {
        self.kind.fetch_or(TypeWord::PINNED, Ordering::AcqRel) & TypeWord::PINNED == 0
    }

    /// Clears the pin flag; the pin's type reference becomes the caller's. False if
    /// it was clear.
    pub(crate) fn clear_pinned(&self) -> bool {
        self.kind.fetch_and(!TypeWord::PINNED, Ordering::AcqRel) & TypeWord::PINNED != 0
    }

    /// Locks the frame as a table. Nested only from a higher level to a lower one.
    #[inline]
    pub fn lock_table(&self) -> TableGuard<'_> {
        while self.lock.fetch_or(LOCKED, Ordering::Acquire) & LOCKED != 0 {
            while self.lock.load(Ordering::Relaxed) & LOCKED != 0 {
                crate::arch::machine::relax();
            }
        }
        TableGuard { frame: self }
    }
}

/// Holds a frame's table lock; dropping releases it.
#[must_use = "if unused the table is unlocked at once"]
#[derive(Debug)]
pub struct TableGuard<'a> {
    frame: &'a Frame,
}

/// Entries that one bit of [`TableGuard::occupied`] stands for.
pub const GROUP: usize = 16;

impl TableGuard<'_> {
    /// Groups of [`GROUP`] entries, by bit, that may have present ones.
    #[must_use]
    #[inline]
    pub fn occupied(&self) -> u32 {
        self.frame.stamp.load(Ordering::Relaxed)
    }

    /// Notes that entry `index` is about to be present.
    #[inline]
    pub(crate) fn occupy(&self, index: usize) {
        let bits = self.occupied() | 1 << ((index / GROUP) & 31);
        self.frame.stamp.store(bits, Ordering::Relaxed);
    }

    /// Notes that no entry has been present: the frame becomes a table.
    pub(crate) fn clear_occupied(&self) {
        self.frame.stamp.store(0, Ordering::Relaxed);
    }

    /// Entries, from the first, that hold references (of a table in transition or partial).
    #[must_use]
    pub fn progress(&self) -> usize {
        (self.frame.lock.load(Ordering::Relaxed) >> PROGRESS_SHIFT) as usize
    }

    /// Whether the entry at `progress` holds a type reference to a partial table.
    #[must_use]
    pub fn half(&self) -> bool {
        self.frame.lock.load(Ordering::Relaxed) & HALF != 0
    }

    /// Notes the progress (at most 512).
    pub(crate) fn set_progress(&self, entries: usize, half: bool) {
        let mut word = LOCKED | (entries as u32) << PROGRESS_SHIFT;
        if half {
            word |= HALF;
        }
        self.frame.lock.store(word, Ordering::Relaxed);
    }
}

impl Drop for TableGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Only the holder changes the other bits.
        let word = self.frame.lock.load(Ordering::Relaxed);
        self.frame.lock.store(word & !LOCKED, Ordering::Release);
    }
}

/// Most frames there can be: 48 GiB of records.
const MOST_FRAMES: u64 = 1 << 31;

/// Frames that one presence bit covers (2 MiB of memory).
pub const CHUNK_FRAMES: u64 = 512;

/// The records of all frames: a virtual array with holes where there is no memory.
#[derive(Debug)]
pub struct FrameTable {
    base: NonNull<Frame>,
    limit: u64,
    present: &'static [AtomicU64],
}

// SAFETY: the table only gives out shared references to records, which are atomics,
// and its memory is valid for ever (promised to `new`).
unsafe impl Send for FrameTable {}
// SAFETY: as above.
unsafe impl Sync for FrameTable {}

impl FrameTable {
    /// Bytes of records for one chunk.
    pub const CHUNK_BYTES: u64 = CHUNK_FRAMES * size_of::<Frame>() as u64;

    /// A table at `base` for frames below `limit`; bit `n` of `present` says whether
    /// the records of frames `512n` to `512n + 511` are there.
    ///
    /// # Panics
    /// If `present` is too short for `limit`.
    ///
    /// # Safety
    /// For every bit set in `present`, now or later, the records of that chunk (from
    /// `base + 12288 * n`) are mapped for ever, zeroed before the bit is set, aligned,
    /// and used through this table only.
    #[must_use]
    pub unsafe fn new(base: *mut Frame, limit: u64, present: &'static [AtomicU64]) -> Self {
        assert!(
            limit <= MOST_FRAMES,
            "more memory than the records can link"
        );
        assert!(present.len() as u64 * 64 * CHUNK_FRAMES >= limit);
        Self {
            base: NonNull::new(base).expect("the table is not at address 0"),
            limit,
            present,
        }
    }

    /// A table over records that are all there, from frame 0.
    #[must_use]
    pub fn from_slice(records: &'static [Frame], present: &'static [AtomicU64]) -> Self {
        for word in present {
            word.store(u64::MAX, Ordering::Relaxed);
        }
        // SAFETY: the slice covers every record below `limit`, for ever; records are
        // atomics, so other users of the slice do no harm to memory.
        unsafe { Self::new(records.as_ptr().cast_mut(), records.len() as u64, present) }
    }

    /// The record of `mfn`, if its chunk has records. It need not be RAM: see
    /// [`CountWord::is_ram`].
    #[must_use]
    #[inline]
    pub fn get(&self, mfn: Mfn) -> Option<&Frame> {
        let raw = mfn.raw();
        if raw >= self.limit {
            return None;
        }
        // No frame number that a guest makes up names more than this table's own part of the
        // address space, even while the CPU guesses that it passed the check (see `arch::index`).
        let raw = raw & (MOST_FRAMES - 1);
        // SAFETY: `new` checked that `present` covers every frame below `limit`.
        let word = unsafe { self.present.get_unchecked((raw >> 15) as usize) };
        if word.load(Ordering::Relaxed) >> (raw >> 9 & 63) & 1 == 0 {
            return None;
        }
        // SAFETY: the presence bit is set, so `new`'s caller promises that the record
        // is mapped, initialised and only ever shared.
        Some(unsafe { self.base.add(raw as usize).as_ref() })
    }

    /// The record of a frame that is RAM.
    #[must_use]
    #[inline]
    pub fn ram(&self, mfn: Mfn) -> Option<&Frame> {
        self.get(mfn).filter(|f| f.count().is_ram())
    }

    /// First frame number that can have no record.
    #[must_use]
    pub fn limit(&self) -> u64 {
        self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_taken_in_vain_outlasts_the_frames_next_use() {
        let frame = Frame::default();
        let late = frame.lock_table();
        // Freed and another's meanwhile.
        frame.reset(CountWord::used(DomId(3), 1, true, false));
        assert_ne!(frame.lock.load(Ordering::Relaxed) & LOCKED, 0);
        drop(late);
        let guard = frame.lock_table();
        assert_eq!((guard.progress(), guard.half()), (0, false));
    }
}
