//! Making, stopping and ending domains.

use xen_abi::domctl::{
    XEN_DOMCTL_CDF_XS_DOMAIN, XEN_DOMCTL_CREATEDOMAIN, XEN_DOMCTL_DESTROYDOMAIN,
    XEN_DOMCTL_GRANT_VERSION_MASK, XEN_DOMCTL_MAX_MEM, XEN_DOMCTL_MAX_VCPUS,
    XEN_DOMCTL_PAUSEDOMAIN, XEN_DOMCTL_RESUMEDOMAIN, XEN_DOMCTL_SENDTRIGGER,
    XEN_DOMCTL_SETDOMAINHANDLE, XEN_DOMCTL_SETTIMEOFFSET, XEN_DOMCTL_UNPAUSEDOMAIN,
    XenArchDomainconfig, XenDomctlCreatedomain, XenDomctlMaxMem, XenDomctlMaxVcpus,
    XenDomctlSendtrigger, XenDomctlSetdomainhandle, XenDomctlSettimeoffset,
};
use xen_abi::sched::{SCHEDOP_REMOTE_SHUTDOWN, SchedRemoteShutdown};
use xen_abi::xen::HYPERVISOR_SCHED_OP;
use zerocopy::FromZeros;

use super::call::on;
use super::{Result, ShutdownReason, Xen};
use crate::sys::{DomId, Vcpu};

/// What a new domain is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreateDomain {
    /// UUID.
    pub handle: [u8; 16],
    /// vCPUs it will have.
    pub vcpus: u32,
    /// Largest event channel port.
    pub max_evtchn_port: u32,
    /// Frames of its grant table; `None`: the hypervisor's choice.
    pub max_grant_frames: Option<u32>,
    /// Frames of its list of mapped grants; `None`: the hypervisor's choice.
    pub max_maptrack_frames: Option<u32>,
    /// Highest version of grant tables it may use (1 or 2).
    pub grant_version: u32,
    /// It serves xenstore.
    pub xenstore: bool,
    /// Reads of unknown MSRs do not fault.
    pub msr_relaxed: bool,
    /// CPU pool.
    pub cpupool: u32,
}

impl Default for CreateDomain {
    /// As `xl` has it.
    fn default() -> Self {
        Self {
            handle: [0; 16],
            vcpus: 1,
            max_evtchn_port: 1023,
            max_grant_frames: None,
            max_maptrack_frames: None,
            grant_version: 1,
            xenstore: false,
            msr_relaxed: false,
            cpupool: 0,
        }
    }
}

impl CreateDomain {
    fn abi(&self) -> XenDomctlCreatedomain {
        let limit =
            |frames: Option<u32>| frames.map_or(-1, |n| i32::try_from(n).unwrap_or(i32::MAX));
        XenDomctlCreatedomain {
            ssidref: 0,
            handle: self.handle,
            flags: if self.xenstore {
                XEN_DOMCTL_CDF_XS_DOMAIN
            } else {
                0
            },
            iommu_opts: 0,
            max_vcpus: self.vcpus,
            max_evtchn_port: self.max_evtchn_port,
            max_grant_frames: limit(self.max_grant_frames),
            max_maptrack_frames: limit(self.max_maptrack_frames),
            grant_opts: self.grant_version & XEN_DOMCTL_GRANT_VERSION_MASK,
            vmtrace_size: 0,
            cpupool_id: self.cpupool,
            arch: XenArchDomainconfig {
                emulation_flags: 0,
                misc_flags: u32::from(self.msr_relaxed),
            },
        }
    }
}

impl Xen {
    /// Makes a domain, paused, without vCPUs and memory. `id` asks for a number.
    ///
    /// # Errors
    /// `EEXIST`: the number is taken. `ENOMEM`. `EINVAL`: a parameter beyond its limits.
    pub fn create_domain(&self, id: Option<DomId>, params: &CreateDomain) -> Result<DomId> {
        let wanted = id.unwrap_or(DomId::DOM0);
        let mut call = self.domctl("create", XEN_DOMCTL_CREATEDOMAIN, wanted, &[])?;
        call.run(&params.abi())?;
        Ok(call.domain())
    }

    /// Gives a new domain its vCPUs: as many as it was made for.
    ///
    /// # Errors
    /// `EINVAL`: another number. `ENOMEM`.
    pub fn set_max_vcpus(&self, domain: DomId, vcpus: u32) -> Result<()> {
        let mut call = self.domctl("make the vCPUs of", XEN_DOMCTL_MAX_VCPUS, domain, &[])?;
        call.run(&XenDomctlMaxVcpus { max: vcpus }).map(drop)
    }

    /// How much memory a domain may have, in KiB.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn set_max_memory(&self, domain: DomId, kib: u64) -> Result<()> {
        let mut call = self.domctl("limit the memory of", XEN_DOMCTL_MAX_MEM, domain, &[])?;
        call.run(&XenDomctlMaxMem { max_memkb: kib }).map(drop)
    }

    /// Stops a domain's vCPUs until as many calls of [`Xen::unpause`].
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn pause(&self, domain: DomId) -> Result<()> {
        self.domctl("pause", XEN_DOMCTL_PAUSEDOMAIN, domain, &[])?
            .run_bare()
    }

    /// Takes one pause back.
    ///
    /// # Errors
    /// `ESRCH`. `EINVAL`: it is not paused.
    pub fn unpause(&self, domain: DomId) -> Result<()> {
        self.domctl("unpause", XEN_DOMCTL_UNPAUSEDOMAIN, domain, &[])?
            .run_bare()
    }

    /// Ends a domain and frees what it has. It stays as a dying one while others map its memory.
    ///
    /// # Errors
    /// `ESRCH`: there is none, or none any more.
    pub fn destroy(&self, domain: DomId) -> Result<()> {
        loop {
            let mut call = self.domctl("destroy", XEN_DOMCTL_DESTROYDOMAIN, domain, &[])?;
            match call.run_bare() {
                // Not done yet: the hypervisor lets others have the CPU in between.
                Err(e) if matches!(e.errno(), Some(libc::EAGAIN | libc::EINTR)) => {}
                done => return done,
            }
        }
    }

    /// Lets a suspended domain go on, as if suspending had been cancelled.
    ///
    /// # Errors
    /// `ESRCH`. `EINVAL`: it is not suspended.
    pub fn resume(&self, domain: DomId) -> Result<()> {
        self.domctl("resume", XEN_DOMCTL_RESUMEDOMAIN, domain, &[])?
            .run_bare()
    }

    /// Lets a suspended domain go on where it is: its call to suspend says that it was cancelled,
    /// and it keeps rings, devices and event channels.
    ///
    /// # Errors
    /// `ESRCH`. `EINVAL`: it is not suspended.
    pub fn resume_cancelled(&self, domain: DomId) -> Result<()> {
        /// What `SCHEDOP_shutdown` returns to one that was not.
        const CANCELLED: u64 = 1;
        let first = Vcpu(0);
        let xsave = self.vcpu_xsave(domain, first)?;
        let mut context = self.vcpu_context(domain, first)?;
        context.user_regs.rax = CANCELLED;
        self.set_vcpu_context(domain, first, &context)?;
        // A context has x87 and SSE only, and sets the rest back.
        if !xsave.is_empty() {
            self.set_vcpu_xsave(domain, first, &xsave)?;
        }
        self.resume(domain)
    }

    /// Makes a domain stop as if it had asked to, with a reason of its own.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn remote_shutdown(&self, domain: DomId, reason: ShutdownReason) -> Result<()> {
        let subject = on("shut down", domain);
        let mut argument = SchedRemoteShutdown::new_zeroed();
        argument.domain_id = domain.0;
        argument.reason = u32::from(reason.0);
        let mut buffer = self.buffer(subject, size_of::<SchedRemoteShutdown>(), &[])?;
        let address = buffer.put(&argument).address();
        let arguments = [u64::from(SCHEDOP_REMOTE_SHUTDOWN), address, 0, 0, 0];
        self.hypercall(subject, HYPERVISOR_SCHED_OP, arguments, &mut buffer)
            .map(drop)
    }

    /// Gives a domain another UUID.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn set_handle(&self, domain: DomId, handle: [u8; 16]) -> Result<()> {
        let mut call = self.domctl("set the UUID of", XEN_DOMCTL_SETDOMAINHANDLE, domain, &[])?;
        call.run(&XenDomctlSetdomainhandle { handle }).map(drop)
    }

    /// Shifts a domain's wall clock against the host's, in seconds.
    ///
    /// # Errors
    /// `ESRCH`.
    pub fn set_time_offset(&self, domain: DomId, seconds: i64) -> Result<()> {
        let mut call = self.domctl("set the clock of", XEN_DOMCTL_SETTIMEOFFSET, domain, &[])?;
        call.run(&XenDomctlSettimeoffset {
            time_offset_seconds: seconds,
        })
        .map(drop)
    }

    /// Sends a trigger (`XEN_DOMCTL_SENDTRIGGER_*`); PV guests know the NMI.
    ///
    /// # Errors
    /// `ESRCH`. `EINVAL`: no such vCPU. `ENOSYS`: no such trigger for a PV guest.
    pub fn send_trigger(&self, domain: DomId, trigger: u32, vcpu: Vcpu) -> Result<()> {
        let mut call = self.domctl("send a trigger to", XEN_DOMCTL_SENDTRIGGER, domain, &[])?;
        call.run(&XenDomctlSendtrigger {
            trigger,
            vcpu: vcpu.0,
        })
        .map(drop)
    }
}
