//! The hypervisor's control interface (domctl, sysctl, memory) as typed calls.
//!
//! [`Xen`] is the whole of it, its methods sorted by theme into this room's files. It speaks the
//! interfaces of Xen 4.17 and holds no state: what a call says was so when it was made.

mod call;
mod cpus;
mod devices;
mod error;
mod info;
mod life;
mod memory;
mod mmu;
mod oxen;
mod policy;
mod sched;
mod state;
mod sysctl;
mod vcpu;

use std::fmt;
use std::sync::Arc;

use crate::sys::{LinuxPrivcmd, Privcmd};

pub use cpus::CpuSet;
pub use error::{Error, Result};
pub use info::{DomainInfo, ShutdownReason};
pub use life::CreateDomain;
pub use oxen::AuditPage;
pub use policy::{CpuPolicy, CpuPolicyKind, TscInfo};
pub use sched::CreditParams;
pub use state::VcpuState;
pub use sysctl::{Console, CpuTopology, CreditGlobals, HostInfo, HypervisorInfo};
pub use vcpu::{Affinity, VcpuInfo};

/// The hypervisor. Clones share one device.
#[derive(Clone)]
pub struct Xen {
    privcmd: Arc<dyn Privcmd>,
}

impl fmt::Debug for Xen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Xen")
    }
}

impl Xen {
    /// The hypervisor below this dom0.
    ///
    /// # Errors
    /// [`Error::Device`]: this is no dom0, or not for this user.
    pub fn open() -> Result<Self> {
        let privcmd = LinuxPrivcmd::open().map_err(|source| Error::Device {
            device: "/dev/xen/privcmd",
            source,
        })?;
        Ok(Self::new(Arc::new(privcmd)))
    }

    /// A hypervisor reached in some other way, as the fake is.
    #[must_use]
    pub fn new(privcmd: Arc<dyn Privcmd>) -> Self {
        Self { privcmd }
    }

    /// The device, for mappings.
    #[must_use]
    pub fn privcmd(&self) -> &dyn Privcmd {
        &*self.privcmd
    }
}
