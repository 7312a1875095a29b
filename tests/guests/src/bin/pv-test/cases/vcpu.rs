//! Virtual CPUs, timers and scheduling.

use crate::test::Test;
use core::sync::atomic::{AtomicU64, Ordering};
use test_guests::hypercall::{address_of, call, call_with};
use test_guests::memory::Page;
use test_guests::shared::{self, system_time};
use test_guests::trap::{self, EVENT, Frame};
use xen_abi::errno::*;
use xen_abi::event_channel::*;
use xen_abi::sched::*;
use xen_abi::vcpu::*;
use xen_abi::xen::*;
use zerocopy::FromZeros;

fn op(command: u32, vcpu: u64, pointer: u64) -> i64 {
    call(
        HYPERVISOR_VCPU_OP,
        [u64::from(command), vcpu, pointer, 0, 0],
    )
}

fn sched(command: u32, pointer: u64) -> i64 {
    call(HYPERVISOR_SCHED_OP, [u64::from(command), pointer, 0, 0, 0])
}

pub fn operations(t: &mut Test) {
    t.rc(op(VCPUOP_IS_UP, 0, 0), 1);
    for vcpu in [1, 2, 31, 8191, u64::from(u32::MAX)] {
        t.rc(op(VCPUOP_IS_UP, vcpu, 0), -ENOENT);
        t.rc(op(VCPUOP_UP, vcpu, 0), -ENOENT);
    }
    for command in [14, 99, u32::MAX] {
        t.rc(op(command, 0, 0), -ENOSYS);
    }
    t.rc(op(VCPUOP_SEND_NMI, 0, 8), -EINVAL);
    t.rc(op(VCPUOP_INITIALISE, 0, 0x1000), -EFAULT);
    t.rc(op(VCPUOP_STOP_PERIODIC_TIMER, 0, 0), 0);
    t.rc(op(VCPUOP_STOP_SINGLESHOT_TIMER, 0, 0), 0);
}

pub fn initialise_running(t: &mut Test) {
    let mut context = xen_abi::arch_x86::VcpuGuestContext::new_zeroed();
    context.user_regs.rip = 0x1000;
    context.ctrlreg[3] = test_guests::memory::l4().machine();
    t.rc(op(VCPUOP_INITIALISE, 0, address_of(&mut context)), -EEXIST);
}

pub fn runstate(t: &mut Test) {
    let mut info = VcpuRunstateInfo::new_zeroed();
    t.rc(op(VCPUOP_GET_RUNSTATE_INFO, 0, address_of(&mut info)), 0);
    t.eq(info.state, RUNSTATE_RUNNING);
    t.yes(info.time[0] > 0);
    let page = Page::take();
    let mut area = VcpuRegisterRunstateMemoryArea { addr: page.va() };
    t.rc(
        op(
            VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
            0,
            address_of(&mut area),
        ),
        0,
    );
    t.eq(page.read(0) as i32, RUNSTATE_RUNNING);
    t.yes(page.read(1) != 0);
    area.addr = 0xffff_8280_0000_0000;
    t.rc(
        op(
            VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA,
            0,
            address_of(&mut area),
        ),
        -EFAULT,
    );
    t.rc(op(VCPUOP_REGISTER_RUNSTATE_MEMORY_AREA, 0, 0x1000), -EFAULT);
}

pub fn clock(t: &mut Test) {
    let mut last = system_time();
    for _ in 0..1000 {
        let now = system_time();
        t.yes(now >= last);
        last = now;
    }
    t.yes(last > 0);
}

fn bind_timer() -> u32 {
    let mut bind = EvtchnBindVirq {
        virq: VIRQ_TIMER,
        vcpu: 0,
        port: 0,
    };
    call_with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_BIND_VIRQ, &mut bind);
    bind.port
}

fn close(port: u32) -> i64 {
    call_with(
        HYPERVISOR_EVENT_CHANNEL_OP,
        EVTCHNOP_CLOSE,
        &mut EvtchnClose { port },
    )
}

static EVENTS: AtomicU64 = AtomicU64::new(0);

fn count_events(frame: &mut Frame) -> bool {
    if frame.vector == EVENT {
        shared::take_upcall();
        EVENTS.fetch_add(1, Ordering::Relaxed);
    }
    frame.vector == EVENT
}

/// Blocks until the timer's event.
fn wait_for(port: u32) {
    shared::set_masked(port, false);
    trap::set_hook(Some(count_events));
    while !shared::is_pending(port) {
        sched(SCHEDOP_BLOCK, 0);
    }
    trap::set_hook(None);
    shared::set_masked(port, true);
    shared::clear_pending(port);
}

pub fn one_shot(t: &mut Test) {
    let port = bind_timer();
    shared::set_masked(port, true);
    let set = |timeout_abs_ns: u64, flags: u32| {
        let mut timer = VcpuSetSingleshotTimer {
            timeout_abs_ns,
            flags,
            _pad: 0,
        };
        op(VCPUOP_SET_SINGLESHOT_TIMER, 0, address_of(&mut timer))
    };
    let deadline = system_time() + 5_000_000;
    t.rc(set(deadline, 0), 0);
    wait_for(port);
    t.yes(system_time() >= deadline);
    // A time that is past: at once, and no error.
    t.rc(set(1, 0), 0);
    wait_for(port);
    // Not even with the flag that once asked for one.
    t.rc(set(1, VCPU_SSHOTTMR_FUTURE), 0);
    wait_for(port);
    t.rc(set(system_time() + 1_000_000_000, 0), 0);
    t.rc(op(VCPUOP_STOP_SINGLESHOT_TIMER, 0, 0), 0);
    t.rc(op(VCPUOP_SET_SINGLESHOT_TIMER, 0, 0x1000), -EFAULT);
    // The old hypercall for the same.
    let deadline = system_time() + 2_000_000;
    t.rc(call(HYPERVISOR_SET_TIMER_OP, [deadline, 0, 0, 0, 0]), 0);
    wait_for(port);
    t.yes(system_time() >= deadline);
    t.rc(call(HYPERVISOR_SET_TIMER_OP, [0, 0, 0, 0, 0]), 0);
    t.rc(close(port), 0);
}

pub fn periodic(t: &mut Test) {
    let port = bind_timer();
    shared::set_masked(port, true);
    let set = |period_ns: u64| {
        let mut timer = VcpuSetPeriodicTimer { period_ns };
        op(VCPUOP_SET_PERIODIC_TIMER, 0, address_of(&mut timer))
    };
    t.rc(set(999_999), -EINVAL);
    t.rc(set(0), -EINVAL);
    t.rc(set(u64::MAX), -EINVAL);
    t.rc(set(2_000_000), 0);
    // It ticks while the vCPU runs.
    for _ in 0..3 {
        let start = system_time();
        while !shared::is_pending(port) && system_time() < start + 1_000_000_000 {}
        t.yes(shared::is_pending(port));
        shared::clear_pending(port);
    }
    t.rc(op(VCPUOP_STOP_PERIODIC_TIMER, 0, 0), 0);
    t.rc(close(port), 0);
}

pub fn scheduling(t: &mut Test) {
    t.rc(sched(SCHEDOP_YIELD, 0), 0);
    for command in [8, 99, u32::MAX] {
        t.rc(sched(command, 0), -ENOSYS);
    }
    t.rc(sched(SCHEDOP_SHUTDOWN, 0x1000), -EFAULT);
    t.rc(sched(SCHEDOP_POLL, 0x1000), -EFAULT);
    let mut remote = SchedRemoteShutdown {
        domain_id: 9,
        _pad: 0,
        reason: 0,
    };
    t.rc(
        sched(SCHEDOP_REMOTE_SHUTDOWN, address_of(&mut remote)),
        -ESRCH,
    );
    let mut watchdog = SchedWatchdog { id: 1, timeout: 0 };
    t.rc(sched(SCHEDOP_WATCHDOG, address_of(&mut watchdog)), -EINVAL);
    let mut watchdog = SchedWatchdog {
        id: 0,
        timeout: 1000,
    };
    let id = sched(SCHEDOP_WATCHDOG, address_of(&mut watchdog));
    t.rc(id, 1);
    let mut watchdog = SchedWatchdog { id: 1, timeout: 0 };
    t.rc(sched(SCHEDOP_WATCHDOG, address_of(&mut watchdog)), 0);
    let mut watchdog = SchedWatchdog { id: 3, timeout: 5 };
    t.rc(sched(SCHEDOP_WATCHDOG, address_of(&mut watchdog)), -EINVAL);
}

pub fn poll(t: &mut Test) {
    let mut bind = EvtchnBindIpi { vcpu: 0, port: 0 };
    t.rc(
        call_with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_BIND_IPI, &mut bind),
        0,
    );
    let port = bind.port;
    shared::set_masked(port, true);
    let mut ports = [port];
    let mut poll = |nr_ports: u32, timeout: u64| {
        let ports = address_of(&mut ports);
        let mut poll = SchedPoll {
            ports,
            nr_ports,
            _pad: 0,
            timeout,
        };
        sched(SCHEDOP_POLL, address_of(&mut poll))
    };
    let deadline = system_time() + 3_000_000;
    t.rc(poll(1, deadline), 0);
    t.yes(system_time() >= deadline);
    call_with(
        HYPERVISOR_EVENT_CHANNEL_OP,
        EVTCHNOP_SEND,
        &mut EvtchnSend { port },
    );
    // Pending although masked: at once, without a timeout.
    t.rc(poll(1, 0), 0);
    t.rc(poll(129, 0), -EINVAL);
    shared::clear_pending(port);
    let mut bad = [u32::MAX];
    let mut argument = SchedPoll {
        ports: address_of(&mut bad),
        nr_ports: 1,
        _pad: 0,
        timeout: 0,
    };
    t.rc(sched(SCHEDOP_POLL, address_of(&mut argument)), -EINVAL);
    let mut argument = SchedPoll {
        ports: 0x1000,
        nr_ports: 1,
        _pad: 0,
        timeout: 0,
    };
    t.rc(sched(SCHEDOP_POLL, address_of(&mut argument)), -EFAULT);
    t.rc(close(port), 0);
}

/// `vcpu_info` moves once; afterwards everything is marked pending.
pub fn register_info(t: &mut Test) {
    let page = Page::take();
    let register = |mfn: u64, offset: u32| {
        let mut argument = VcpuRegisterVcpuInfo {
            mfn,
            offset,
            rsvd: 0,
        };
        op(VCPUOP_REGISTER_VCPU_INFO, 0, address_of(&mut argument))
    };
    t.rc(register(page.mfn(), 4096 - 63), -ENXIO);
    t.rc(register(page.mfn(), 4096), -ENXIO);
    t.rc(register(page.mfn(), u32::MAX), -ENXIO);
    t.rc(register(0xf_ffff_ffff, 0), -EINVAL);
    t.rc(register(test_guests::memory::l4().mfn(), 0), -EINVAL);
    let old = shared::cr2();
    shared::set_upcall_mask(1);
    shared::vcpu_info();
    t.rc(register(page.mfn(), 64), 0);
    shared::set_vcpu_info(page.va() + 64);
    t.eq(shared::cr2(), old);
    t.eq(shared::upcall_mask(), 1);
    t.yes(shared::upcall_pending());
    t.eq(shared::take_upcall(), u64::MAX);
    t.rc(register(page.mfn(), 64), -EINVAL);
    t.rc(register(page.mfn(), 128), -EINVAL);
    // It is a writable page now.
    t.rc(page.protect(), 0);
    t.rc(
        test_guests::hypercall::mmuext_op(MMUEXT_PIN_L1_TABLE, page.mfn(), 0),
        -EINVAL,
    );
    t.rc(page.unprotect(), 0);
    shared::set_upcall_mask(0);
    t.traps(14, || {
        // SAFETY: a fault is what is asked for.
        unsafe { core::arch::asm!("mov {0}, [{0}]", inout(reg) 0x3000u64 => _) }
    });
    t.eq(shared::cr2(), 0x3000);
}
