//! The machine: CPUs, memory, features.

use super::{Call, Error, Request};
use crate::addr::{CpuId, GuestVa};
use crate::arch::machine;
use crate::domain::cpuid::policy;
use crate::domain::notify::SCHEDULER;
use crate::hypercall::cpu_policy;
use crate::mm::host;
use crate::time;
use xen_abi::sysctl as abi;

/// The largest node there could be. Source: Xen 4.17, `MAX_NUMNODES`.
const LAST_NODE: u32 = 63;
/// The last of `XEN_SYSCTL_cpu_featureset_*`.
const LAST_FEATURESET: u32 = 5;
/// The last of `XEN_SYSCTL_cpu_policy_*`.
const LAST_POLICY: u32 = 5;

fn cpus() -> u32 {
    u32::try_from(machine::cpu_count()).unwrap_or(u32::MAX)
}

/// `physinfo`.
pub(super) fn physinfo(request: &mut Request) {
    let mm = host::get();
    let cpus = cpus();
    let word = |leaf, n: usize| machine::cpuid(leaf, 0)[n];
    request.set_body(&abi::XenSysctlPhysinfo {
        threads_per_core: 1,
        cores_per_socket: cpus,
        nr_cpus: cpus,
        max_cpu_id: cpus.saturating_sub(1),
        nr_nodes: 1,
        max_node_id: LAST_NODE,
        cpu_khz: time::tsc_khz(),
        capabilities: abi::XEN_SYSCTL_PHYSCAP_PV | abi::XEN_SYSCTL_PHYSCAP_GNTTAB_V1,
        arch_capabilities: 0,
        pad: 0,
        total_pages: mm.alloc.total_frames(),
        free_pages: mm.free_for_domains(),
        scrub_pages: 0,
        outstanding_pages: mm.claimed(),
        max_mfn: mm.frames.limit() - 1,
        hw_cap: [
            word(1, 3),
            word(1, 2),
            word(0x8000_0001, 3),
            word(0x8000_0001, 2),
            machine::cpuid(0xd, 1)[0],
            word(7, 1),
            word(7, 2),
            word(0x8000_0007, 3),
        ],
    });
}

/// `cputopoinfo`: without a list, how many CPUs there are.
///
/// `EFAULT`.
pub(super) fn topology(call: &Call<'_>, request: &mut Request) -> Result<(), Error> {
    let mut op: abi::XenSysctlCputopoinfo = request.body();
    let count = cpus();
    if op.cputopo != 0 {
        for n in 0..count.min(op.num_cpus) {
            let entry = abi::XenSysctlCputopo {
                core: n,
                socket: 0,
                node: 0,
            };
            let size = size_of::<abi::XenSysctlCputopo>() as u64;
            call.guest()
                .write(GuestVa(op.cputopo).add(u64::from(n) * size), &entry)?;
        }
        op.num_cpus = count.min(op.num_cpus);
    } else {
        op.num_cpus = count;
    }
    request.set_body(&op);
    Ok(())
}

/// `numainfo`: one node.
///
/// `EFAULT`.
pub(super) fn nodes(call: &Call<'_>, request: &mut Request) -> Result<(), Error> {
    /// Distance of a node to itself. Source: ACPI 6.4, 5.2.17.
    const LOCAL: u32 = 10;
    let mut op: abi::XenSysctlNumainfo = request.body();
    let mm = host::get();
    let sizes_only = op.meminfo == 0 && op.distance == 0;
    let room = op.num_nodes;
    if op.meminfo != 0 && room > 0 {
        let info = abi::XenSysctlMeminfo {
            memsize: mm.alloc.total_frames() << 12,
            memfree: mm.free_for_domains() << 12,
        };
        call.guest().write(GuestVa(op.meminfo), &info)?;
    }
    if op.distance != 0 && room > 0 {
        call.guest().write(GuestVa(op.distance), &LOCAL)?;
    }
    op.num_nodes = if sizes_only { 1 } else { room.min(1) };
    request.set_body(&op);
    Ok(())
}

/// `pcitopoinfo`: nobody says of a device which node it is near. Tools ask again for what is
/// left of a long list.
///
/// `EINVAL`: no list. `EFAULT`.
pub(super) fn pci(call: &Call<'_>, request: &mut Request) -> Result<(), Error> {
    /// Devices answered for in one call. Source: Xen 4.17 looks for interrupts after as many.
    const MOST: u32 = 64;
    let mut op: abi::XenSysctlPcitopoinfo = request.body();
    if op.devs == 0 || op.nodes == 0 {
        return Err(Error::Invalid);
    }
    op.num_devs = op.num_devs.min(MOST);
    for n in 0..op.num_devs {
        let at = GuestVa(op.nodes).add(u64::from(n) * 4);
        call.guest().write(at, &abi::XEN_INVALID_NODE_ID)?;
    }
    request.set_body(&op);
    Ok(())
}

/// `getcpuinfo`.
///
/// `EFAULT`.
pub(super) fn idle(call: &Call<'_>, request: &mut Request) -> Result<(), Error> {
    let mut op: abi::XenSysctlGetcpuinfo = request.body();
    op.nr_cpus = cpus().min(op.max_cpus);
    for n in 0..op.nr_cpus {
        let at = GuestVa(op.info).add(u64::from(n) * 8);
        let idle = SCHEDULER.idle_time(CpuId(n as u16), time::now());
        call.guest().write(at, &idle)?;
    }
    request.set_body(&op);
    Ok(())
}

/// `availheap`.
pub(super) fn free_memory(request: &mut Request) {
    let mut op: abi::XenSysctlAvailheap = request.body();
    op.avail_bytes = host::get().free_for_domains() << 12;
    request.set_body(&op);
}

/// `get_cpu_featureset`: the same for every kind of guest. Who has too little room gets what
/// fits, and is told.
///
/// `EINVAL`: no such set. `EFAULT`; `ENOBUFS`: too little room.
pub(super) fn features(call: &Call<'_>, request: &mut Request) -> Result<Fit, Error> {
    let mut op: abi::XenSysctlCpuFeatureset = request.body();
    let words = cpu_policy::features();
    if op.features == 0 {
        op.nr_features = words.len() as u32;
        request.set_body(&op);
        return Ok(Fit::All);
    }
    if op.index > LAST_FEATURESET {
        return Err(Error::Invalid);
    }
    let count = words.len().min(op.nr_features as usize);
    for (n, word) in words[..count].iter().enumerate() {
        let at = GuestVa(op.features).add(n as u64 * 4);
        call.guest().write(at, word)?;
    }
    op.nr_features = count as u32;
    request.set_body(&op);
    Ok(if count < words.len() {
        Fit::Part
    } else {
        Fit::All
    })
}

/// Whether the caller had room for all of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// Yes.
    All,
    /// No: it gets a part, and an error.
    Part,
}

/// `get_cpu_policy`: the same for every kind of guest.
///
/// `EINVAL`: no such policy. `EFAULT`; `ENOBUFS`: too little room.
pub(super) fn cpu_policy(call: &Call<'_>, request: &mut Request) -> Result<(), Error> {
    let mut op: abi::XenSysctlCpuPolicy = request.body();
    if op.index > LAST_POLICY {
        return Err(Error::Invalid);
    }
    let room = cpu_policy::Room {
        leaves: (op.leaves, op.nr_leaves),
        msrs: (op.msrs, op.nr_msrs),
    };
    (op.nr_leaves, op.nr_msrs) = cpu_policy::write(call, policy(), &room)?;
    request.set_body(&op);
    Ok(())
}
