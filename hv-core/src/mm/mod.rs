//! The host's memory: frames, who has them, and how their contents are reached.
//!
//! Knows domains by number only. [`Mm`] bundles the frame records, the allocator,
//! the machine-to-physical table and the seams to the CPU; the hypervisor has one,
//! tests make small ones.
//!
//! **Reaching guest memory.** The hypervisor never follows a guest's virtual address
//! with the MMU. It walks the guest's page tables in software and reaches frames
//! through its own view of RAM ([`crate::arch::FrameMem`]). Such a walk takes no
//! references; it counts as a TLB entry that lives until the CPU next answers TLB
//! requests (opens interrupts, or waits for a lock), or, kept in the CPU's
//! [`translations`], until it flushes. So only a CPU that takes part in flushes may
//! walk: one with a guest's root loaded. That is sound because a frame
//! that loses an access is stamped, and before it is used in a way that the old
//! access could spoil (another type, another owner) every CPU that has not flushed
//! since is made to, synchronously ([`crate::arch::Tlb::flush_since`]).
//!
//! Locks: see [`frame_table`] and [`frame_alloc`].

pub mod account;
pub mod early;
pub mod frame_alloc;
pub mod frame_copy;
pub mod frame_io;
pub mod frame_table;
pub mod guest_copy;
pub mod guest_stack;
pub mod heap;
pub mod host;
pub mod host_map;
pub mod layout;
pub mod m2p;
pub mod memory_map;
pub mod page_ref;
pub mod pte;
pub mod ranges;
pub mod shared_page;
#[cfg(test)]
pub mod testing;
pub mod translations;
pub mod walk;

pub use host::{HostGuestSpace, HostMm, guest_space};

use crate::addr::{DomId, Mfn, Pfn};
use crate::arch::{FrameMem, Tlb};
use crate::fallible::fault;
use account::{Accounts, OverLimit};
use core::sync::atomic::{AtomicU64, Ordering};
use frame_alloc::{FrameAlloc, Request};
use frame_table::{CountWord, Frame, FrameTable};
use m2p::M2p;

/// First L4 slot of the hypervisor's range. Source: Xen `include/public/arch-x86/xen-x86_64.h`.
pub const FIRST_HYPERVISOR_SLOT: usize = 256;
/// L4 slots of the hypervisor's range.
pub const HYPERVISOR_SLOTS: usize = 16;

/// The host's memory.
#[derive(Debug)]
pub struct Mm<M, T> {
    /// One record a frame.
    pub frames: FrameTable,
    /// Free frames.
    pub alloc: FrameAlloc,
    /// Machine to pseudo-physical.
    pub m2p: M2p,
    /// The view of RAM.
    pub mem: M,
    /// Flushing.
    pub tlb: T,
    /// Frames by domain.
    pub accounts: Accounts,
    /// Frames claimed by all domains together.
    claimed: AtomicU64,
    /// Free frames that no domain gets.
    reserve: AtomicU64,
    /// What every guest L4 holds in the hypervisor's slots.
    hypervisor_slots: [AtomicU64; HYPERVISOR_SLOTS],
}

/// Why a domain got no frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocError {
    /// It has all it may have.
    OverLimit,
    /// The host has none that fit.
    NoMemory,
    /// The domain does not exist.
    NoDomain,
}

impl From<OverLimit> for AllocError {
    fn from(_: OverLimit) -> Self {
        Self::OverLimit
    }
}

impl<M: FrameMem, T: Tlb> Mm<M, T> {
    /// A host without free memory yet.
    #[must_use]
    pub const fn new(frames: FrameTable, m2p: M2p, mem: M, tlb: T) -> Self {
        Self {
            frames,
            alloc: FrameAlloc::new(),
            m2p,
            mem,
            tlb,
            accounts: Accounts::new(),
            claimed: AtomicU64::new(0),
            reserve: AtomicU64::new(0),
            hypervisor_slots: [const { AtomicU64::new(0) }; HYPERVISOR_SLOTS],
        }
    }

    /// Gives unused RAM to the allocator. Its records must be there, all zero.
    ///
    /// # Panics
    /// If a frame has no record.
    pub fn add_ram(&self, first: Mfn, count: u64) {
        for n in 0..count {
            self.m2p.clear(first.offset(n));
        }
        self.alloc.add_ram(&self.frames, first, count);
    }

    /// Marks RAM that the hypervisor has kept since boot (its image, early tables).
    /// Its records must be there, all zero.
    ///
    /// # Panics
    /// If a frame has no record.
    pub fn keep_ram(&self, first: Mfn, count: u64) {
        for n in 0..count {
            self.m2p.clear(first.offset(n));
            self.frames
                .get(first.offset(n))
                .expect("kept RAM has records")
                .reset(CountWord::used(DomId::INVALID, 1, false, true));
        }
    }

    /// Gives RAM kept since boot to the allocator.
    ///
    /// # Panics
    /// If a frame was not kept.
    pub fn free_kept(&self, first: Mfn, count: u64) {
        for n in 0..count {
            self.free_hypervisor(first.offset(n), 0);
        }
    }

    /// The record of a frame known to have one.
    ///
    /// # Panics
    /// If it has none.
    #[inline]
    pub fn record(&self, mfn: Mfn) -> &Frame {
        self.frames.get(mfn).expect("the frame has a record")
    }

    /// Sets what guest L4 tables hold in slot `FIRST_HYPERVISOR_SLOT + n`, from the
    /// next promotion on. Boot sets these before the first guest.
    ///
    /// # Panics
    /// If `n` is not below [`HYPERVISOR_SLOTS`].
    pub fn set_hypervisor_slot(&self, n: usize, entry: u64) {
        self.hypervisor_slots[n].store(entry, Ordering::Release);
    }

    /// What guest L4 tables hold in slot `FIRST_HYPERVISOR_SLOT + n`.
    #[inline]
    pub(crate) fn hypervisor_slot(&self, n: usize) -> u64 {
        self.hypervisor_slots[n].load(Ordering::Relaxed)
    }

    /// Takes frames for the hypervisor itself, of its reserve too; contents undefined.
    pub fn alloc_hypervisor(&self, request: Request) -> Option<Mfn> {
        if fault::strikes() {
            return None;
        }
        let word = CountWord::used(DomId::INVALID, 1, false, true);
        self.take_block(request, word, 0)
    }

    /// A block with these count words, if so many frames stay free beside it.
    fn take_block(&self, request: Request, word: CountWord, leaving: u64) -> Option<Mfn> {
        self.alloc.alloc_block(
            &self.frames,
            &self.mem,
            &self.tlb,
            request,
            frame_alloc::Grant { word, leaving },
        )
    }

    /// Free frames that domains may have (or have claimed): all but the hypervisor's reserve.
    #[must_use]
    pub fn free_for_domains(&self) -> u64 {
        self.alloc.free_frames().saturating_sub(self.reserve())
    }

    /// Frames that domains cannot have, so that the hypervisor's heap and page tables can grow
    /// whatever domains take.
    #[must_use]
    pub fn reserve(&self) -> u64 {
        self.reserve.load(Ordering::Relaxed)
    }

    /// Sets it.
    pub fn set_reserve(&self, frames: u64) {
        self.reserve.store(frames, Ordering::Relaxed);
    }

    /// Gives back what [`Self::alloc_hypervisor`] took, and in the same order.
    ///
    /// # Panics
    /// If the frame is not the hypervisor's own.
    pub fn free_hypervisor(&self, mfn: Mfn, order: u32) {
        let frame = self.record(mfn);
        assert!(frame.owner() == DomId::INVALID && frame.count().refs() == 1);
        // Its last owner is nobody: the next domain gets it scrubbed.
        self.alloc
            .free_block(&self.frames, mfn, order, DomId::INVALID);
    }

    /// Takes a zeroed frame that the hypervisor makes for `owner` (`shared_info`, a
    /// grant frame): not counted as its memory, and never anything but writable. The
    /// caller has one reference and one writable reference; see
    /// [`Self::free_shared`].
    ///
    /// None is taken of the reserve: domains choose how many of these there are.
    pub fn alloc_shared(&self, owner: DomId) -> Option<Mfn> {
        if fault::strikes() {
            return None;
        }
        let account = self.accounts.open(owner).ok()?;
        let word = CountWord::used(owner, 1, false, true);
        let mfn = self.take_block(Request::anywhere(0), word, self.reserve())?;
        for w in self.mem.words(mfn) {
            w.store(0, Ordering::Relaxed);
        }
        account.add_shared();
        let taken = self.get_writable(mfn, owner);
        debug_assert!(taken.is_ok());
        Some(mfn)
    }

    /// Gives up what [`Self::alloc_shared`] gave; the frame goes when the guest's
    /// mappings do.
    pub fn free_shared(&self, mfn: Mfn) {
        self.put_writable(mfn);
        self.put_page(mfn);
    }

    /// Takes 2^order frames, cleared of what others left, as memory of `owner`, within its limit. Each has
    /// one reference, its owner's.
    ///
    /// # Errors
    /// See [`AllocError`].
    pub fn alloc_for(&self, owner: DomId, request: Request) -> Result<Mfn, AllocError> {
        let account = self.accounts.get(owner).ok_or(AllocError::NoDomain)?;
        if account.is_dying() {
            return Err(AllocError::NoDomain);
        }
        let frames = 1u64 << request.order.min(frame_alloc::MAX_ORDER);
        account.charge(frames)?;
        let used = account.use_claim(frames);
        self.claimed.fetch_sub(used, Ordering::Relaxed);
        let word = CountWord::used(owner, 1, true, false);
        // What others have claimed is not free for this one.
        let leaving = self.claimed() + self.reserve();
        let Some(first) = self.take_block(request, word, leaving) else {
            account.uncharge(frames);
            self.claimed.fetch_add(used, Ordering::Relaxed);
            account.unuse_claim(used);
            return Err(AllocError::NoMemory);
        };
        self.unless_dying(account, owner, first, frames)
    }

    /// Frames that `owner` has just got, unless it is dying: whoever takes it apart may have
    /// passed them already, so they go back.
    fn unless_dying(
        &self,
        account: &account::DomainPages,
        owner: DomId,
        first: Mfn,
        frames: u64,
    ) -> Result<Mfn, AllocError> {
        if !account.is_dying() {
            return Ok(first);
        }
        for n in 0..frames {
            let _ = self.release_frame(first.offset(n), owner);
        }
        Err(AllocError::NoDomain)
    }

    /// Notes that `mfn` is `pfn` to `owner`, if it is its frame (still).
    pub fn name_frame(&self, mfn: Mfn, owner: DomId, pfn: Pfn) {
        if let Ok(page) = self.page(mfn, owner) {
            self.m2p.set(page.mfn(), pfn);
        }
    }

    /// As [`Self::alloc_for`], for frames that replace stolen ones: those still count, so
    /// the limit does not apply until they are freed.
    ///
    /// # Errors
    /// See [`AllocError`].
    pub fn alloc_in_exchange(&self, owner: DomId, request: Request) -> Result<Mfn, AllocError> {
        let account = self.accounts.get(owner).ok_or(AllocError::NoDomain)?;
        let word = CountWord::used(owner, 1, true, false);
        account.charge_always(1 << request.order);
        let Some(first) = self.take_block(request, word, self.reserve()) else {
            account.uncharge(1 << request.order);
            return Err(AllocError::NoMemory);
        };
        self.unless_dying(account, owner, first, 1 << request.order)
    }

    /// Frames claimed by domains and not yet taken.
    #[must_use]
    pub fn claimed(&self) -> u64 {
        self.claimed.load(Ordering::Relaxed)
    }

    /// Claims memory so that `owner` can have `frames` in all (0 cancels).
    ///
    /// # Errors
    /// [`AllocError::NoMemory`]: the host has less. [`AllocError::OverLimit`]: the
    /// domain may not have so much, or has it already.
    pub fn claim(&self, owner: DomId, frames: u64) -> Result<(), AllocError> {
        let account = self.accounts.get(owner).ok_or(AllocError::NoDomain)?;
        if frames == 0 {
            self.claimed
                .fetch_sub(account.end_claim(), Ordering::Relaxed);
            return Ok(());
        }
        if account.claimed() != 0 || frames > account.max() {
            return Err(AllocError::OverLimit);
        }
        let wanted = frames
            .checked_sub(account.total())
            .filter(|n| *n > 0)
            .ok_or(AllocError::OverLimit)?;
        let free = self.free_for_domains();
        self.claimed
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |claimed| {
                let after = claimed.checked_add(wanted)?;
                (after <= free).then_some(after)
            })
            .map_err(|_| AllocError::NoMemory)?;
        if !account.begin_claim(wanted) {
            self.claimed.fetch_sub(wanted, Ordering::Relaxed);
            return Err(AllocError::OverLimit);
        }
        Ok(())
    }
}
