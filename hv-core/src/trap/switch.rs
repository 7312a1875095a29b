//! Changing which vCPU a CPU runs.
//!
//! No loan of the loaded vCPU is out here, and no lock is held on entry.

use crate::addr::{CpuId, Nanos};
use crate::arch::machine;
use crate::domain::notify::SCHEDULER;
use crate::domain::{Domain, Vcpu, registry, shutdown};
use crate::event::Virq;
use crate::fallible::Arc;
use crate::inspect;
use crate::sched::UnitId;
use crate::time::timer_queue::TimerId;
use crate::time::{self, timers};
use core::sync::atomic::Ordering;

/// Does this CPU's pending work and comes back with a vCPU loaded that may run;
/// waits for one if need be.
pub fn work() {
    let here = machine::cpu_id();
    loop {
        // What the guest asked for may have taken long, and so may the work.
        machine::let_interrupts_in();
        let mut bits = machine::take_work();
        let mut now = time::now();
        if bits & machine::WORK_TIMER != 0 && expire(now) {
            bits |= machine::WORK_RESCHEDULE;
        }
        if bits & machine::WORK_NMI != 0 {
            machine::report_nmis();
        }
        if bits & (machine::WORK_STOP | machine::WORK_INSPECT) != 0 {
            inspect(here, bits, now);
            now = time::now();
        }
        let loaded = machine::loaded_unit();
        if bits & machine::WORK_RESCHEDULE != 0 || loaded.is_none() {
            schedule(here, loaded, now);
        }
        if machine::loaded_unit().is_none() {
            machine::wait_for_interrupt();
        } else if !machine::work_pending() {
            return;
        }
    }
}

/// Stands still for another CPU that looks at the machine, or looks itself. Meanwhile no
/// vCPU is loaded: a hypercall on another CPU may wait for one to leave its CPU, and that
/// CPU is waited for here.
#[cold]
fn inspect(here: CpuId, bits: u32, now: Nanos) {
    SCHEDULER.vacate(here, now);
    put_away(now);
    if bits & machine::WORK_STOP != 0 {
        inspect::stop::stand_still();
    }
    if bits & machine::WORK_INSPECT != 0 {
        inspect::serve();
    }
}

/// Asks the scheduler and does what it says.
fn schedule(here: CpuId, loaded: Option<UnitId>, now: Nanos) {
    let decision = SCHEDULER.pick(here, now, machine::kick);
    if decision.next != loaded {
        put_away(now);
        if let Some(unit) = decision.next {
            load(unit, now);
        }
    }
    timers::set_slice_end(Nanos(now.0.saturating_add(decision.slice.0)));
}

/// Saves the vCPU that the scheduler took from this CPU, if one is loaded, so that others
/// may have it.
#[inline]
fn put_away(now: Nanos) {
    if let Some((domain, vcpu)) = machine::unload() {
        tell_runstate(&domain, &vcpu, now);
        if let Some(cpu) = SCHEDULER.switched_out(vcpu.unit, now) {
            machine::kick(cpu);
        }
    }
}

/// Writes the run state of a vCPU that has left the CPU: the others look whether it was
/// preempted.
fn tell_runstate(domain: &Domain, vcpu: &Vcpu, now: Nanos) {
    if vcpu.runstate_area.load(Ordering::Relaxed) != 0 {
        // Nobody else runs it before `switched_out`.
        let root = vcpu.state.lock().kernel_root;
        machine::visit_guests(|| {
            crate::domain::clock::write_runstate(domain, vcpu, root, now);
        });
    }
}

/// Loads the vCPU that `unit` is.
fn load(unit: UnitId, now: Nanos) {
    let (dom, id) = SCHEDULER.units().owner(unit);
    let domain = registry::get(dom).expect("a domain outlives its units");
    let vcpu = Arc::clone(domain.vcpu(id).expect("a unit is a vCPU of its domain"));
    if let Some(info) = vcpu.info.get() {
        crate::domain::clock::time_info().publish(info.time());
    }
    vcpu.stop_polling(&domain);
    let state = vcpu.state.lock();
    let root = state.kernel_root;
    machine::load(Arc::clone(&domain), Arc::clone(&vcpu), state);
    crate::domain::clock::write_runstate(&domain, &vcpu, root, now);
}

/// Does what this CPU's due timers ask for. `true`: its slice is over.
fn expire(now: Nanos) -> bool {
    let expired = timers::expire(now, |due| match due.id {
        TimerId::Singleshot(dom, vcpu) => with_vcpu(dom, vcpu, |domain, vcpu| {
            if vcpu.singleshot.is_due(due) {
                domain.raise_virq(vcpu.id, Virq::TIMER);
            }
        }),
        TimerId::Periodic(dom, vcpu) => with_vcpu(dom, vcpu, |domain, vcpu| {
            if vcpu.periodic.is_due(due) {
                domain.raise_virq(vcpu.id, Virq::TIMER);
                vcpu.rearm_periodic(due);
            }
        }),
        TimerId::Poll(dom, vcpu) => with_vcpu(dom, vcpu, |_, vcpu| {
            if vcpu.poll.is_due(due)
                && let Some(cpu) = SCHEDULER.wake_poller(vcpu.unit, now)
            {
                machine::kick(cpu);
            }
        }),
        TimerId::Watchdog(dom, index) => {
            if let Some(domain) = registry::get(dom)
                && domain.watchdogs.is_due(index, due)
            {
                shutdown::domain(&domain, xen_abi::sched::SHUTDOWN_WATCHDOG);
            }
        }
    });
    expired.slice
}

fn with_vcpu(
    dom: crate::addr::DomId,
    vcpu: crate::addr::VcpuId,
    f: impl FnOnce(&Arc<Domain>, &Arc<Vcpu>),
) {
    if let Some(domain) = registry::get(dom)
        && let Some(vcpu) = domain.vcpu(vcpu)
    {
        f(&domain, vcpu);
    }
}
