//! What a domain's vCPUs are told of time: the scale of their clock and their run
//! state.

use super::{Domain, Vcpu};
use crate::addr::{GuestVa, Mfn, Nanos};
use crate::domain::notify::SCHEDULER;
use crate::sync::Once;
use crate::time::pvclock::TimeInfo;
use crate::time::timer_queue::Due;
use crate::time::timers;
use core::sync::atomic::Ordering;
use xen_abi::xen::VMASST_TYPE_RUNSTATE_UPDATE_FLAG;

static TIME: Once<TimeInfo> = Once::new();

/// The relation of TSC and system time, the same on every CPU for good.
#[must_use]
pub fn time_info() -> &'static TimeInfo {
    TIME.call_once(|| {
        let now = crate::time::snapshot();
        TimeInfo {
            tsc: now.tsc,
            system_time: now.now,
            scale: crate::time::tsc_scale(),
            flags: 0,
        }
    })
}

/// Writes the vCPU's run state where it asked for it, into the space of its kernel.
/// An area that is not mapped is left alone.
pub fn write_runstate(domain: &Domain, vcpu: &Vcpu, root: Option<Mfn>, now: Nanos) {
    let area = vcpu.runstate_area.load(Ordering::Relaxed);
    let Some(root) = root else { return };
    if area == 0 {
        return;
    }
    let space = crate::mm::guest_space(root);
    let times = SCHEDULER.run_times(vcpu.unit, now);
    let mut writes = times.area_writes(domain.assists(VMASST_TYPE_RUNSTATE_UPDATE_FLAG));
    while let Some((offset, bytes)) = writes.next_write() {
        if space
            .write_bytes(GuestVa(area).add(offset as u64), bytes)
            .is_err()
        {
            return;
        }
    }
}

impl Vcpu {
    /// Sets the periodic timer again after it expired.
    pub fn rearm_periodic(&self, due: &Due) {
        let period = self.period.load(Ordering::Relaxed);
        if period != 0 {
            let next = due.deadline.0.saturating_add(period);
            let next = next.max(crate::time::now().0);
            timers::set_again(&self.periodic, due, Nanos(next));
        }
    }
}
