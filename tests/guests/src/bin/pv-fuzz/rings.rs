//! Rings whose indices and contents contradict themselves, and events without end.

use crate::arena::Arena;
use crate::kernel::Step;
use crate::random::Random;
use core::mem::offset_of;
use test_guests::boot::start_info;
use test_guests::hypercall::call_with;
use test_guests::memory::Page;
use xen_abi::event_channel::{EVTCHNOP_SEND, EvtchnSend};
use xen_abi::io::XenstoreDomainInterface;
use xen_abi::xen::HYPERVISOR_EVENT_CHANNEL_OP;

/// Spoils a word of the xenstore ring and tells its server. (The console's ring carries the
/// verdict.)
pub fn step(_: &mut Arena, random: &mut Random) -> Step {
    const INDICES: usize = offset_of!(XenstoreDomainInterface, req_cons) / 8;
    let page = Page::of_mfn(start_info().store_mfn);
    match random.below(4) {
        // An index pair: off by anything, or plausible.
        0 => page.write(INDICES + random.below(4) as usize, random.odd()),
        1 => {
            let consumed = random.below(1 << 32);
            let produced = consumed.wrapping_add(random.below(1040)) & 0xffff_ffff;
            page.write(INDICES, consumed | produced << 32);
        }
        // A head of a message: type, request, transaction, length.
        2 => {
            let at = random.below(120) as usize;
            page.write(at, random.below(32) | random.word() << 32);
            page.write(at + 1, random.below(4) | random.odd() << 32);
        }
        _ => page.write(random.below(512) as usize, random.word()),
    }
    let mut send = EvtchnSend {
        port: start_info().store_evtchn,
    };
    if call_with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_SEND, &mut send) < 0 {
        Step::Refused
    } else {
        Step::Accepted
    }
}
