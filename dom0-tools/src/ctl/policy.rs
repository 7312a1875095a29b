//! What CPU a domain sees: CPUID, MSRs, the time stamp counter, its word size.

use xen_abi::domctl::{
    XEN_DOMCTL_GET_ADDRESS_SIZE, XEN_DOMCTL_GET_CPU_POLICY, XEN_DOMCTL_GETTSCINFO,
    XEN_DOMCTL_SET_ADDRESS_SIZE, XEN_DOMCTL_SET_CPU_POLICY, XEN_DOMCTL_SETTSCINFO, XenCpuidLeaf,
    XenDomctlAddressSize, XenDomctlCpuPolicy, XenDomctlTscInfo, XenMsrEntry,
};
use xen_abi::sysctl::{XEN_SYSCTL_GET_CPU_POLICY, XenSysctlCpuPolicy};
use zerocopy::FromZeros;

use super::call::{Subject, host};
use super::{Result, Xen};
use crate::sys::{Buffer, DomId};

/// CPUID leaves and MSRs a domain sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuPolicy {
    /// Answers of `cpuid`.
    pub leaves: Vec<XenCpuidLeaf>,
    /// Model-specific registers.
    pub msrs: Vec<XenMsrEntry>,
}

/// A policy of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum CpuPolicyKind {
    /// What the hardware has.
    Raw = 0,
    /// What the hypervisor uses.
    Host = 1,
    /// The most a PV guest may see.
    PvMax = 2,
    /// What a PV guest sees if nothing else is said.
    PvDefault = 4,
}

/// How a domain's time stamp counter behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TscInfo {
    /// 0: the hypervisor's choice, 1: always emulated, 2: native.
    pub mode: u32,
    /// Rate, kHz.
    pub khz: u32,
    /// How often the domain was moved.
    pub incarnation: u32,
    /// The domain's time, ns.
    pub elapsed: u64,
}

/// Most leaves and MSRs read; version 4.17 has about a hundred and a handful.
const MOST_ENTRIES: u32 = 4096;

/// A policy's arrays in a buffer.
fn lay_out(policy: &CpuPolicy, buffer: &mut Buffer) -> (u64, u64) {
    let leaves = buffer.put_all(&policy.leaves);
    (leaves.address(), buffer.put_all(&policy.msrs).address())
}

const fn bytes_of(leaves: u32, msrs: u32) -> [usize; 2] {
    [
        leaves as usize * size_of::<XenCpuidLeaf>(),
        msrs as usize * size_of::<XenMsrEntry>(),
    ]
}

impl Xen {
    /// A policy of the host.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: the hypervisor has no such policy.
    pub fn host_cpu_policy(&self, kind: CpuPolicyKind) -> Result<CpuPolicy> {
        let subject = host("read the host's CPU policy");
        let (leaves, msrs) = self.cpu_policy_size(subject, kind)?;
        let mut buffer = self.sysctl_buffer(subject, &bytes_of(leaves, msrs))?;
        let leaf_slot = buffer.put_all(&vec![XenCpuidLeaf::new_zeroed(); leaves as usize]);
        let msr_slot = buffer.put_all(&vec![XenMsrEntry::new_zeroed(); msrs as usize]);
        let argument = XenSysctlCpuPolicy {
            index: kind as u32,
            nr_leaves: leaves,
            nr_msrs: msrs,
            _rsvd: 0,
            leaves: leaf_slot.address(),
            msrs: msr_slot.address(),
        };
        let back = self.sysctl(subject, XEN_SYSCTL_GET_CPU_POLICY, &mut buffer, &argument)?;
        let mut policy = CpuPolicy {
            leaves: buffer.get_all(leaf_slot),
            msrs: buffer.get_all(msr_slot),
        };
        policy.leaves.truncate(back.nr_leaves as usize);
        policy.msrs.truncate(back.nr_msrs as usize);
        Ok(policy)
    }

    /// Most leaves and MSRs of a policy.
    fn cpu_policy_size(&self, subject: Subject, kind: CpuPolicyKind) -> Result<(u32, u32)> {
        let mut argument = XenSysctlCpuPolicy::new_zeroed();
        argument.index = kind as u32;
        let sizes = self.plain_sysctl(subject, XEN_SYSCTL_GET_CPU_POLICY, &argument)?;
        Ok((
            sizes.nr_leaves.min(MOST_ENTRIES),
            sizes.nr_msrs.min(MOST_ENTRIES),
        ))
    }

    /// What CPU a domain sees.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn cpu_policy(&self, domain: DomId) -> Result<CpuPolicy> {
        let subject = host("read the host's CPU policy");
        let (leaves, msrs) = self.cpu_policy_size(subject, CpuPolicyKind::Host)?;
        let mut call = self.domctl(
            "read the CPU policy of",
            XEN_DOMCTL_GET_CPU_POLICY,
            domain,
            &bytes_of(leaves, msrs),
        )?;
        let leaf_slot = call
            .buffer
            .put_all(&vec![XenCpuidLeaf::new_zeroed(); leaves as usize]);
        let msr_slot = call
            .buffer
            .put_all(&vec![XenMsrEntry::new_zeroed(); msrs as usize]);
        let mut argument = XenDomctlCpuPolicy::new_zeroed();
        argument.nr_leaves = leaves;
        argument.nr_msrs = msrs;
        argument.leaves = leaf_slot.address();
        argument.msrs = msr_slot.address();
        let back = call.run(&argument)?;
        let mut policy = CpuPolicy {
            leaves: call.buffer.get_all(leaf_slot),
            msrs: call.buffer.get_all(msr_slot),
        };
        policy.leaves.truncate(back.nr_leaves as usize);
        policy.msrs.truncate(back.nr_msrs as usize);
        Ok(policy)
    }

    /// Sets it; only before the domain first runs.
    ///
    /// # Errors
    /// `EINVAL`: the host cannot give that. `EEXIST`: the domain has run.
    pub fn set_cpu_policy(&self, domain: DomId, policy: &CpuPolicy) -> Result<()> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let (leaves, msrs) = (count(policy.leaves.len()), count(policy.msrs.len()));
        let mut call = self.domctl(
            "set the CPU policy of",
            XEN_DOMCTL_SET_CPU_POLICY,
            domain,
            &bytes_of(leaves, msrs),
        )?;
        let mut argument = XenDomctlCpuPolicy::new_zeroed();
        argument.nr_leaves = leaves;
        argument.nr_msrs = msrs;
        (argument.leaves, argument.msrs) = lay_out(policy, &mut call.buffer);
        call.run(&argument).map(drop)
    }

    /// How a domain's time stamp counter behaves.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn tsc_info(&self, domain: DomId) -> Result<TscInfo> {
        let mut call = self.domctl("read the clock of", XEN_DOMCTL_GETTSCINFO, domain, &[])?;
        let raw = call.run(&XenDomctlTscInfo::new_zeroed())?;
        Ok(TscInfo {
            mode: raw.tsc_mode,
            khz: raw.gtsc_khz,
            incarnation: raw.incarnation,
            elapsed: raw.elapsed_nsec,
        })
    }

    /// Sets it.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn set_tsc_info(&self, domain: DomId, info: &TscInfo) -> Result<()> {
        let mut call = self.domctl("set the clock of", XEN_DOMCTL_SETTSCINFO, domain, &[])?;
        call.run(&XenDomctlTscInfo {
            tsc_mode: info.mode,
            gtsc_khz: info.khz,
            incarnation: info.incarnation,
            pad: 0,
            elapsed_nsec: info.elapsed,
        })
        .map(drop)
    }

    /// A domain's word size, bits.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn address_size(&self, domain: DomId) -> Result<u32> {
        let operation = "read the word size of";
        let mut call = self.domctl(operation, XEN_DOMCTL_GET_ADDRESS_SIZE, domain, &[])?;
        Ok(call.run(&XenDomctlAddressSize { size: 0 })?.size)
    }

    /// Sets it; only before the domain has memory.
    ///
    /// # Errors
    /// `EINVAL`: the hypervisor has no such guests.
    pub fn set_address_size(&self, domain: DomId, bits: u32) -> Result<()> {
        let operation = "set the word size of";
        let mut call = self.domctl(operation, XEN_DOMCTL_SET_ADDRESS_SIZE, domain, &[])?;
        call.run(&XenDomctlAddressSize { size: bits }).map(drop)
    }
}
