//! Event channels.

use crate::test::Test;
use core::sync::atomic::{AtomicU64, Ordering};
use test_guests::hypercall::{call, call_with};
use test_guests::shared;
use test_guests::trap::{self, EVENT, Frame};
use xen_abi::errno::*;
use xen_abi::event_channel::*;
use xen_abi::xen::*;

fn op<T>(command: u32, argument: &mut T) -> i64 {
    call_with(HYPERVISOR_EVENT_CHANNEL_OP, command, argument)
}

fn unbound(dom: u16, remote_dom: u16) -> (i64, u32) {
    let mut argument = EvtchnAllocUnbound {
        dom,
        remote_dom,
        port: 0,
    };
    (op(EVTCHNOP_ALLOC_UNBOUND, &mut argument), argument.port)
}

fn interdomain(remote_dom: u16, remote_port: u32) -> (i64, u32) {
    let mut argument = EvtchnBindInterdomain {
        remote_dom,
        _pad: 0,
        remote_port,
        local_port: 0,
    };
    (
        op(EVTCHNOP_BIND_INTERDOMAIN, &mut argument),
        argument.local_port,
    )
}

fn virq(virq: u32, vcpu: u32) -> (i64, u32) {
    let mut argument = EvtchnBindVirq {
        virq,
        vcpu,
        port: 0,
    };
    (op(EVTCHNOP_BIND_VIRQ, &mut argument), argument.port)
}

fn ipi(vcpu: u32) -> (i64, u32) {
    let mut argument = EvtchnBindIpi { vcpu, port: 0 };
    (op(EVTCHNOP_BIND_IPI, &mut argument), argument.port)
}

fn send(port: u32) -> i64 {
    op(EVTCHNOP_SEND, &mut EvtchnSend { port })
}

fn close(port: u32) -> i64 {
    op(EVTCHNOP_CLOSE, &mut EvtchnClose { port })
}

fn unmask(port: u32) -> i64 {
    op(EVTCHNOP_UNMASK, &mut EvtchnUnmask { port })
}

fn status(dom: u16, port: u32) -> (i64, EvtchnStatus) {
    let mut argument = EvtchnStatus {
        dom,
        _pad0: 0,
        port,
        status: 99,
        vcpu: 99,
        u0: 99,
        u1: 99,
    };
    let rc = op(EVTCHNOP_STATUS, &mut argument);
    (rc, argument)
}

const FAR: [u32; 3] = [131_072, 1 << 31, u32::MAX];

pub fn life(t: &mut Test) {
    let (rc, listener) = unbound(DOMID_SELF, DOMID_SELF);
    t.rc(rc, 0);
    t.yes(listener >= 1);
    let (rc, state) = status(DOMID_SELF, listener);
    t.rc(rc, 0);
    t.eq(state.status, EVTCHNSTAT_UNBOUND);
    t.eq(state.u0 & 0xffff, 0);
    t.rc(send(listener), 0);
    let (rc, port) = interdomain(DOMID_SELF, listener);
    t.rc(rc, 0);
    for (port, other) in [(listener, port), (port, listener)] {
        let (_, state) = status(DOMID_SELF, port);
        t.eq(state.status, EVTCHNSTAT_INTERDOMAIN);
        t.eq(state.u1, other);
        t.eq(state.vcpu, 0);
    }
    t.rc(interdomain(DOMID_SELF, listener).0, -EINVAL);
    // A new binding notifies its binder once.
    t.yes(shared::is_pending(port));
    t.rc(close(port), 0);
    t.eq(status(DOMID_SELF, port).1.status, EVTCHNSTAT_CLOSED);
    t.eq(status(DOMID_SELF, listener).1.status, EVTCHNSTAT_UNBOUND);
    t.rc(close(listener), 0);
    t.rc(close(listener), -EINVAL);
    shared::clear_pending(port);
    shared::clear_pending(listener);
}

pub fn bad_arguments(t: &mut Test) {
    t.rc(unbound(DOMID_SELF, 5).0, 0);
    t.rc(unbound(5, DOMID_SELF).0, -ESRCH);
    t.rc(unbound(DOMID_INVALID, DOMID_SELF).0, -ESRCH);
    t.rc(interdomain(5, 1).0, -ESRCH);
    t.rc(interdomain(DOMID_INVALID, 1).0, -ESRCH);
    for port in FAR {
        t.rc(interdomain(DOMID_SELF, port).0, -EINVAL);
        t.rc(send(port), -EINVAL);
        t.rc(close(port), -EINVAL);
        t.rc(unmask(port), -EINVAL);
        t.rc(status(DOMID_SELF, port).0, -EINVAL);
        t.rc(
            op(EVTCHNOP_BIND_VCPU, &mut EvtchnBindVcpu { port, vcpu: 0 }),
            -EINVAL,
        );
    }
    // Port 0 is nobody's.
    t.rc(send(0), -EINVAL);
    t.rc(close(0), -EINVAL);
    t.rc(interdomain(DOMID_SELF, 0).0, -EINVAL);
    t.rc(status(5, 1).0, -ESRCH);
    for command in [15, 99, u32::MAX] {
        t.rc(op(command, &mut 0u64), -ENOSYS);
    }
    for command in [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] {
        let rc = call(HYPERVISOR_EVENT_CHANNEL_OP, [command, 0x1000, 0, 0, 0]);
        t.rc(rc, -EFAULT);
    }
}

pub fn virqs(t: &mut Test) {
    let (rc, port) = virq(VIRQ_TIMER, 0);
    t.rc(rc, 0);
    t.rc(virq(VIRQ_TIMER, 0).0, -EEXIST);
    let (_, state) = status(DOMID_SELF, port);
    t.eq(state.status, EVTCHNSTAT_VIRQ);
    t.eq(state.u0, VIRQ_TIMER);
    // Nobody can send one.
    t.rc(send(port), -EINVAL);
    // Per-vCPU ones stay.
    t.rc(
        op(EVTCHNOP_BIND_VCPU, &mut EvtchnBindVcpu { port, vcpu: 0 }),
        -EINVAL,
    );
    t.rc(close(port), 0);
    t.rc(virq(NR_VIRQS, 0).0, -EINVAL);
    t.rc(virq(u32::MAX, 0).0, -EINVAL);
    t.rc(virq(VIRQ_TIMER, 1).0, -ENOENT);
    t.rc(virq(VIRQ_TIMER, u32::MAX).0, -ENOENT);
    t.rc(virq(VIRQ_CONSOLE, 1).0, -EINVAL);
    for number in [2, 3, 4, 5, 9, 12, 16, 23] {
        let (rc, port) = virq(number, 0);
        t.rc(rc, 0);
        t.rc(
            op(EVTCHNOP_BIND_VCPU, &mut EvtchnBindVcpu { port, vcpu: 0 }),
            0,
        );
        t.rc(
            op(EVTCHNOP_BIND_VCPU, &mut EvtchnBindVcpu { port, vcpu: 1 }),
            -ENOENT,
        );
        t.rc(close(port), 0);
    }
}

pub fn ipis(t: &mut Test) {
    let (rc, port) = ipi(0);
    t.rc(rc, 0);
    t.eq(status(DOMID_SELF, port).1.status, EVTCHNSTAT_IPI);
    t.rc(
        op(EVTCHNOP_BIND_VCPU, &mut EvtchnBindVcpu { port, vcpu: 0 }),
        -EINVAL,
    );
    shared::set_masked(port, true);
    t.rc(send(port), 0);
    t.yes(shared::is_pending(port));
    shared::clear_pending(port);
    t.rc(close(port), 0);
    t.rc(ipi(1).0, -ENOENT);
    t.rc(ipi(u32::MAX).0, -ENOENT);
}

/// Pending, masked, unmasked: when the upcall comes.
pub fn delivery(t: &mut Test) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    static SELECTOR: AtomicU64 = AtomicU64::new(0);
    fn hook(frame: &mut Frame) -> bool {
        if frame.vector == EVENT {
            COUNT.fetch_add(1, Ordering::Relaxed);
            SELECTOR.store(shared::take_upcall(), Ordering::Relaxed);
        }
        frame.vector == EVENT
    }
    let count = || COUNT.load(Ordering::Relaxed);
    let (_, port) = ipi(0);
    shared::set_masked(port, false);
    shared::set_upcall_mask(1);
    shared::take_upcall();
    trap::set_hook(Some(hook));
    COUNT.store(0, Ordering::Relaxed);
    t.rc(send(port), 0);
    // Masked for the vCPU: pending, no upcall.
    t.yes(shared::is_pending(port) && shared::upcall_pending());
    t.eq(count(), 0);
    // Unmasked by hand: nothing until the next entry to the hypervisor.
    shared::set_upcall_mask(0);
    t.eq(count(), 0);
    call(HYPERVISOR_XEN_VERSION, [0; 5]);
    t.eq(count(), 1);
    t.eq(SELECTOR.load(Ordering::Relaxed), 1 << (port / 64));
    t.eq(u64::from(shared::upcall_mask()), 0);
    // Still pending: no edge.
    t.rc(send(port), 0);
    t.eq(count(), 1);
    shared::clear_pending(port);
    t.rc(send(port), 0);
    t.eq(count(), 2);
    shared::clear_pending(port);
    // The port's own mask.
    shared::set_masked(port, true);
    t.rc(send(port), 0);
    t.yes(shared::is_pending(port) && !shared::upcall_pending());
    t.eq(count(), 2);
    t.rc(unmask(port), 0);
    t.eq(count(), 3);
    shared::clear_pending(port);
    t.rc(unmask(port), 0);
    t.eq(count(), 3);
    trap::set_hook(None);
    t.rc(close(port), 0);
}

/// A call from inside the kernel's own system of masks: block clears the vCPU's mask.
pub fn block(t: &mut Test) {
    fn hook(frame: &mut Frame) -> bool {
        shared::take_upcall();
        frame.vector == EVENT
    }
    let (_, port) = ipi(0);
    shared::set_masked(port, false);
    trap::set_hook(Some(hook));
    shared::set_upcall_mask(1);
    t.rc(send(port), 0);
    t.rc(
        call(
            HYPERVISOR_SCHED_OP,
            [u64::from(xen_abi::sched::SCHEDOP_BLOCK), 0, 0, 0, 0],
        ),
        0,
    );
    t.eq(u64::from(shared::upcall_mask()), 0);
    trap::set_hook(None);
    shared::clear_pending(port);
    t.rc(close(port), 0);
}

pub fn pirqs(t: &mut Test) {
    let bind = |pirq: u32| {
        op(
            EVTCHNOP_BIND_PIRQ,
            &mut EvtchnBindPirq {
                pirq,
                flags: 0,
                port: 0,
            },
        )
    };
    for pirq in [100_000, u32::MAX] {
        t.rc(bind(pirq), -EINVAL);
    }
}

/// Closes everything; the last of the group.
pub fn reset(t: &mut Test) {
    let (_, port) = ipi(0);
    t.rc(op(EVTCHNOP_RESET, &mut EvtchnReset { dom: 5 }), -ESRCH);
    t.rc(op(EVTCHNOP_RESET, &mut EvtchnReset { dom: DOMID_SELF }), 0);
    t.eq(status(DOMID_SELF, port).1.status, EVTCHNSTAT_CLOSED);
    t.rc(close(port), -EINVAL);
}
