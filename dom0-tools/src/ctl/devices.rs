//! What of the host's devices a domain may use.

use std::ops::RangeInclusive;

use xen_abi::domctl::{
    XEN_DOMCTL_IOMEM_PERMISSION, XEN_DOMCTL_IOPORT_PERMISSION, XEN_DOMCTL_IRQ_PERMISSION,
    XenDomctlIomemPermission, XenDomctlIoportPermission, XenDomctlIrqPermission,
};
use xen_abi::physdev::{MAP_PIRQ_TYPE_GSI, PHYSDEVOP_MAP_PIRQ, PhysdevMapPirq};
use xen_abi::xen::HYPERVISOR_PHYSDEV_OP;
use zerocopy::FromZeros;

use super::call::on;
use super::{Error, Result, Xen};
use crate::sys::DomId;

impl Xen {
    /// Lets a domain map `count` frames of device memory from `first` on.
    ///
    /// # Errors
    /// `EPERM`: not dom0's to give. `EINVAL`: not one frame. `ESRCH`.
    pub fn give_iomem(&self, domain: DomId, first: u64, count: u64) -> Result<()> {
        let operation = "give device memory to";
        let mut call = self.domctl(operation, XEN_DOMCTL_IOMEM_PERMISSION, domain, &[])?;
        call.run(&XenDomctlIomemPermission {
            first_mfn: first,
            nr_mfns: count,
            allow_access: 1,
            _pad: [0; 7],
        })
        .map(drop)
    }

    /// Lets a domain reach I/O ports.
    ///
    /// # Errors
    /// `EPERM`: not dom0's to give. `EINVAL`: not one port. `ESRCH`.
    pub fn give_ports(&self, domain: DomId, ports: RangeInclusive<u16>) -> Result<()> {
        let operation = "give I/O ports to";
        let mut call = self.domctl(operation, XEN_DOMCTL_IOPORT_PERMISSION, domain, &[])?;
        call.run(&XenDomctlIoportPermission {
            first_port: u32::from(*ports.start()),
            nr_ports: ports.len() as u32,
            allow_access: 1,
            _pad: [0; 3],
        })
        .map(drop)
    }

    /// Maps a pin of the host's for a domain, and lets it bind it.
    ///
    /// # Errors
    /// `EPERM`: not dom0's to give. `EINVAL`: no such pin. `ESRCH`.
    pub fn give_irq(&self, domain: DomId, gsi: u32) -> Result<()> {
        let subject = on("map an interrupt for", domain);
        let index = i32::try_from(gsi).map_err(|_| no_such(subject))?;
        let mut argument = PhysdevMapPirq::new_zeroed();
        argument.domid = domain.0;
        argument.r#type = MAP_PIRQ_TYPE_GSI;
        (argument.index, argument.pirq) = (index, index);
        let mut buffer = self.buffer(subject, size_of::<PhysdevMapPirq>(), &[])?;
        let slot = buffer.put(&argument);
        let arguments = [u64::from(PHYSDEVOP_MAP_PIRQ), slot.address(), 0, 0, 0];
        self.hypercall(subject, HYPERVISOR_PHYSDEV_OP, arguments, &mut buffer)?;
        let pirq = u32::try_from(buffer.get(slot).pirq).map_err(|_| no_such(subject))?;
        let operation = "give an interrupt to";
        let mut call = self.domctl(operation, XEN_DOMCTL_IRQ_PERMISSION, domain, &[])?;
        call.run(&XenDomctlIrqPermission {
            pirq,
            allow_access: 1,
            pad: [0; 3],
        })
        .map(drop)
    }
}

fn no_such(subject: super::call::Subject) -> Error {
    subject.error(std::io::Error::from_raw_os_error(libc::EINVAL))
}
