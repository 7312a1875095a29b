//! All CPUs but one stand still between two returns to a guest, for a look at what must
//! not change meanwhile.
//!
//! A CPU that stands still, and the one that looks, hold nothing and have no vCPU loaded: a
//! hypercall on a CPU that does not stand still yet may wait for a vCPU to leave its CPU
//! (a pause), and would wait for ever. A CPU that stands still goes on answering TLB
//! requests.

use crate::addr::{AtomicCpuMask, CpuMask};
use crate::arch::machine;
use core::sync::atomic::{AtomicU64, Ordering};

/// 1 + the CPU that wants the others to stand still; 0: none does.
static STOPPER: AtomicU64 = AtomicU64::new(0);
/// CPUs that stand still.
static STOPPED: AtomicCpuMask = AtomicCpuMask::new(CpuMask::NONE);

/// Runs `f` while all other CPUs stand still, so that no vCPU is loaded anywhere. Called
/// where [`stand_still`] could be.
pub fn with_others_stopped<R>(f: impl FnOnce() -> R) -> R {
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
    wait_for(|| STOPPED.load(Ordering::SeqCst).is_empty());
    for cpu in others.iter() {
        machine::raise(cpu, machine::WORK_STOP);
        machine::kick(cpu);
    }
    wait_for(|| STOPPED.load(Ordering::SeqCst) == others);
    let result = f();
    STOPPER.store(0, Ordering::SeqCst);
    result
}

/// Stands still for as long as another CPU wants that. Called with nothing held and no
/// vCPU loaded.
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
    debug_assert!(machine::loaded_unit().is_none());
    STOPPED.set(here, Ordering::SeqCst);
    wait_for(|| !by_other());
    STOPPED.clear(here, Ordering::SeqCst);
}

fn wait_for(condition: impl Fn() -> bool) {
    while !condition() {
        machine::relax();
    }
}
