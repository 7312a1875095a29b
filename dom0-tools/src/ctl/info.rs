//! What a domain is and has.

use std::fmt;

use xen_abi::domctl::{
    XEN_DOMCTL_GETDOMAININFO, XEN_DOMINF_BLOCKED, XEN_DOMINF_DYING, XEN_DOMINF_PAUSED,
    XEN_DOMINF_RUNNING, XEN_DOMINF_SHUTDOWN, XEN_DOMINF_SHUTDOWNSHIFT, XEN_DOMINF_XS_DOMAIN,
    XEN_INVALID_MAX_VCPU_ID, XenDomctlGetdomaininfo,
};
use xen_abi::sched::{
    SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SHUTDOWN_SOFT_RESET, SHUTDOWN_SUSPEND,
    SHUTDOWN_WATCHDOG,
};
use xen_abi::sysctl::{XEN_SYSCTL_GETDOMAININFOLIST, XenSysctlGetdomaininfolist};
use zerocopy::FromZeros;

use super::call::{host, on};
use super::error::errno;
use super::{Result, Xen};
use crate::sys::{DomId, Mfn, PAGE_SIZE};

/// Why a domain's kernel stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShutdownReason(pub u8);

impl ShutdownReason {
    /// It is to be off.
    pub const POWEROFF: Self = Self(SHUTDOWN_POWEROFF as u8);
    /// It is to start anew.
    pub const REBOOT: Self = Self(SHUTDOWN_REBOOT as u8);
    /// It is to be saved.
    pub const SUSPEND: Self = Self(SHUTDOWN_SUSPEND as u8);
    /// It failed.
    pub const CRASH: Self = Self(SHUTDOWN_CRASH as u8);
    /// It missed its watchdog.
    pub const WATCHDOG: Self = Self(SHUTDOWN_WATCHDOG as u8);
    /// It is to be reset around its next kernel.
    pub const SOFT_RESET: Self = Self(SHUTDOWN_SOFT_RESET as u8);
}

impl fmt::Display for ShutdownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::POWEROFF => "poweroff",
            Self::REBOOT => "reboot",
            Self::SUSPEND => "suspend",
            Self::CRASH => "crash",
            Self::WATCHDOG => "watchdog",
            Self::SOFT_RESET => "soft_reset",
            Self(other) => return write!(f, "reason {other}"),
        })
    }
}

/// A domain as the hypervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainInfo {
    /// Its number.
    pub domain: DomId,
    /// UUID.
    pub handle: [u8; 16],
    /// Being destroyed.
    pub dying: bool,
    /// Its kernel has stopped, and why.
    pub shutdown: Option<ShutdownReason>,
    /// Stopped by tools.
    pub paused: bool,
    /// None of its vCPUs has anything to do.
    pub blocked: bool,
    /// One of its vCPUs is on a CPU.
    pub running: bool,
    /// It serves xenstore.
    pub xenstore: bool,
    /// Memory it has, pages.
    pub pages: u64,
    /// Memory it may have, pages.
    pub max_pages: u64,
    /// Memory claimed for it, pages.
    pub outstanding_pages: u64,
    /// Frame of its shared info page.
    pub shared_info: Mfn,
    /// Nanoseconds its vCPUs ran, together.
    pub cpu_time: u64,
    /// vCPUs that are up.
    pub vcpus_online: u32,
    /// vCPUs it has.
    pub vcpus: u32,
    /// CPU pool.
    pub cpupool: u32,
}

impl DomainInfo {
    fn from_abi(raw: &XenDomctlGetdomaininfo) -> Self {
        let flag = |bit: u32| raw.flags & bit != 0;
        let reason = ShutdownReason((raw.flags >> XEN_DOMINF_SHUTDOWNSHIFT) as u8);
        Self {
            domain: DomId(raw.domain),
            handle: raw.handle,
            dying: flag(XEN_DOMINF_DYING),
            shutdown: flag(XEN_DOMINF_SHUTDOWN).then_some(reason),
            paused: flag(XEN_DOMINF_PAUSED),
            blocked: flag(XEN_DOMINF_BLOCKED),
            running: flag(XEN_DOMINF_RUNNING),
            xenstore: flag(XEN_DOMINF_XS_DOMAIN),
            pages: raw.tot_pages,
            max_pages: raw.max_pages,
            outstanding_pages: raw.outstanding_pages,
            shared_info: Mfn(raw.shared_info_frame),
            cpu_time: raw.cpu_time,
            vcpus_online: raw.nr_online_vcpus,
            vcpus: match raw.max_vcpu_id {
                XEN_INVALID_MAX_VCPU_ID => 0,
                last => last.saturating_add(1),
            },
            cpupool: raw.cpupool,
        }
    }

    /// Memory it has, in KiB.
    #[must_use]
    pub const fn memory_kib(&self) -> u64 {
        self.pages.saturating_mul(PAGE_SIZE as u64 / 1024)
    }
}

/// Domains asked for at once.
const LIST_CHUNK: usize = 256;

impl Xen {
    /// What a domain is and has.
    ///
    /// # Errors
    /// `ESRCH`: there is none.
    pub fn domain_info(&self, domain: DomId) -> Result<DomainInfo> {
        let mut call = self.domctl("look at", XEN_DOMCTL_GETDOMAININFO, domain, &[])?;
        let raw: XenDomctlGetdomaininfo = call.run(&FromZeros::new_zeroed())?;
        // The hypervisor answers with the next domain if there is none of that number.
        if raw.domain == domain.0 {
            Ok(DomainInfo::from_abi(&raw))
        } else {
            Err(on("look at", domain).error(errno(libc::ESRCH)))
        }
    }

    /// All domains, ascending; dying ones too.
    ///
    /// # Errors
    /// Hardly any.
    pub fn domains(&self) -> Result<Vec<DomainInfo>> {
        let subject = host("list the domains");
        let mut domains = Vec::new();
        let mut first = 0;
        loop {
            let bytes = LIST_CHUNK * size_of::<XenDomctlGetdomaininfo>();
            let mut buffer = self.sysctl_buffer(subject, &[bytes])?;
            let infos = buffer.put_all(&[XenDomctlGetdomaininfo::new_zeroed(); LIST_CHUNK]);
            let mut argument = XenSysctlGetdomaininfolist::new_zeroed();
            argument.first_domain = first;
            argument.max_domains = LIST_CHUNK as u32;
            argument.buffer = infos.address();
            let command = XEN_SYSCTL_GETDOMAININFOLIST;
            let back = self.sysctl(subject, command, &mut buffer, &argument)?;
            let found = (back.num_domains as usize).min(LIST_CHUNK);
            let raw = buffer.get_all(infos);
            domains.extend(raw[..found].iter().map(DomainInfo::from_abi));
            match raw[..found].last() {
                Some(last) if found == LIST_CHUNK => first = last.domain.saturating_add(1),
                _ => return Ok(domains),
            }
        }
    }
}
