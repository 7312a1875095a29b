//! Devices and host-wide interrupts that the toolstack gives a domain, which never runs.

use super::control::domctl;
use crate::test::Test;
use xen_abi::domctl::*;
use xen_abi::errno::*;
use xen_abi::xen::*;
use zerocopy::FromZeros;

/// A domain without vCPUs and memory.
fn domain(t: &mut Test) -> u16 {
    let mut id = 0;
    let mut wanted = XenDomctlCreatedomain::new_zeroed();
    (wanted.max_vcpus, wanted.max_evtchn_port) = (1, 1023);
    (wanted.max_grant_frames, wanted.grant_opts) = (4, 1);
    t.rc(domctl(XEN_DOMCTL_CREATEDOMAIN, &mut id, &mut wanted), 0);
    id
}

fn gone(t: &mut Test, mut id: u16) {
    t.rc(domctl(XEN_DOMCTL_DESTROYDOMAIN, &mut id, &mut 0_u64), 0);
}

/// An XSAVE area behind XCR0 as it is and all it ever was, as tools hand it in.
fn set_extended_state(id: &mut u16, now: u64, ever: u64, header: [u64; 3], size: u64) -> i64 {
    let mut words = [0_u64; 106];
    (words[0], words[1]) = (now, ever);
    // MXCSR's default; the header: XSTATE_BV, XCOMP_BV, reserved.
    words[2 + 3] = 0x1f80;
    words[2 + 64..2 + 67].copy_from_slice(&header);
    let mut op = XenDomctlVcpuextstate::new_zeroed();
    (op.size, op.buffer) = (size, words.as_mut_ptr() as u64);
    domctl(XEN_DOMCTL_SETVCPUEXTSTATE, id, &mut op)
}

/// What XSETBV or XRSTOR would fault on is refused.
pub fn extended_state(t: &mut Test) {
    /// With x87 and SSE; with AVX too.
    const SMALL: u64 = 16 + 576;
    const LARGE: u64 = 16 + 832;
    let mut id = domain(t);
    let mut count = XenDomctlMaxVcpus { max: 1 };
    t.rc(domctl(XEN_DOMCTL_MAX_VCPUS, &mut id, &mut count), 0);
    let mut set = |now, ever, header, size| set_extended_state(&mut id, now, ever, header, size);
    for (now, ever, used) in [(3, 3, 3), (1, 3, 3), (3, 3, 0), (1, 1, 1)] {
        t.rc(set(now, ever, [used, 0, 0], SMALL), 0);
    }
    // AVX is refused where it is hidden from guests (no such CPU, or one that leaks by it).
    let avx = set(7, 7, [7, 0, 0], LARGE);
    t.yes(avx == 0 || avx == -EINVAL);
    for (now, ever, used) in [(3, 7, 7), (1, 7, 4)] {
        t.rc(set(now, ever, [used, 0, 0], LARGE), avx);
    }
    let refused = [
        (5, 7, 7),
        (5, 5, 5),
        (4, 7, 7),
        (2, 3, 3),
        (0, 3, 3),
        (7, 3, 3),
        (3, 3, 7),
        (3, 0, 0),
        (0x27, 0x27, 3),
        (0xc7, 0xe7, 3),
        (0x0b, 0x0b, 3),
        (0x203, 0x203, 3),
        (1 << 62 | 3, 1 << 62 | 3, 3),
    ];
    for (now, ever, used) in refused {
        for size in [SMALL, LARGE] {
            t.rc(set(now, ever, [used, 0, 0], size), -EINVAL);
        }
    }
    t.rc(set(3, 3, [3, 1 << 63, 0], SMALL), -EOPNOTSUPP);
    t.rc(set(3, 3, [3, 1, 0], SMALL), -EOPNOTSUPP);
    t.rc(set(3, 3, [3, 0, 1], SMALL), -EIO);
    // Nothing at all, and words without an area.
    t.rc(set(0, 0, [0; 3], 16), 0);
    t.rc(set(3, 3, [0; 3], 16), -EINVAL);
    t.rc(set(3, 3, [0; 3], 8), -EINVAL);
    gone(t, id);
}

pub fn memory(t: &mut Test) {
    let mut id = domain(t);
    let ask = |id: &mut u16, first_mfn, nr_mfns, allow_access| {
        let mut op = XenDomctlIomemPermission {
            first_mfn,
            nr_mfns,
            allow_access,
            _pad: [0; 7],
        };
        domctl(XEN_DOMCTL_IOMEM_PERMISSION, id, &mut op)
    };
    // The VGA's; twice is as good as once, and what was not given can be taken.
    for allow in [1, 1, 0, 0] {
        t.rc(ask(&mut id, 0xa0, 32, allow), 0);
    }
    t.rc(ask(&mut id, 0xa0, 0, 1), -EINVAL);
    t.rc(ask(&mut id, 0xa0, u64::MAX - 3, 1), -EINVAL);
    // All there are, and more than there can be.
    t.rc(ask(&mut id, 0, 0, 1), -EPERM);
    t.rc(ask(&mut id, 1 << 40, 1, 1), -EPERM);
    // The interrupt controllers are not dom0's to give.
    t.rc(ask(&mut id, 0xfee00, 1, 1), -EPERM);
    t.rc(ask(&mut id, 0xfedf0, 64, 0), -EPERM);
    t.rc(ask(&mut 77, 0xa0, 1, 1), -ESRCH);
    gone(t, id);
}

pub fn ports(t: &mut Test) {
    let mut id = domain(t);
    let ask = |id: &mut u16, first_port, nr_ports, allow_access| {
        let mut op = XenDomctlIoportPermission {
            first_port,
            nr_ports,
            allow_access,
            _pad: [0; 3],
        };
        domctl(XEN_DOMCTL_IOPORT_PERMISSION, id, &mut op)
    };
    for allow in [1, 1, 0, 0] {
        t.rc(ask(&mut id, 0x300, 16, allow), 0);
    }
    t.rc(ask(&mut id, 0xffff, 1, 1), 0);
    for (first, count) in [(0x300, 0), (0xffff, 2), (0x1_0000, 1), (9, u32::MAX)] {
        t.rc(ask(&mut id, first, count, 1), -EINVAL);
    }
    // Interrupt controller, timer, PCI configuration.
    for port in [0x20, 0xa1, 0x40, 0xcfc] {
        t.rc(ask(&mut id, port, 1, 1), -EPERM);
    }
    t.rc(ask(&mut id, 0, 0x1_0000, 1), -EPERM);
    gone(t, id);
}

pub fn interrupts(t: &mut Test) {
    let mut id = domain(t);
    let mut ask = |pirq, allow_access| {
        let mut op = XenDomctlIrqPermission {
            pirq,
            allow_access,
            pad: [0; 3],
        };
        domctl(XEN_DOMCTL_IRQ_PERMISSION, &mut id, &mut op)
    };
    t.rc(ask(0, 1), -EPERM);
    t.rc(ask(1 << 20, 1), -EINVAL);
    // There is no IOMMU to put a device behind.
    let commands = [
        XEN_DOMCTL_ASSIGN_DEVICE,
        XEN_DOMCTL_TEST_ASSIGN_DEVICE,
        XEN_DOMCTL_DEASSIGN_DEVICE,
    ];
    for command in commands {
        t.rc(domctl(command, &mut id, &mut [0_u64; 4]), -EOPNOTSUPP);
    }
    gone(t, id);
}

pub fn events(t: &mut Test) {
    let mut id = domain(t);
    let give = |id: &mut u16, virq| {
        let mut op = XenDomctlSetVirqHandler { virq };
        domctl(XEN_DOMCTL_SET_VIRQ_HANDLER, id, &mut op)
    };
    for virq in [NR_VIRQS, VIRQ_TIMER, VIRQ_DEBUG] {
        t.rc(give(&mut id, virq), -EINVAL);
    }
    t.rc(give(&mut id, VIRQ_DEBUGGER), 0);
    t.rc(give(&mut id, VIRQ_DEBUGGER), 0);
    t.rc(give(&mut 77, VIRQ_DEBUGGER), -ESRCH);
    let mut port = XenDomctlSubscribe { port: 3 };
    t.rc(domctl(XEN_DOMCTL_SUBSCRIBE, &mut id, &mut port), 0);
    // It is no HVM domain, and nobody resets itself.
    for mut id in [id, 0] {
        t.rc(domctl(XEN_DOMCTL_SOFT_RESET, &mut id, &mut 0_u64), -EINVAL);
    }
    gone(t, id);
}
