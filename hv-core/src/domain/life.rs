//! A domain's life: made and held by tools, running, shut down, taken apart, gone.
//!
//! ```text
//!            create            unpause (last)
//!   nothing ────────► held ─────────────────► running ◄──┐ resume
//!                      ▲  └─── pause ◄──────────┘  │      │
//!                      │                           ▼      │
//!                      │ destroy              shut down ──┘
//!                      ▼ (from anywhere)           │ destroy
//!                    dying ◄───────────────────────┘
//!                      │ taken apart
//!                      ▼
//!                    dead ──► gone (when nobody refers to its memory any more)
//! ```
//!
//! A dead domain stays in the registry, as what Xen's tools call a zombie, while others
//! have its frames or grants; [`super::registry::reap`] removes it after that.
//!
//! Lock: the account of pauses and of what has been taken apart, at `Level::DomainLife`.

use super::notify::SCHEDULER;
use super::{Domain, Vcpu, shutdown};
use crate::addr::Mfn;
use crate::arch::machine;
use crate::grant::Handle;
use crate::pv_emul::cpuid::Policy;
use crate::pv_mm::Leftover;
use crate::sync::{Level, Lock};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};

/// Where a domain is on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not on it.
    Alive,
    /// Being taken apart.
    Dying,
    /// Taken apart; what is left is in others' hands.
    Dead,
}

/// What of a domain is to be taken apart next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// Event channels.
    Ports,
    /// Mappings of others' grants, from this one on.
    Mappings(Handle),
    /// The vCPU with this index.
    Vcpu(usize),
    /// Frames, from this one on.
    Frames(Mfn),
    /// Nothing that whoever refers to the domain may use.
    Nothing,
}

/// What the lock guards.
#[derive(Debug)]
pub(super) struct Account {
    /// Pauses by tools that have not been taken back.
    pauses: u32,
    /// How far taking apart has come.
    pub(super) next: Part,
    /// What the domain is to see of CPUID, if not what every guest does; until it first runs.
    pub(super) cpu_policy: Option<Box<Policy>>,
    /// A table that is half taken apart.
    pub(super) leftover: Option<Leftover>,
}

impl Account {
    /// Pauses by tools that have not been taken back.
    pub(super) const fn pauses(&self) -> u32 {
        self.pauses
    }
}

/// See the module.
#[derive(Debug)]
pub struct Life {
    stage: AtomicU8,
    pages_gone: AtomicBool,
    pub(super) account: Lock<Account>,
    /// Whether a debugger controls the domain.
    pub debugged: AtomicBool,
    /// Seconds its wall clock differs from the host's.
    pub time_offset: AtomicI64,
}

/// Nobody has paused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotPaused;

impl Life {
    /// The life of a domain that tools hold by `pauses` pauses.
    pub const fn new(pauses: u32) -> Self {
        Self {
            stage: AtomicU8::new(0),
            pages_gone: AtomicBool::new(false),
            account: Lock::new(
                Level::DomainLife,
                Account {
                    pauses,
                    next: Part::Ports,
                    cpu_policy: None,
                    leftover: None,
                },
            ),
            debugged: AtomicBool::new(false),
            time_offset: AtomicI64::new(0),
        }
    }

    /// Where it is on its way out.
    #[must_use]
    #[inline]
    pub fn stage(&self) -> Stage {
        match self.stage.load(Ordering::SeqCst) {
            0 => Stage::Alive,
            1 => Stage::Dying,
            _ => Stage::Dead,
        }
    }

    /// Whether it is on its way out.
    #[must_use]
    #[inline]
    pub fn is_dying(&self) -> bool {
        self.stage() != Stage::Alive
    }

    /// Whether the pages that the hypervisor writes to for the domain are still its.
    #[must_use]
    pub fn has_pages(&self) -> bool {
        !self.pages_gone.load(Ordering::Acquire)
    }

    /// Notes that they are given up; `true` the first time.
    pub(super) fn give_up_pages(&mut self) -> bool {
        !core::mem::replace(self.pages_gone.get_mut(), true)
    }

    pub(super) fn set_stage(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::SeqCst);
    }
}

/// Keeps the vCPUs of a domain off every CPU; dropping lets them go on.
#[must_use = "if unused the domain goes on at once"]
#[derive(Debug)]
pub struct Held<'a> {
    domain: &'a Domain,
    /// How many vCPUs it stopped: the domain may get its vCPUs while it is held.
    vcpus: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let _account = self.domain.life.account.lock();
        let stopped = self.domain.vcpus().iter().take(self.vcpus);
        stopped.for_each(|vcpu| let_go(vcpu));
    }
}

/// Takes back one reason for a vCPU not to run.
fn let_go(vcpu: &Vcpu) {
    if let Ok(Some(cpu)) = SCHEDULER.unpause(vcpu.unit, crate::time::now()) {
        machine::kick(cpu);
    }
}

impl Domain {
    /// Pauses by tools that have not been taken back.
    #[must_use]
    pub fn pauses(&self) -> u32 {
        self.life.account.lock().pauses
    }

    /// One more pause by tools. When it comes back no vCPU of the domain is on a CPU; the
    /// domain must not be the caller's.
    pub fn pause(&self) {
        {
            let mut account = self.life.account.lock();
            // As many as fit; nobody can take back four billion of them.
            account.pauses = account.pauses.saturating_add(1);
            if account.pauses == 1 {
                self.stop_vcpus();
            }
        }
        self.await_off_cpu();
    }

    /// Takes one pause by tools back.
    ///
    /// # Errors
    /// [`NotPaused`].
    pub fn unpause(&self) -> Result<(), NotPaused> {
        let mut account = self.life.account.lock();
        account.pauses = account.pauses.checked_sub(1).ok_or(NotPaused)?;
        if account.pauses == 0 {
            self.cpuid.call_once(|| account.cpu_policy.take());
            self.let_vcpus_go();
        }
        Ok(())
    }

    /// Stops the vCPUs as long as the guard is kept, so that their state can be looked at
    /// and changed. The domain must not be the caller's.
    pub fn hold(&self) -> Held<'_> {
        let vcpus = {
            let _account = self.life.account.lock();
            self.stop_vcpus();
            self.vcpus().len()
        };
        self.await_off_cpu();
        Held {
            domain: self,
            vcpus,
        }
    }

    /// One more reason for each vCPU not to run.
    pub(super) fn stop_vcpus(&self) {
        let now = crate::time::now();
        for vcpu in self.vcpus() {
            // The count cannot overflow: there are as many as pauses and holds at once.
            if let Ok(Some(cpu)) = SCHEDULER.pause(vcpu.unit, now) {
                machine::kick(cpu);
            }
        }
    }

    pub(super) fn let_vcpus_go(&self) {
        self.vcpus().iter().for_each(|vcpu| let_go(vcpu));
    }

    /// Waits until the context of every stopped vCPU is saved.
    pub(super) fn await_off_cpu(&self) {
        for vcpu in self.vcpus() {
            while SCHEDULER.is_on_cpu(vcpu.unit) {
                machine::relax();
            }
        }
    }

    /// Lets a domain that has shut down (most often: suspended) go on where it stopped.
    /// `false`: it has not.
    pub fn resume(&self) -> bool {
        let was = self
            .shutdown
            .swap(shutdown::NOT_SHUT_DOWN, Ordering::SeqCst);
        if was == shutdown::NOT_SHUT_DOWN {
            return false;
        }
        self.let_vcpus_go();
        true
    }
}
