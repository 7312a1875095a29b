//! The references of a context: page-table roots and descriptor pages.
//!
//! Making a frame a root may mean to check every table below it, so all of this happens in
//! stretches. What a vCPU without a context has so far is kept in its state, where the domain's
//! end finds it, and the same call goes on from there.

use super::Refused;
use crate::addr::Mfn;
use crate::arch::{FrameMem, Tlb};
use crate::domain::VcpuState;
use crate::mm::Mm;
use crate::pv_mm::run::{Halt, Preempted, Runner};
use crate::pv_mm::{Budget, Rights, descriptors, promote};
use xen_abi::arch_x86::VcpuGuestContext;

/// Descriptors in a page.
const PER_PAGE: u64 = 512;

/// The frames a context names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    gdt: [Option<Mfn>; 14],
    gdt_entries: u16,
    kernel_root: Mfn,
    user_root: Option<Mfn>,
}

impl Named {
    /// Those of `c`.
    ///
    /// # Errors
    /// [`Refused::Bad`]: no machine has such frames.
    pub fn of(c: &VcpuGuestContext) -> Result<Self, Refused> {
        let pages = c.gdt_ents.div_ceil(PER_PAGE) as usize;
        let mut gdt = [None; 14];
        for (slot, raw) in gdt.iter_mut().zip(c.gdt_frames).take(pages) {
            *slot = Some(Mfn::from_guest(raw).ok_or(Refused::Bad)?);
        }
        // Frame numbers are in bits 12 and up of control registers.
        let root = |word: u64| Mfn::from_guest(word >> 12).ok_or(Refused::Bad);
        Ok(Self {
            gdt,
            gdt_entries: c.gdt_ents as u16,
            kernel_root: root(c.ctrlreg[3])?,
            user_root: match c.ctrlreg[1] {
                0 => None,
                word => Some(root(word)?),
            },
        })
    }

    /// Whether a vCPU has exactly these.
    pub fn are_had_by(&self, state: &VcpuState) -> bool {
        state.gdt_frames == self.gdt
            && state.gdt_entries == self.gdt_entries
            && state.kernel_root == Some(self.kernel_root)
            && state.user_root == self.user_root
    }

    /// Gives them to a vCPU that has no context yet.
    ///
    /// # Errors
    /// [`Refused::Interrupted`]: do the same again. [`Refused::Bad`]; then [`give_back`] what it
    /// got.
    pub fn take<M: FrameMem, T: Tlb>(
        &self,
        mm: &Mm<M, T>,
        rights: &Rights<'_>,
        state: &mut VcpuState,
        pause: &dyn Fn() -> bool,
    ) -> Result<(), Refused> {
        for (has, wanted) in state.gdt_frames.iter_mut().zip(self.gdt) {
            if *has == wanted {
                continue;
            }
            if let Some(mfn) = wanted {
                descriptors::acquire(mm, rights.tables(), mfn).map_err(|_| Refused::Bad)?;
            }
            if let Some(old) = core::mem::replace(has, wanted) {
                descriptors::release(mm, old);
            }
            if pause() {
                return Err(Refused::Interrupted);
            }
        }
        state.gdt_entries = self.gdt_entries;
        let roots = [
            (&mut state.kernel_root, Some(self.kernel_root)),
            (&mut state.user_root, self.user_root),
        ];
        for (has, wanted) in roots {
            if *has == wanted {
                continue;
            }
            let mut runner = Runner {
                mm,
                unfinished: &mut state.unfinished,
                pause,
                budget: Budget::full(),
            };
            runner.release_root(has)?;
            if let Some(mfn) = wanted {
                runner.run(|budget| promote::acquire_table(mm, rights, mfn, 4, budget))?;
                *has = wanted;
                // The reference of the stretches before.
                runner.drain()?;
            }
        }
        Ok(())
    }
}

impl From<Preempted> for Refused {
    fn from(_: Preempted) -> Self {
        Self::Interrupted
    }
}

impl From<Halt> for Refused {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Preempted => Self::Interrupted,
            Halt::Failed(_) => Self::Bad,
        }
    }
}

/// Takes from a vCPU what it got of a context that was refused.
///
/// # Errors
/// [`Preempted`]: do the same again.
pub(super) fn give_back<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    state: &mut VcpuState,
    pause: &dyn Fn() -> bool,
) -> Result<(), Preempted> {
    for mfn in state.gdt_frames.iter_mut().filter_map(Option::take) {
        descriptors::release(mm, mfn);
    }
    state.gdt_entries = 0;
    state.unfinished.settle();
    let mut runner = Runner {
        mm,
        unfinished: &mut state.unfinished,
        pause,
        budget: Budget::full(),
    };
    runner.release_root(&mut state.user_root)?;
    runner.release_root(&mut state.kernel_root)
}
