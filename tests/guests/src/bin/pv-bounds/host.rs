//! What dom0 asks about the host.

use crate::row::{answers, row};
use test_guests::hypercall::{address_of, call};
use test_guests::memory::Page;
use xen_abi::domctl::XenDomctlGetdomaininfo;
use xen_abi::sysctl::*;
use xen_abi::xen::HYPERVISOR_SYSCTL;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// Makes a `sysctl`; `body` goes in and comes out.
pub fn sysctl<T: IntoBytes + FromBytes + Immutable + KnownLayout>(cmd: u32, body: &mut T) -> i64 {
    let mut op = XenSysctl::new_zeroed();
    op.cmd = cmd;
    op.interface_version = XEN_SYSCTL_INTERFACE_VERSION;
    let size = size_of::<T>();
    op.u.as_mut_bytes()[..size].copy_from_slice(body.as_bytes());
    let rc = call(HYPERVISOR_SYSCTL, [address_of(&mut op), 0, 0, 0, 0]);
    body.as_mut_bytes()
        .copy_from_slice(&op.u.as_bytes()[..size]);
    rc
}

pub fn rows() {
    let pages: [Page; 16] = core::array::from_fn(|_| Page::take());
    let mut console = XenSysctlReadconsole::new_zeroed();
    console.buffer = pages[0].va();
    console.count = 16 * 4096;
    answers("sysctl readconsole of 64 KiB", 0, || {
        sysctl(XEN_SYSCTL_READCONSOLE, &mut console)
    });
    answers("sysctl physinfo", 0, || {
        sysctl(XEN_SYSCTL_PHYSINFO, &mut XenSysctlPhysinfo::new_zeroed())
    });
    let mut topology = XenSysctlCputopoinfo::new_zeroed();
    topology.num_cpus = 1024;
    topology.cputopo = pages[0].va();
    answers("sysctl cputopoinfo", 0, || {
        sysctl(XEN_SYSCTL_CPUTOPOINFO, &mut topology)
    });
    let mut idle = XenSysctlGetcpuinfo::new_zeroed();
    idle.max_cpus = 1024;
    idle.info = pages[0].va();
    answers("sysctl getcpuinfo", 0, || {
        sysctl(XEN_SYSCTL_GETCPUINFO, &mut idle)
    });
    let mut policy = XenSysctlCpuPolicy::new_zeroed();
    policy.index = XEN_SYSCTL_CPU_POLICY_PV_DEFAULT;
    row("sysctl get_cpu_policy", || {
        sysctl(XEN_SYSCTL_GET_CPU_POLICY, &mut policy) == 0
    });
    let mut heap = XenSysctlAvailheap::new_zeroed();
    heap.node = -1;
    answers("sysctl availheap", 0, || {
        sysctl(XEN_SYSCTL_AVAILHEAP, &mut heap)
    });
}

/// The list of all domains; how many there are.
pub fn list_domains() -> u32 {
    static LIST: List = List(core::cell::UnsafeCell::new([0; 1024 * 24]));
    struct List(core::cell::UnsafeCell<[u64; 1024 * 24]>);
    // SAFETY: one vCPU, and only the hypervisor writes to it.
    unsafe impl Sync for List {}
    let mut op = XenSysctlGetdomaininfolist::new_zeroed();
    op.max_domains = (1024 * 24 * 8 / size_of::<XenDomctlGetdomaininfo>()) as u32;
    op.buffer = LIST.0.get() as u64;
    sysctl(XEN_SYSCTL_GETDOMAININFOLIST, &mut op);
    op.num_domains
}
