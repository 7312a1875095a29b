//! Before every return to a guest: what else this CPU has to do, then what the guest
//! has to be told.

use super::bounce;
use super::exceptions::crash_if_undeliverable;
use crate::arch::machine;
use crate::domain::vcpu::Callback;
use crate::hypercall::Call;
use core::sync::atomic::Ordering;

/// What [`prepare`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The guest may run.
    Guest,
    /// `switch::work` first.
    Work,
}

/// Delivers what the vCPU is due: an NMI, then the event upcall.
#[inline]
pub fn prepare(call: &mut Call<'_>) -> Next {
    if machine::work_pending() {
        return Next::Work;
    }
    if call.vcpu.nmi_pending.load(Ordering::Relaxed) && !call.state.nmi_in_progress {
        deliver_nmi(call);
    }
    if call.vcpu.upcall_due() && call.state.event_callback.address != 0 {
        let target = Callback {
            mask_events: true,
            ..call.state.event_callback
        };
        let result = bounce::enter_kernel(call, target, None);
        crash_if_undeliverable(call, result);
        if machine::work_pending() {
            return Next::Work;
        }
    }
    Next::Guest
}

#[cold]
fn deliver_nmi(call: &mut Call<'_>) {
    call.vcpu.nmi_pending.store(false, Ordering::Relaxed);
    let gate = call.state.traps[2];
    let target = if call.state.nmi_callback.address != 0 {
        call.state.nmi_callback
    } else {
        Callback {
            address: gate.address,
            mask_events: gate.flags & 4 != 0,
        }
    };
    if target.address != 0 {
        call.state.nmi_in_progress = true;
        let result = bounce::enter_kernel(call, target, None);
        crash_if_undeliverable(call, result);
    }
}
