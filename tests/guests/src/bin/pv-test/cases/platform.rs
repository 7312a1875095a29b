//! Operations of the hardware domain and of the toolstack.

use crate::test::Test;
use test_guests::hypercall::{address_of, call, call_with};
use xen_abi::errno::*;
use xen_abi::physdev::*;
use xen_abi::platform::*;
use xen_abi::xen::*;
use zerocopy::FromZeros;

fn physdev<T>(command: u32, argument: &mut T) -> i64 {
    call_with(HYPERVISOR_PHYSDEV_OP, command, argument)
}

pub fn physdev_arguments(t: &mut Test) {
    for command in [32, 99, u32::MAX] {
        t.rc(physdev(command, &mut 0u64), -ENOSYS);
    }
    for command in [5, 6, 12, 13, 21, 25] {
        let rc = call(HYPERVISOR_PHYSDEV_OP, [command, 0x1000, 0, 0, 0]);
        t.rc(rc, -EFAULT);
    }
    for irq in [100_000, u32::MAX] {
        t.rc(physdev(PHYSDEVOP_EOI, &mut PhysdevEoi { irq }), -EINVAL);
        let mut query = PhysdevIrqStatusQuery { irq, flags: 0 };
        t.rc(physdev(PHYSDEVOP_IRQ_STATUS_QUERY, &mut query), -EINVAL);
    }
    let mut bitmap = PhysdevSetIobitmap {
        bitmap: 0xffff_8280_0000_0000,
        nr_ports: 8,
        _pad: 0,
    };
    t.rc(physdev(PHYSDEVOP_SET_IOBITMAP, &mut bitmap), -EINVAL);
    let mut bitmap = PhysdevSetIobitmap {
        bitmap: 0,
        nr_ports: 65537,
        _pad: 0,
    };
    t.rc(physdev(PHYSDEVOP_SET_IOBITMAP, &mut bitmap), -EINVAL);
    let mut bitmap = PhysdevSetIobitmap {
        bitmap: 0,
        nr_ports: 0,
        _pad: 0,
    };
    t.rc(physdev(PHYSDEVOP_SET_IOBITMAP, &mut bitmap), 0);
}

/// The I/O bitmap opens ports to a kernel without I/O privilege.
pub fn io_bitmap(t: &mut Test) {
    let page = test_guests::memory::Page::take();
    // Port 0x80: a clear bit permits.
    for i in 0..32 {
        page.write(i, u64::MAX);
    }
    page.write(2, !1);
    let mut bitmap = PhysdevSetIobitmap {
        bitmap: page.va(),
        nr_ports: 2048,
        _pad: 0,
    };
    t.rc(physdev(PHYSDEVOP_SET_IOBITMAP, &mut bitmap), 0);
    let read = |port: u16| {
        // SAFETY: emulated, or traps.
        unsafe { core::arch::asm!("in al, dx", in("dx") port, out("al") _) }
    };
    t.no_trap(|| read(0x80));
    t.traps(13, || read(0x81));
    t.traps(13, || read(0x1000));
    let mut bitmap = PhysdevSetIobitmap {
        bitmap: 0,
        nr_ports: 0,
        _pad: 0,
    };
    t.rc(physdev(PHYSDEVOP_SET_IOBITMAP, &mut bitmap), 0);
    t.traps(13, || read(0x80));
}

pub fn interrupts(t: &mut Test) {
    let map = |gsi: i32, pirq: i32, kind: i32| {
        let mut argument = PhysdevMapPirq::new_zeroed();
        argument.domid = DOMID_SELF;
        argument.r#type = kind;
        argument.index = gsi;
        argument.pirq = pirq;
        let rc = physdev(PHYSDEVOP_MAP_PIRQ, &mut argument);
        (rc, argument.pirq)
    };
    t.yes(map(5, 5, MAP_PIRQ_TYPE_GSI) == (0, 5));
    // Again is fine.
    t.yes(map(5, 5, MAP_PIRQ_TYPE_GSI) == (0, 5));
    t.rc(map(100_000, -1, MAP_PIRQ_TYPE_GSI).0, -EINVAL);
    t.rc(map(5, 5, 77).0, -EINVAL);
    let mut status = PhysdevIrqStatusQuery { irq: 5, flags: 0 };
    t.rc(physdev(PHYSDEVOP_IRQ_STATUS_QUERY, &mut status), 0);
    t.eq(status.flags & XENIRQSTAT_NEEDS_EOI, XENIRQSTAT_NEEDS_EOI);
    let mut unmap = PhysdevUnmapPirq {
        domid: DOMID_SELF,
        _pad: 0,
        pirq: 5,
    };
    t.rc(physdev(PHYSDEVOP_UNMAP_PIRQ, &mut unmap), 0);
    let mut vector = PhysdevIrq { irq: 7, vector: 0 };
    t.rc(physdev(PHYSDEVOP_ALLOC_IRQ_VECTOR, &mut vector), 0);
    t.eq(vector.vector, 7);
}

pub fn platform_arguments(t: &mut Test) {
    let mut operation = XenPlatformOp::new_zeroed();
    operation.cmd = XENPF_GET_CPUINFO;
    operation.interface_version = XENPF_INTERFACE_VERSION + 1;
    let pointer = address_of(&mut operation);
    t.rc(call(HYPERVISOR_PLATFORM_OP, [pointer, 0, 0, 0, 0]), -EACCES);
    let mut operation = XenPlatformOp::new_zeroed();
    operation.cmd = 99;
    operation.interface_version = XENPF_INTERFACE_VERSION;
    let pointer = address_of(&mut operation);
    t.rc(call(HYPERVISOR_PLATFORM_OP, [pointer, 0, 0, 0, 0]), -ENOSYS);
    t.rc(call(HYPERVISOR_PLATFORM_OP, [0x1000, 0, 0, 0, 0]), -EFAULT);
}

pub fn cpu_info(t: &mut Test) {
    let mut operation = XenPlatformOp::new_zeroed();
    operation.cmd = XENPF_GET_CPUINFO;
    operation.interface_version = XENPF_INTERFACE_VERSION;
    let pointer = address_of(&mut operation);
    t.rc(call(HYPERVISOR_PLATFORM_OP, [pointer, 0, 0, 0, 0]), 0);
    // CPU 0, flags online. (The half above it is the highest CPU there is.)
    t.eq(operation.u[0] as u32, 0);
    t.eq(operation.u[1] as u32, XEN_PCPU_FLAGS_ONLINE);
}

/// The first fields of domctl and sysctl: command, interface version.
pub fn control_versions(t: &mut Test) {
    for (number, current) in [(HYPERVISOR_DOMCTL, 0x15u32), (HYPERVISOR_SYSCTL, 0x15)] {
        let ask = |command: u32, version: u32| {
            let mut words = [0u32; 64];
            words[0] = command;
            words[1] = version;
            call(number, [address_of(&mut words), 0, 0, 0, 0])
        };
        t.rc(ask(3, current - 1), -EACCES);
        t.rc(ask(3, current + 1), -EACCES);
        t.rc(ask(3, 0), -EACCES);
        t.rc(call(number, [0x1000, 0, 0, 0, 0]), -EFAULT);
        t.rc(ask(9999, current), -ENOSYS);
    }
    let domctl = |command: u32, domain: u32| {
        let mut words = [0u32; 64];
        words[0] = command;
        words[1] = 0x15;
        words[2] = domain;
        call(HYPERVISOR_DOMCTL, [address_of(&mut words), 0, 0, 0, 0])
    };
    // pausedomain of nobody and of oneself.
    t.rc(domctl(3, 77), -ESRCH);
    t.rc(domctl(3, 0), -EINVAL);
    t.rc(domctl(2, 0), -EINVAL);
}

pub fn absent(t: &mut Test) {
    for number in [HYPERVISOR_XSM_OP, HYPERVISOR_TMEM_OP, HYPERVISOR_ARGO_OP] {
        t.rc(call(number, [99, 0, 0, 0, 0]), -ENOSYS);
    }
}
