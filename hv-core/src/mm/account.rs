//! How many frames each domain has, may have, and has claimed.
//!
//! Looked up by domain number without a lock, because the last reference to a frame
//! may be given back anywhere. Frames count until their last reference is gone, not
//! until the domain gives them up: otherwise it could hold on to any amount.

use crate::addr::DomId;
use crate::fallible::{self, NoMemory};
use crate::sync::Once;
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One domain's memory, in frames.
#[derive(Debug)]
pub struct DomainPages {
    total: AtomicU64,
    max: AtomicU64,
    claimed: AtomicU64,
    /// Frames the hypervisor made for it and that are not freed yet.
    shared: AtomicU64,
    /// Its domain is being destroyed.
    dying: AtomicBool,
}

/// A domain would have more frames than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OverLimit;

impl DomainPages {
    const fn new() -> Self {
        Self {
            total: AtomicU64::new(0),
            max: AtomicU64::new(0),
            claimed: AtomicU64::new(0),
            shared: AtomicU64::new(0),
            dying: AtomicBool::new(false),
        }
    }

    /// As for a domain that has just been made. Of the one that had the number before
    /// nothing is left.
    pub fn reset(&self) {
        self.max.store(0, Ordering::Relaxed);
        self.dying.store(false, Ordering::Relaxed);
    }

    /// Its domain is being destroyed: nobody may get its frames without their being
    /// cleared, not even who gets its number.
    pub fn set_dying(&self) {
        self.dying.store(true, Ordering::SeqCst);
    }

    /// Whether its domain is being destroyed. Who gives the domain something that its
    /// destruction looks for must ask *after* that, and take it back if so.
    #[must_use]
    pub fn is_dying(&self) -> bool {
        core::sync::atomic::fence(Ordering::SeqCst);
        self.dying.load(Ordering::SeqCst)
    }

    /// Whether no frame of any kind is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total.load(Ordering::SeqCst) == 0 && self.shared.load(Ordering::SeqCst) == 0
    }

    /// Counts a frame the hypervisor makes for the domain.
    pub(super) fn add_shared(&self) {
        self.shared.fetch_add(1, Ordering::SeqCst);
    }

    /// Counts it no more.
    pub(super) fn remove_shared(&self) {
        self.shared.fetch_sub(1, Ordering::SeqCst);
    }

    /// Frames it has.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Frames it may have.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.max.load(Ordering::Relaxed)
    }

    /// Sets how many frames it may have (it may already have more).
    pub fn set_max(&self, frames: u64) {
        self.max.store(frames, Ordering::Relaxed);
    }

    /// Frames reserved for it that it has not taken yet.
    #[must_use]
    pub fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Gives the claim up; how much of it was left.
    pub(super) fn end_claim(&self) -> u64 {
        self.claimed.swap(0, Ordering::Relaxed)
    }

    /// Begins a claim. False: there is one.
    pub(super) fn begin_claim(&self, frames: u64) -> bool {
        self.claimed
            .compare_exchange(0, frames, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    }

    /// Gives back what [`Self::use_claim`] took.
    pub(super) fn unuse_claim(&self, frames: u64) {
        self.claimed.fetch_add(frames, Ordering::Relaxed);
    }

    /// Uses up to `frames` of the claim; how many it used.
    pub(super) fn use_claim(&self, frames: u64) -> u64 {
        if self.claimed.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let before = self
            .claimed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |c| {
                Some(c.saturating_sub(frames))
            })
            .unwrap_or(0);
        before.min(frames)
    }

    /// Adds frames within the limit.
    ///
    /// # Errors
    /// [`OverLimit`]; nothing is added.
    pub fn charge(&self, frames: u64) -> Result<(), OverLimit> {
        self.total
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |t| {
                let after = t.checked_add(frames)?;
                (after <= self.max()).then_some(after)
            })
            .map(|_| ())
            .map_err(|_| OverLimit)
    }

    /// Adds frames whatever the limit (the builder, exchanges in progress).
    pub fn charge_always(&self, frames: u64) {
        self.total.fetch_add(frames, Ordering::Relaxed);
    }

    /// Takes frames off.
    pub fn uncharge(&self, frames: u64) {
        let before = self.total.fetch_sub(frames, Ordering::Relaxed);
        debug_assert!(before >= frames, "more frames freed than had");
    }
}

const PER_CHUNK: usize = 128;
const CHUNKS: usize = DomId::FIRST_RESERVED as usize / PER_CHUNK + 1;

/// The accounts of all domains.
#[derive(Debug)]
pub struct Accounts([Once<Box<[DomainPages; PER_CHUNK]>>; CHUNKS]);

impl Default for Accounts {
    fn default() -> Self {
        Self::new()
    }
}

impl Accounts {
    /// No accounts yet.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { Once::new() }; CHUNKS])
    }

    /// Opens (or finds) the account of `id`. Only a domain's creation calls this.
    ///
    /// # Errors
    /// [`NoMemory`].
    ///
    /// # Panics
    /// If `id` is no ordinary domain's.
    pub fn open(&self, id: DomId) -> Result<&DomainPages, NoMemory> {
        let n = usize::from(id.0);
        assert!(id.0 < DomId::FIRST_RESERVED);
        let chunk = self.0[n / PER_CHUNK]
            .try_call_once(|| fallible::boxed([const { DomainPages::new() }; PER_CHUNK]))?;
        Ok(&chunk[n % PER_CHUNK])
    }

    /// The account of `id`, if its domain was ever created.
    #[must_use]
    #[inline]
    pub fn get(&self, id: DomId) -> Option<&DomainPages> {
        let n = usize::from(id.0);
        self.0.get(n / PER_CHUNK)?.get()?.get(n % PER_CHUNK)
    }
}
