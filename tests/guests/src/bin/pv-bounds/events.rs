//! Event channels, as many as there can be.

use crate::row::{answers, row};
use test_guests::hypercall::{address_of, call_with};
use test_guests::memory::Page;
use xen_abi::event_channel::*;
use xen_abi::sched::*;
use xen_abi::xen::*;

fn op<T>(command: u32, argument: &mut T) -> i64 {
    call_with(HYPERVISOR_EVENT_CHANNEL_OP, command, argument)
}

fn unbound() -> (i64, u32) {
    let mut argument = EvtchnAllocUnbound {
        dom: DOMID_SELF,
        remote_dom: DOMID_SELF,
        port: 0,
    };
    (op(EVTCHNOP_ALLOC_UNBOUND, &mut argument), argument.port)
}

/// Opens ports until there are no more; how many.
fn fill() -> u32 {
    let mut opened = 0;
    while unbound().0 == 0 {
        opened += 1;
    }
    opened
}

fn reset() -> i64 {
    op(EVTCHNOP_RESET, &mut EvtchnReset { dom: DOMID_SELF })
}

pub fn rows() {
    poll();
    row("event alloc_unbound of all ports", || fill() > 1000);
    answers("event reset of all ports", 0, reset);
    fifo();
}

fn poll() {
    let mut ports = [0_u32; 128];
    let port = unbound().1;
    ports.fill(port);
    let mut argument = SchedPoll {
        ports: address_of(&mut ports),
        nr_ports: 128,
        _pad: 0,
        timeout: 1,
    };
    answers("sched_op poll of 128 ports", 0, || {
        call_with(HYPERVISOR_SCHED_OP, SCHEDOP_POLL, &mut argument)
    });
    row("sched_op yield", || {
        call_with(HYPERVISOR_SCHED_OP, SCHEDOP_YIELD, &mut argument) == 0
    });
    row("event send", || {
        op(EVTCHNOP_SEND, &mut EvtchnSend { port }) <= 0
    });
}

/// All ports of the FIFO interface.
fn fifo() {
    let control = Page::take();
    let mut init = EvtchnInitControl {
        control_gfn: control.mfn(),
        offset: 0,
        vcpu: 0,
        link_bits: 0,
        _pad: [0; 7],
    };
    answers("event init_control", 0, || {
        op(EVTCHNOP_INIT_CONTROL, &mut init)
    });
    row("event expand_array of all pages", || {
        let mut pages = 0;
        while pages < 128
            && let Some(page) = Page::try_take()
        {
            let mut expand = EvtchnExpandArray {
                array_gfn: page.mfn(),
            };
            if op(EVTCHNOP_EXPAND_ARRAY, &mut expand) != 0 {
                break;
            }
            pages += 1;
        }
        pages > 0
    });
    row("event alloc_unbound of all FIFO ports", || fill() > 1000);
    answers("event reset of all FIFO ports", 0, reset);
}
