//! Questions and knobs of the toolstack, asked by dom0 about the host and itself.

use crate::test::Test;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use test_guests::hypercall::{address_of, call};
use xen_abi::domctl::*;
use xen_abi::errno::*;
use xen_abi::oxen::*;
use xen_abi::sched::{SCHEDOP_PIN_OVERRIDE, SchedPinOverride};
use xen_abi::sysctl::*;
use xen_abi::xen::*;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// No hypervisor maps this for its guests.
const NOWHERE: u64 = 0xffff_8280_0000_0000;

/// Makes a `sysctl`; `body` goes in and comes out.
pub(super) fn sysctl<T: IntoBytes + FromBytes + Immutable + KnownLayout>(
    cmd: u32,
    body: &mut T,
) -> i64 {
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

/// Makes a `domctl` about `domain`, whose number may change too.
pub(super) fn domctl<T: IntoBytes + FromBytes + Immutable + KnownLayout>(
    cmd: u32,
    domain: &mut u16,
    body: &mut T,
) -> i64 {
    let mut op = XenDomctl::new_zeroed();
    op.cmd = cmd;
    op.interface_version = XEN_DOMCTL_INTERFACE_VERSION;
    op.domain = *domain;
    let size = size_of::<T>();
    op.u.as_mut_bytes()[..size].copy_from_slice(body.as_bytes());
    let rc = call(HYPERVISOR_DOMCTL, [address_of(&mut op), 0, 0, 0, 0]);
    *domain = op.domain;
    body.as_mut_bytes()
        .copy_from_slice(&op.u.as_bytes()[..size]);
    rc
}

pub fn host(t: &mut Test) {
    let mut info = XenSysctlPhysinfo::new_zeroed();
    t.rc(sysctl(XEN_SYSCTL_PHYSINFO, &mut info), 0);
    t.eq(info.nr_nodes, 1);
    // The largest there could be.
    t.eq(info.max_node_id, 63);
    t.eq(info.max_cpu_id, info.nr_cpus - 1);
    t.yes(info.capabilities & XEN_SYSCTL_PHYSCAP_PV != 0);
    t.yes(info.capabilities & XEN_SYSCTL_PHYSCAP_GNTTAB_V1 != 0);
    t.yes(info.free_pages > 0 && info.free_pages < info.total_pages);
    t.yes(info.cpu_khz > 10_000 && info.max_mfn > 0);
    let mut heap = XenSysctlAvailheap::new_zeroed();
    heap.node = -1;
    t.rc(sysctl(XEN_SYSCTL_AVAILHEAP, &mut heap), 0);
    t.yes(heap.avail_bytes > 0 && heap.avail_bytes % 4096 == 0);
    let mut keys = XenSysctlDebugKeys::new_zeroed();
    t.rc(sysctl(XEN_SYSCTL_DEBUG_KEYS, &mut keys), 0);
    keys.nr_keys = 1;
    keys.keys = NOWHERE;
    t.rc(sysctl(XEN_SYSCTL_DEBUG_KEYS, &mut keys), -EFAULT);
}

pub fn console(t: &mut Test) {
    let mut text = [0_u8; 64];
    let mut op = XenSysctlReadconsole::new_zeroed();
    op.buffer = address_of(&mut text);
    op.count = 64;
    t.rc(sysctl(XEN_SYSCTL_READCONSOLE, &mut op), 0);
    t.eq(op.count, 64);
    let first = text;
    // From there on, and once more from the beginning.
    let start = op.index - 64;
    op.incremental = 1;
    op.count = 8;
    t.rc(sysctl(XEN_SYSCTL_READCONSOLE, &mut op), 0);
    t.eq(op.count, 8);
    op.index = start;
    op.count = 64;
    t.rc(sysctl(XEN_SYSCTL_READCONSOLE, &mut op), 0);
    t.yes(text == first);
    op.count = 0;
    t.rc(sysctl(XEN_SYSCTL_READCONSOLE, &mut op), 0);
    t.eq(op.count, 0);
    op.count = 4;
    op.buffer = NOWHERE;
    t.rc(sysctl(XEN_SYSCTL_READCONSOLE, &mut op), -EFAULT);
}

pub fn topology(t: &mut Test) {
    let mut op = XenSysctlCputopoinfo::new_zeroed();
    t.rc(sysctl(XEN_SYSCTL_CPUTOPOINFO, &mut op), 0);
    let cpus = op.num_cpus;
    t.yes(cpus > 0 && cpus < 64);
    let mut list = [XenSysctlCputopo::new_zeroed(); 64];
    op.num_cpus = 64;
    op.cputopo = list.as_mut_ptr() as u64;
    t.rc(sysctl(XEN_SYSCTL_CPUTOPOINFO, &mut op), 0);
    t.eq(op.num_cpus, cpus);
    t.eq(list[0].core, 0);
    op.num_cpus = 0;
    t.rc(sysctl(XEN_SYSCTL_CPUTOPOINFO, &mut op), 0);
    t.eq(op.num_cpus, 0);
    let mut nodes = XenSysctlNumainfo::new_zeroed();
    t.rc(sysctl(XEN_SYSCTL_NUMAINFO, &mut nodes), 0);
    t.eq(nodes.num_nodes, 1);
    let mut memory = XenSysctlMeminfo::new_zeroed();
    let mut distance = 0_u32;
    nodes.meminfo = address_of(&mut memory);
    nodes.distance = address_of(&mut distance);
    t.rc(sysctl(XEN_SYSCTL_NUMAINFO, &mut nodes), 0);
    t.yes(memory.memfree > 0 && memory.memfree < memory.memsize);
    t.eq(distance, 10);
    nodes.num_nodes = 0;
    t.rc(sysctl(XEN_SYSCTL_NUMAINFO, &mut nodes), 0);
    t.eq(nodes.num_nodes, 0);
    let mut pci = XenSysctlPcitopoinfo::new_zeroed();
    t.rc(sysctl(XEN_SYSCTL_PCITOPOINFO, &mut pci), -EINVAL);
    let mut idle = [0_u64; 64];
    let mut op = XenSysctlGetcpuinfo::new_zeroed();
    op.max_cpus = 1;
    op.info = idle.as_mut_ptr() as u64;
    t.rc(sysctl(XEN_SYSCTL_GETCPUINFO, &mut op), 0);
    t.eq(op.nr_cpus, 1);
    op.info = NOWHERE;
    t.rc(sysctl(XEN_SYSCTL_GETCPUINFO, &mut op), -EFAULT);
}

pub fn pools(t: &mut Test) {
    let mut scheduler = XenSysctlSchedId::new_zeroed();
    t.rc(sysctl(XEN_SYSCTL_SCHED_ID, &mut scheduler), 0);
    let mut map = 0_u64;
    let mut op = XenSysctlCpupoolOp::new_zeroed();
    op.op = XEN_SYSCTL_CPUPOOL_OP_INFO;
    op.cpumap.bitmap = address_of(&mut map);
    op.cpumap.nr_bits = 64;
    t.rc(sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), 0);
    t.eq((op.cpupool_id, op.sched_id).0, 0);
    t.eq(op.sched_id, scheduler.sched_id);
    t.eq(op.n_dom, 1);
    t.yes(map & 1 == 1);
    op.cpupool_id = 1;
    t.rc(sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), -ENOENT);
    op.op = XEN_SYSCTL_CPUPOOL_OP_FREEINFO;
    t.rc(sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), 0);
    t.eq(map, 0);
    op.op = XEN_SYSCTL_CPUPOOL_OP_DESTROY;
    t.rc(sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), -ENOENT);
    op.cpupool_id = 0;
    t.rc(sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), -EBUSY);
    // Nobody moves itself, not even to where it is.
    op.op = XEN_SYSCTL_CPUPOOL_OP_MOVEDOMAIN;
    t.rc(sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), -EPERM);
    op.domid = 77;
    t.rc(sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), -ESRCH);
    op.domid = 0;
    op.cpupool_id = 5;
    t.rc(sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), -EPERM);
    op.op = 99;
    t.rc(sysctl(XEN_SYSCTL_CPUPOOL_OP, &mut op), -ENOSYS);
    let mut knobs = XenSysctlSchedulerOp::new_zeroed();
    knobs.sched_id = scheduler.sched_id;
    knobs.cmd = XEN_SYSCTL_SCHEDOP_GETINFO;
    t.rc(sysctl(XEN_SYSCTL_SCHEDULER_OP, &mut knobs), 0);
    knobs.cpupool_id = 3;
    t.rc(sysctl(XEN_SYSCTL_SCHEDULER_OP, &mut knobs), -ESRCH);
    knobs.cpupool_id = 0;
    knobs.sched_id = 99;
    t.rc(sysctl(XEN_SYSCTL_SCHEDULER_OP, &mut knobs), -EINVAL);
    knobs.sched_id = scheduler.sched_id;
    knobs.cmd = 2;
    t.rc(sysctl(XEN_SYSCTL_SCHEDULER_OP, &mut knobs), -EINVAL);
    if scheduler.sched_id != XEN_SCHEDULER_CREDIT {
        // Others have other knobs.
        return;
    }
    knobs.cmd = XEN_SYSCTL_SCHEDOP_PUTINFO;
    knobs.sched_credit = XenSysctlCreditSchedule::new_zeroed();
    knobs.sched_credit.ratelimit_us = 99;
    t.rc(sysctl(XEN_SYSCTL_SCHEDULER_OP, &mut knobs), -EINVAL);
}

pub fn features(t: &mut Test) {
    let mut op = XenSysctlCpuFeatureset::new_zeroed();
    op.index = XEN_SYSCTL_CPU_FEATURESET_PV;
    t.rc(sysctl(XEN_SYSCTL_GET_CPU_FEATURESET, &mut op), 0);
    t.yes(op.nr_features >= 14);
    let mut words = [0_u32; 32];
    op.features = words.as_mut_ptr() as u64;
    op.nr_features = 2;
    t.rc(sysctl(XEN_SYSCTL_GET_CPU_FEATURESET, &mut op), -ENOBUFS);
    t.eq(op.nr_features, 2);
    // FPU and SYSCALL's like are in any 64-bit CPU.
    t.yes(words[0] & 1 == 1);
    op.nr_features = 32;
    t.rc(sysctl(XEN_SYSCTL_GET_CPU_FEATURESET, &mut op), 0);
    t.yes(op.nr_features < 32);
    op.index = 99;
    t.rc(sysctl(XEN_SYSCTL_GET_CPU_FEATURESET, &mut op), -EINVAL);
    let mut policy = XenSysctlCpuPolicy::new_zeroed();
    policy.index = XEN_SYSCTL_CPU_POLICY_PV_DEFAULT;
    t.rc(sysctl(XEN_SYSCTL_GET_CPU_POLICY, &mut policy), 0);
    t.yes(policy.nr_leaves > 10);
    policy.index = 99;
    t.rc(sysctl(XEN_SYSCTL_GET_CPU_POLICY, &mut policy), -EINVAL);
}

pub fn domains(t: &mut Test) {
    let mut list = [XenDomctlGetdomaininfo::new_zeroed(); 4];
    let mut op = XenSysctlGetdomaininfolist::new_zeroed();
    op.max_domains = 4;
    op.buffer = list.as_mut_ptr() as u64;
    t.rc(sysctl(XEN_SYSCTL_GETDOMAININFOLIST, &mut op), 0);
    t.eq(op.num_domains, 1);
    t.eq(list[0].domain, 0);
    t.yes(list[0].tot_pages > 0 && list[0].cpu_time > 0);
    op.first_domain = 1;
    t.rc(sysctl(XEN_SYSCTL_GETDOMAININFOLIST, &mut op), 0);
    t.eq(op.num_domains, 0);
    let (mut id, mut info) = (0, list[0]);
    t.rc(domctl(XEN_DOMCTL_GETDOMAININFO, &mut id, &mut info), 0);
    let state = XEN_DOMINF_DYING
        | XEN_DOMINF_SHUTDOWN
        | XEN_DOMINF_PAUSED
        | XEN_DOMINF_BLOCKED
        | XEN_DOMINF_RUNNING
        | XEN_DOMINF_DEBUGGED
        | XEN_DOMINF_XS_DOMAIN;
    t.eq(info.flags & state, XEN_DOMINF_RUNNING);
    t.eq(info.nr_online_vcpus, 1);
    t.eq(
        u64::from(info.cpupool) | info.shr_pages | info.paged_pages,
        0,
    );
    id = 1;
    t.rc(domctl(XEN_DOMCTL_GETDOMAININFO, &mut id, &mut info), -ESRCH);
    let mut vcpu = XenDomctlGetvcpuinfo::new_zeroed();
    id = 0;
    t.rc(domctl(XEN_DOMCTL_GETVCPUINFO, &mut id, &mut vcpu), 0);
    t.eq((vcpu.online, vcpu.blocked, vcpu.running).0, 1);
    t.eq(vcpu.blocked, 0);
    t.eq(vcpu.running, 1);
    vcpu.vcpu = 5000;
    t.rc(domctl(XEN_DOMCTL_GETVCPUINFO, &mut id, &mut vcpu), -EINVAL);
}

pub fn affinity(t: &mut Test) {
    let mut id = 0;
    let (hard, soft) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut op = XenDomctlVcpuaffinity::new_zeroed();
    t.rc(
        domctl(XEN_DOMCTL_GETVCPUAFFINITY, &mut id, &mut op),
        -EINVAL,
    );
    op.flags = XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT;
    t.rc(
        domctl(XEN_DOMCTL_GETVCPUAFFINITY, &mut id, &mut op),
        -EINVAL,
    );
    op.cpumap_hard.bitmap = hard.as_ptr() as u64;
    op.cpumap_hard.nr_bits = 64;
    op.cpumap_soft.bitmap = soft.as_ptr() as u64;
    op.cpumap_soft.nr_bits = 64;
    t.rc(domctl(XEN_DOMCTL_GETVCPUAFFINITY, &mut id, &mut op), 0);
    t.yes(hard.load(Relaxed) & soft.load(Relaxed) & 1 == 1);
    // A soft affinity of CPUs there are not is a wish; a hard one is an error.
    op.flags = XEN_VCPUAFFINITY_SOFT;
    soft.store(0, Relaxed);
    t.rc(domctl(XEN_DOMCTL_SETVCPUAFFINITY, &mut id, &mut op), 0);
    op.flags = XEN_VCPUAFFINITY_HARD;
    hard.store(0, Relaxed);
    t.rc(
        domctl(XEN_DOMCTL_SETVCPUAFFINITY, &mut id, &mut op),
        -EINVAL,
    );
    hard.store(1, Relaxed);
    t.rc(domctl(XEN_DOMCTL_SETVCPUAFFINITY, &mut id, &mut op), 0);
    t.eq(hard.load(Relaxed), 1);
    hard.store(0, Relaxed);
    t.rc(domctl(XEN_DOMCTL_GETVCPUAFFINITY, &mut id, &mut op), 0);
    t.eq(hard.load(Relaxed), 1);
    hard.store(!0, Relaxed);
    soft.store(!0, Relaxed);
    op.flags = XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT;
    t.rc(domctl(XEN_DOMCTL_SETVCPUAFFINITY, &mut id, &mut op), 0);
    op.vcpu = 5000;
    t.rc(
        domctl(XEN_DOMCTL_GETVCPUAFFINITY, &mut id, &mut op),
        -EINVAL,
    );
}

/// Runs on each CPU there is in turn.
pub fn every_cpu(t: &mut Test) {
    const WORDS: usize = 16;
    fn pin(cpu: u32) -> i64 {
        let mut op = SchedPinOverride::new_zeroed();
        op.pcpu = cpu.cast_signed();
        let args = [SCHEDOP_PIN_OVERRIDE.into(), address_of(&mut op), 0, 0, 0];
        call(HYPERVISOR_SCHED_OP, args)
    }
    let map = [const { AtomicU64::new(0) }; WORDS];
    let mut host = XenSysctlPhysinfo::new_zeroed();
    t.rc(sysctl(XEN_SYSCTL_PHYSINFO, &mut host), 0);
    let (mut id, mut vcpu) = (0, XenDomctlGetvcpuinfo::new_zeroed());
    let mut op = XenDomctlVcpuaffinity::new_zeroed();
    op.flags = XEN_VCPUAFFINITY_HARD;
    op.cpumap_hard.bitmap = map.as_ptr() as u64;
    op.cpumap_hard.nr_bits = WORDS as u32 * 64;
    t.rc(pin(u32::MAX), -EINVAL);
    t.rc(domctl(XEN_DOMCTL_GETVCPUAFFINITY, &mut id, &mut op), 0);
    let before: [u64; WORDS] = core::array::from_fn(|n| map[n].load(Relaxed));
    for cpu in 0..host.nr_cpus {
        t.rc(pin(cpu), 0);
        t.rc(pin(cpu), -EBUSY);
        t.rc(domctl(XEN_DOMCTL_GETVCPUINFO, &mut id, &mut vcpu), 0);
        t.eq(vcpu.cpu, cpu);
        t.rc(domctl(XEN_DOMCTL_GETVCPUAFFINITY, &mut id, &mut op), 0);
        for (n, word) in map.iter().enumerate() {
            let own = n == cpu as usize / 64;
            t.eq(word.load(Relaxed), u64::from(own) << (cpu % 64));
        }
        t.rc(domctl(XEN_DOMCTL_SETVCPUAFFINITY, &mut id, &mut op), -EBUSY);
        t.rc(pin(u32::MAX), 0);
    }
    t.rc(pin(u32::MAX), -EINVAL);
    t.rc(pin(host.nr_cpus), -EINVAL);
    t.rc(domctl(XEN_DOMCTL_GETVCPUAFFINITY, &mut id, &mut op), 0);
    for (word, before) in map.iter().zip(before) {
        t.eq(word.load(Relaxed), before);
    }
}

pub fn processor(t: &mut Test) {
    let mut id = 0;
    let mut size = XenDomctlAddressSize::new_zeroed();
    t.rc(domctl(XEN_DOMCTL_GET_ADDRESS_SIZE, &mut id, &mut size), 0);
    t.eq(size.size, 64);
    // What the caller itself sees is not for it to change.
    let mut tsc = XenDomctlTscInfo::new_zeroed();
    t.rc(domctl(XEN_DOMCTL_SETTSCINFO, &mut id, &mut tsc), -EINVAL);
    t.rc(domctl(XEN_DOMCTL_GETTSCINFO, &mut id, &mut tsc), -EINVAL);
    let mut policy = XenDomctlCpuPolicy::new_zeroed();
    t.rc(
        domctl(XEN_DOMCTL_SET_CPU_POLICY, &mut id, &mut policy),
        -EINVAL,
    );
    let mut scheduler = XenSysctlSchedId::new_zeroed();
    t.rc(sysctl(XEN_SYSCTL_SCHED_ID, &mut scheduler), 0);
    let mut op = XenDomctlSchedulerOp::new_zeroed();
    op.sched_id = scheduler.sched_id;
    op.cmd = XEN_DOMCTL_SCHEDOP_GETINFO;
    t.rc(domctl(XEN_DOMCTL_SCHEDULER_OP, &mut id, &mut op), 0);
    t.eq(op.credit.weight, 256);
    op.sched_id = 99;
    t.rc(domctl(XEN_DOMCTL_SCHEDULER_OP, &mut id, &mut op), -EINVAL);
}

/// Oxen's own questions: absent, or right.
pub fn oxen(t: &mut Test) {
    let mut stats = [OxenDomainStats::default(); 2];
    let mut op = OxenStats::new_zeroed();
    op.version = OXEN_VERSION;
    op.room = 2;
    op.buffer = stats.as_mut_ptr() as u64;
    let rc = sysctl(OXEN_SYSCTL_STATS, &mut op);
    if rc == -ENOSYS {
        let mut audit = OxenAudit::new_zeroed();
        t.rc(sysctl(OXEN_SYSCTL_AUDIT, &mut audit), -ENOSYS);
        return;
    }
    t.rc(rc, 0);
    t.eq(op.count, 1);
    let before = stats[0];
    t.yes(before.run_time > 0 && before.pages > 0 && before.vcpus == 1);
    // Something to count, and something to record: a domain there is not is paused.
    let (mut id, mut nothing) = (77, 0_u64);
    t.rc(
        domctl(XEN_DOMCTL_PAUSEDOMAIN, &mut id, &mut nothing),
        -ESRCH,
    );
    t.rc(sysctl(OXEN_SYSCTL_STATS, &mut op), 0);
    t.yes(stats[0].hypercalls > before.hypercalls);
    t.yes(stats[0].run_time >= before.run_time);
    let mut records = [OxenAuditRecord::default(); 8];
    let mut audit = OxenAudit::new_zeroed();
    audit.version = OXEN_VERSION;
    audit.room = 8;
    audit.buffer = records.as_mut_ptr() as u64;
    let mut last = OxenAuditRecord::default();
    loop {
        t.rc(sysctl(OXEN_SYSCTL_AUDIT, &mut audit), 0);
        let count = audit.count as usize;
        if count == 0 || count > records.len() {
            break;
        }
        last = records[count - 1];
    }
    t.eq((last.subject, last.target).1, 77);
    t.eq(last.subject, 0);
    t.eq(u64::from(last.hypercall), HYPERVISOR_DOMCTL);
    t.eq(last.command, XEN_DOMCTL_PAUSEDOMAIN);
    t.rc(last.result.into(), -ESRCH);
    op.version = OXEN_VERSION + 1;
    t.rc(sysctl(OXEN_SYSCTL_STATS, &mut op), -EACCES);
    audit.version = 0;
    t.rc(sysctl(OXEN_SYSCTL_AUDIT, &mut audit), -EACCES);
}
