//! Long page-table operations in short stretches: how much is done at a time, and what is left.
//!
//! Whoever works on page tables has a [`Budget`], which ends. So no operation whose length a
//! guest chooses runs without a point at which interrupts are let in.

use super::{Leftover, PtError, Stop, Unfinished};
use crate::addr::Mfn;
use crate::arch::{FrameMem, Tlb};
use crate::mm::Mm;
use core::cell::Cell;

/// How much work may still be done before interrupts must be let in, in instructions.
///
/// Work is charged where it is done, by an estimate; the loops around it ask [`Self::is_spent`].
#[derive(Debug)]
pub struct Budget(Cell<u32>);

impl Budget {
    /// No budget is larger: half of what a stretch with interrupts off is to last at most
    /// (100,000 instructions), for what is begun is brought to its end.
    pub const MOST: u32 = 50_000;

    /// A budget of `instructions`, at most [`Self::MOST`].
    #[must_use]
    #[inline]
    pub const fn new(instructions: u32) -> Self {
        Self(Cell::new(if instructions < Self::MOST {
            instructions
        } else {
            Self::MOST
        }))
    }

    /// A full one.
    #[must_use]
    #[inline]
    pub const fn full() -> Self {
        Self::new(Self::MOST)
    }

    /// One that does not end.
    #[cfg(test)]
    #[must_use]
    pub const fn endless() -> Self {
        Self(Cell::new(u32::MAX))
    }

    /// Counts work of about so many instructions.
    #[inline]
    pub fn charge(&self, instructions: u32) {
        self.0.set(self.0.get().saturating_sub(instructions));
    }

    /// Whether to stop before the next piece of work.
    #[inline]
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.0.get() == 0
    }

    /// Fills it again, once interrupts were let in.
    #[inline]
    pub fn renew(&self) {
        self.0.set(Self::MOST);
    }
}

/// Why an operation did not run to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// To let events in: do the same again.
    Preempted,
    /// The guest's mistake.
    Failed(PtError),
}

/// The caller has something else to do: do the same again later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preempted;

/// Runs page-table operations of which a vCPU keeps what is left.
pub struct Runner<'a, M, T> {
    /// The host's memory.
    pub mm: &'a Mm<M, T>,
    /// What earlier operations left.
    pub unfinished: &'a mut Unfinished,
    /// Lets interrupts in and says whether to stop.
    pub pause: &'a dyn Fn() -> bool,
    /// What may be done until then.
    pub budget: Budget,
}

impl<M, T> core::fmt::Debug for Runner<'_, M, T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Runner")
            .field("unfinished", &self.unfinished)
            .finish_non_exhaustive()
    }
}

impl<M: FrameMem, T: Tlb> Runner<'_, M, T> {
    /// Runs `op` to its end, in stretches.
    ///
    /// # Errors
    /// [`Halt`].
    #[inline]
    pub fn run<R>(&mut self, mut op: impl FnMut(&Budget) -> Result<R, Stop>) -> Result<R, Halt> {
        loop {
            if self.unfinished.ready(self.mm, &self.budget).is_ok() {
                match op(&self.budget) {
                    Ok(result) => {
                        self.unfinished.settle();
                        return Ok(result);
                    }
                    Err(Stop::Failed(e, leftover)) => {
                        self.unfinished.settle();
                        if let Some(leftover) = leftover {
                            self.unfinished.retire(self.mm, leftover);
                            // Later, if not now: the error is what counts.
                            let _ = self.drain();
                        }
                        return Err(Halt::Failed(e));
                    }
                    Err(Stop::Interrupted(leftover)) => {
                        self.unfinished.resume_later(self.mm, leftover);
                    }
                }
            }
            if self.rest().is_err() {
                return Err(Halt::Preempted);
            }
        }
    }

    /// Lets interrupts in, after which there is a full budget again.
    ///
    /// # Errors
    /// [`Preempted`].
    pub fn rest(&mut self) -> Result<(), Preempted> {
        if (self.pause)() {
            return Err(Preempted);
        }
        self.budget.renew();
        Ok(())
    }

    /// Finishes what operations left behind, but for one that is about to be retried.
    ///
    /// # Errors
    /// [`Preempted`].
    #[inline]
    pub fn drain(&mut self) -> Result<(), Preempted> {
        while !self.unfinished.is_empty() {
            if self.unfinished.ready(self.mm, &self.budget).is_ok() {
                break;
            }
            self.rest()?;
        }
        Ok(())
    }

    /// Gives back the root (an L4) in `slot`, and finishes that.
    ///
    /// # Errors
    /// [`Preempted`]; what is left is in the slot, or with what is unfinished.
    pub fn release_root(&mut self, slot: &mut Option<Mfn>) -> Result<(), Preempted> {
        self.drain()?;
        if let Some(mfn) = slot.take() {
            self.unfinished.retire(self.mm, Leftover { mfn, level: 4 });
        }
        self.drain()
    }
}
