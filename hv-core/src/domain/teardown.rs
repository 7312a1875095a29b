//! Taking a domain apart: everything it has goes back, in steps between which interrupts
//! are let in.
//!
//! Order matters. First nobody can reach it any more (ports, mappings of others' grants),
//! then its vCPUs let go of what they hold, then its pages lose pins and owner. A frame that
//! others map stays until they stop; then the last reference frees it as any other. Pages
//! that the hypervisor itself writes to (`shared_info`, `vcpu_info`, grant frames) go last,
//! when nobody refers to the domain any more: another CPU may be about to set an event.

#[cfg(test)]
mod interrupted_tests;
#[cfg(test)]
mod tests;

use super::life::{Part, Stage};
use super::notify::SCHEDULER;
use super::{Domain, Vcpu, VcpuState, shutdown};
use crate::addr::{DomId, Mfn};
use crate::arch::{FrameMem, Tlb};
use crate::event::Reset;
use crate::grant::Handle;
use crate::mm::account::DomainPages;
use crate::mm::{HostMm, Mm};
use crate::pv_mm::{Budget, Leftover, demote, descriptors};
use crate::time::timers;
use core::sync::atomic::Ordering;

/// Whether a step was the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Call again.
    More,
    /// The domain is dead.
    Done,
}

/// Ports or mappings closed in one step.
const BATCH: usize = 64;
/// Records of frames looked at in one step.
const RECORDS: u64 = 4096;
/// Instructions of giving a frame up, about.
const FRAME_COST: u32 = 200;

impl Domain {
    /// Stops the domain for good. When it comes back no vCPU is on a CPU. The domain must
    /// not be the caller's.
    pub fn begin_death(&self, mm: &HostMm) {
        {
            // So that no vCPU is made meanwhile, which would not be stopped.
            let _account = self.life.account.lock();
            self.life.set_stage(Stage::Dying);
            // One reason for good, on top of whatever there is.
            self.stop_vcpus();
        }
        self.events.set_dying();
        if let Some(account) = mm.accounts.get(self.id) {
            account.set_dying();
        }
        self.await_off_cpu();
        self.watchdogs.end();
    }

    /// Takes some more of a dying domain apart. Again while [`Progress::More`]; no lock of
    /// the caller's is held between.
    pub fn take_apart(&self, mm: &HostMm) -> Progress {
        let budget = Budget::full();
        let mut account = self.life.account.lock();
        if let Some(Leftover { mfn, level }) = account.leftover.take() {
            account.leftover = demote::release_table(mm, mfn, level, &budget).err();
            if account.leftover.is_some() {
                return Progress::More;
            }
        }
        account.next = match account.next {
            Part::Ports => match self.close_ports(BATCH) {
                Reset::More => Part::Ports,
                Reset::Done => {
                    self.end_fifo();
                    self.release_virqs();
                    self.release_devices();
                    Part::Mappings(Handle(0))
                }
            },
            Part::Mappings(from) => match self.drop_grant_mappings(from, BATCH) {
                Some(next) => Part::Mappings(next),
                None => Part::Vcpu(0),
            },
            Part::Vcpu(n) => match self.vcpus().get(n) {
                Some(vcpu) if release_vcpu(mm, vcpu, &budget) => Part::Vcpu(n + 1),
                Some(_) => Part::Vcpu(n),
                None => Part::Frames(Mfn::new(0)),
            },
            Part::Frames(from) => {
                let (next, leftover) = release_frames(mm, self.id, from, &budget);
                account.leftover = leftover;
                next.map_or(Part::Nothing, Part::Frames)
            }
            Part::Nothing => return Progress::Done,
        };
        if matches!(account.next, Part::Nothing) {
            drop(account);
            // A claim that nobody took.
            let _ = mm.claim(self.id, 0);
            self.life.set_stage(Stage::Dead);
            shutdown::tell_toolstack();
            return Progress::Done;
        }
        Progress::More
    }

    /// Whether nothing of a dead domain is in others' hands. Gives up the pages that the
    /// hypervisor writes to: the caller is the only one to refer to the domain, and who
    /// looks it up from now on sees that it is dead and does not touch them.
    pub(super) fn is_gone(&mut self, mm: &HostMm) -> bool {
        if self.life.stage() != Stage::Dead {
            return false;
        }
        if self.life.give_up_pages() {
            mm.free_shared(self.shared_info);
            if let Some(mfn) = self.pirq_eoi.frame() {
                mm.put_writable(mfn);
            }
            for mfn in self.vcpus().iter().filter_map(|v| v.take_info_frame()) {
                mm.put_writable(mfn);
            }
        }
        // Kept while others have mappings, and tried again then.
        self.free_grants().is_ok() && mm.accounts.get(self.id).is_none_or(DomainPages::is_empty)
    }

    /// Takes the vCPUs of a dead domain from the scheduler.
    pub(super) fn leave_scheduler(&self) {
        for vcpu in self.vcpus() {
            SCHEDULER.remove_unit(vcpu.unit);
        }
        if let Some(group) = self.group() {
            SCHEDULER.policy().remove_group(group);
        }
    }
}

/// Gives back what a vCPU that will not run again holds. `false`: not yet all.
fn release_vcpu(mm: &HostMm, vcpu: &Vcpu, budget: &Budget) -> bool {
    vcpu.period.store(0, Ordering::Relaxed);
    for timer in [&vcpu.periodic, &vcpu.singleshot, &vcpu.poll] {
        timers::end(timer);
    }
    // Whoever has it looks at a vCPU that does not run, and not for long.
    let Some(mut state) = vcpu.state.try_lock() else {
        return false;
    };
    release_state(mm, &mut state, budget)
}

fn release_state(mm: &HostMm, state: &mut VcpuState, budget: &Budget) -> bool {
    if state.unfinished.finish(mm, budget).is_err() {
        return false;
    }
    for root in [&mut state.user_root, &mut state.kernel_root] {
        if let Some(mfn) = *root {
            if demote::release_table(mm, mfn, 4, budget).is_err() {
                return false;
            }
            *root = None;
        }
    }
    let frames = state.gdt_frames.iter_mut().chain(&mut state.ldt_frames);
    for mfn in frames.filter_map(Option::take) {
        descriptors::release(mm, mfn);
    }
    true
}

/// Unpins and gives up frames of `owner` from `from` on: where to go on, and a table that is
/// half taken apart.
fn release_frames<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    owner: DomId,
    from: Mfn,
    budget: &Budget,
) -> (Option<Mfn>, Option<Leftover>) {
    let limit = mm.frames.limit();
    let end = (from.raw() + RECORDS).min(limit);
    for raw in from.raw()..end {
        let mfn = Mfn::new(raw);
        let Some(frame) = mm.frames.get(mfn) else {
            continue;
        };
        let count = frame.count();
        if count.is_free() || count.owner() != owner || count.is_hypervisor() {
            continue;
        }
        budget.charge(FRAME_COST);
        let leftover = unpin(mm, owner, mfn, budget);
        // Not its memory any more: somebody's mapping keeps it.
        let _ = mm.release_frame(mfn, owner);
        if leftover.is_some() || budget.is_spent() {
            return (Some(mfn.offset(1)), leftover);
        }
    }
    ((end < limit).then(|| Mfn::new(end)), None)
}

/// Takes a frame's pin away, if it has one; the reference that was the pin's, if giving it
/// back takes long.
fn unpin<M: FrameMem, T: Tlb>(
    mm: &Mm<M, T>,
    owner: DomId,
    mfn: Mfn,
    budget: &Budget,
) -> Option<Leftover> {
    let unpinned = crate::pv_mm::pin::unpin(mm, owner, mfn, budget);
    unpinned.ok().flatten()
}
