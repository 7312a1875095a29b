//! vCPUs: what they do, and where they run.

use xen_abi::domctl::{
    XEN_DOMCTL_GETVCPUAFFINITY, XEN_DOMCTL_GETVCPUINFO, XEN_DOMCTL_SETVCPUAFFINITY,
    XEN_VCPUAFFINITY_FORCE, XEN_VCPUAFFINITY_HARD, XEN_VCPUAFFINITY_SOFT, XenDomctlGetvcpuinfo,
    XenDomctlVcpuaffinity, XenctlBitmap,
};
use zerocopy::FromZeros;

use super::cpus::bitmap_bytes;
use super::{CpuSet, Result, Xen};
use crate::sys::{DomId, Vcpu};

/// What a vCPU does and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VcpuInfo {
    /// It is up.
    pub online: bool,
    /// It waits.
    pub blocked: bool,
    /// It is on a CPU.
    pub running: bool,
    /// Nanoseconds it ran.
    pub cpu_time: u64,
    /// The CPU it is, or was last, on.
    pub cpu: u32,
}

/// Where a vCPU runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affinity {
    /// CPUs it may run on.
    pub hard: CpuSet,
    /// CPUs it should run on.
    pub soft: CpuSet,
}

/// CPUs asked about; no host of version 4.17 has more.
const MOST_CPUS: u32 = 4096;

impl Xen {
    /// What a vCPU does and did.
    ///
    /// # Errors
    /// `ESRCH`: the domain has no such vCPU.
    pub fn vcpu_info(&self, domain: DomId, vcpu: Vcpu) -> Result<VcpuInfo> {
        let mut call = self.domctl("look at a vCPU of", XEN_DOMCTL_GETVCPUINFO, domain, &[])?;
        let mut argument = XenDomctlGetvcpuinfo::new_zeroed();
        argument.vcpu = vcpu.0;
        let back = call.run(&argument)?;
        Ok(VcpuInfo {
            online: back.online != 0,
            blocked: back.blocked != 0,
            running: back.running != 0,
            cpu_time: back.cpu_time,
            cpu: back.cpu,
        })
    }

    /// Where a vCPU runs.
    ///
    /// # Errors
    /// `EINVAL`: the domain has no such vCPU.
    pub fn affinity(&self, domain: DomId, vcpu: Vcpu) -> Result<Affinity> {
        let flags = XEN_VCPUAFFINITY_HARD | XEN_VCPUAFFINITY_SOFT;
        let empty = Affinity::default();
        let command = XEN_DOMCTL_GETVCPUAFFINITY;
        self.affinity_op("look at a vCPU of", command, domain, vcpu, flags, &empty)
    }

    /// Sets the CPUs a vCPU may run on, those it should run on, or both. Returns what came of it:
    /// CPUs that are absent are left out.
    ///
    /// `force` ends what the domain itself or a CPU's removal had set.
    ///
    /// # Errors
    /// `EINVAL`: no such vCPU, or no CPU is left.
    pub fn set_affinity(
        &self,
        domain: DomId,
        vcpu: Vcpu,
        hard: Option<&CpuSet>,
        soft: Option<&CpuSet>,
        force: bool,
    ) -> Result<Affinity> {
        let flag = |on: bool, flag: u32| if on { flag } else { 0 };
        let flags = flag(hard.is_some(), XEN_VCPUAFFINITY_HARD)
            | flag(soft.is_some(), XEN_VCPUAFFINITY_SOFT)
            | flag(force, XEN_VCPUAFFINITY_FORCE);
        let wanted = Affinity {
            hard: hard.cloned().unwrap_or_default(),
            soft: soft.cloned().unwrap_or_default(),
        };
        let command = XEN_DOMCTL_SETVCPUAFFINITY;
        self.affinity_op("pin a vCPU of", command, domain, vcpu, flags, &wanted)
    }

    fn affinity_op(
        &self,
        operation: &'static str,
        command: u32,
        domain: DomId,
        vcpu: Vcpu,
        flags: u32,
        sets: &Affinity,
    ) -> Result<Affinity> {
        let bytes = bitmap_bytes(MOST_CPUS);
        let mut call = self.domctl(operation, command, domain, &[bytes, bytes])?;
        let hard = call.buffer.put_all(&sets.hard.to_bitmap(MOST_CPUS));
        let soft = call.buffer.put_all(&sets.soft.to_bitmap(MOST_CPUS));
        let bitmap = |address| XenctlBitmap {
            bitmap: address,
            nr_bits: MOST_CPUS,
            _pad: 0,
        };
        call.run(&XenDomctlVcpuaffinity {
            vcpu: vcpu.0,
            flags,
            cpumap_hard: bitmap(hard.address()),
            cpumap_soft: bitmap(soft.address()),
        })?;
        Ok(Affinity {
            hard: CpuSet::from_bitmap(call.buffer.slot(hard)),
            soft: CpuSet::from_bitmap(call.buffer.slot(soft)),
        })
    }
}
