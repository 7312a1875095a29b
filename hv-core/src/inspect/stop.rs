//! All CPUs but one stand still between two returns to a guest, for a look at what must
//! not change meanwhile.
//!
//! A CPU that stands still holds nothing but the state of its loaded vCPU. Nobody else
//! can look at that, so the CPU lists the references in it before it stops. It goes on
//! answering TLB requests.

use super::frames::{self, Reference};
use crate::addr::{CpuId, CpuMask};
use crate::arch::machine;
use crate::sync::{Level, Lock};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

/// 1 + the CPU that wants the others to stand still; 0: none does.
static STOPPER: AtomicU64 = AtomicU64::new(0);
/// CPUs that stand still.
static STOPPED: AtomicU64 = AtomicU64::new(0);
/// References in the loaded vCPUs' states. Nothing else is held by who takes it.
static LISTED: Lock<Vec<Reference>> = Lock::new(Level::DomainLife, Vec::new());

/// Runs `f` while all other CPUs stand still, with the references that the states of
/// all loaded vCPUs hold. Called with nothing held, where [`stand_still`] could be.
pub fn with_others_stopped<R>(f: impl FnOnce(&[Reference]) -> R) -> R {
    let here = machine::cpu_id();
    let others = machine::online_cpus().without(here);
    loop {
        let free =
            STOPPER.compare_exchange(0, u64::from(here.0) + 1, Ordering::SeqCst, Ordering::SeqCst);
        if free.is_ok() {
            break;
        }
        stand_still();
    }
    // Who stood still for somebody else may not have noticed the end of that yet.
    wait_for(|| STOPPED.load(Ordering::SeqCst) == 0);
    LISTED.lock().clear();
    list_own();
    for cpu in others.iter() {
        machine::raise(cpu, machine::WORK_STOP);
        machine::kick(cpu);
    }
    wait_for(|| CpuMask(STOPPED.load(Ordering::SeqCst)) == others);
    let listed = core::mem::take(&mut *LISTED.lock());
    let result = f(&listed);
    STOPPER.store(0, Ordering::SeqCst);
    result
}

/// Stands still for as long as another CPU wants that. Called with nothing held.
#[cold]
pub fn stand_still() {
    let here = machine::cpu_id();
    let by_other = || {
        let stopper = STOPPER.load(Ordering::SeqCst);
        stopper != 0 && stopper != u64::from(here.0) + 1
    };
    if !by_other() {
        return;
    }
    list_own();
    STOPPED.fetch_or(bit(here), Ordering::SeqCst);
    wait_for(|| !by_other());
    STOPPED.fetch_and(!bit(here), Ordering::SeqCst);
}

fn bit(cpu: CpuId) -> u64 {
    1 << cpu.0
}

/// Lists what the vCPU loaded here holds.
fn list_own() {
    let mut listed = LISTED.lock();
    machine::look_at_loaded(|state| {
        frames::of_state(state, &mut |mfn, held| frames::push(&mut listed, mfn, held));
    });
}

fn wait_for(condition: impl Fn() -> bool) {
    while !condition() {
        machine::relax();
    }
}
