//! Page tables and event channels of another domain.

use xen_abi::domctl::{XEN_DOMCTL_GETPAGEFRAMEINFO3, XenDomctlGetpageframeinfo3};
use xen_abi::event_channel::{
    EVTCHNOP_ALLOC_UNBOUND, EVTCHNOP_STATUS, EvtchnAllocUnbound, EvtchnStatus,
};
use xen_abi::xen::{
    HYPERVISOR_EVENT_CHANNEL_OP, HYPERVISOR_MMU_UPDATE, HYPERVISOR_MMUEXT_OP, MMU_MACHPHYS_UPDATE,
    MMUEXT_PIN_L1_TABLE, MmuUpdate, MmuextOp,
};
use zerocopy::FromZeros;

use super::call::on;
use super::{Result, Xen};
use crate::sys::{DomId, Mfn, Pfn, Port};

/// Elements passed in one call.
const CHUNK: usize = 1024;

impl Xen {
    /// Makes frames of a domain page tables of a level (1 to 4), for good.
    ///
    /// # Errors
    /// `EINVAL`: one is no sound table, or is mapped for writing.
    pub fn pin_tables(&self, domain: DomId, tables: &[(Mfn, u32)]) -> Result<()> {
        let subject = on("use the page tables of", domain);
        for chunk in tables.chunks(CHUNK) {
            let ops: Vec<MmuextOp> = chunk
                .iter()
                .map(|&(frame, level)| MmuextOp {
                    // The commands are numbered by level.
                    cmd: MMUEXT_PIN_L1_TABLE + level.saturating_sub(1),
                    _pad: 0,
                    arg1: frame.0,
                    arg2: 0,
                })
                .collect();
            let mut buffer = self.buffer(subject, size_of_val(&*ops), &[])?;
            let list = buffer.put_all(&ops).address();
            let arguments = [list, ops.len() as u64, 0, u64::from(domain.0), 0];
            self.hypercall(subject, HYPERVISOR_MMUEXT_OP, arguments, &mut buffer)?;
        }
        Ok(())
    }

    /// Tells the machine-to-physical table the PFNs of a domain's frames.
    ///
    /// # Errors
    /// `EINVAL`: a frame is not the domain's.
    pub fn set_pfns(&self, domain: DomId, frames: &[(Mfn, Pfn)]) -> Result<()> {
        let subject = on("number the memory of", domain);
        for chunk in frames.chunks(CHUNK) {
            let ops: Vec<MmuUpdate> = chunk
                .iter()
                .map(|&(mfn, pfn)| MmuUpdate {
                    ptr: mfn.0 << 12 | MMU_MACHPHYS_UPDATE,
                    val: pfn.0,
                })
                .collect();
            let mut buffer = self.buffer(subject, size_of_val(&*ops), &[])?;
            let list = buffer.put_all(&ops).address();
            let arguments = [list, ops.len() as u64, 0, u64::from(domain.0), 0];
            self.hypercall(subject, HYPERVISOR_MMU_UPDATE, arguments, &mut buffer)?;
        }
        Ok(())
    }

    /// What frames of a domain are: `XEN_DOMCTL_PFINFO_*` of each.
    ///
    /// # Errors
    /// `E2BIG`: too many at once (more than 1024).
    pub fn frame_types(&self, domain: DomId, frames: &[Mfn]) -> Result<Vec<u32>> {
        let operation = "look at the memory of";
        let numbers: Vec<u64> = frames.iter().map(|mfn| mfn.0).collect();
        let room = [size_of_val(&*numbers)];
        let mut call = self.domctl(operation, XEN_DOMCTL_GETPAGEFRAMEINFO3, domain, &room)?;
        let list = call.buffer.put_all(&numbers);
        call.run(&XenDomctlGetpageframeinfo3 {
            num: numbers.len() as u64,
            array: list.address(),
        })?;
        let types = call.buffer.get_all(list);
        Ok(types.iter().map(|&kind| kind as u32).collect())
    }

    /// A new port of a domain to which another one may bind.
    ///
    /// # Errors
    /// `ENOSPC`: it has no free port.
    pub fn alloc_unbound(&self, domain: DomId, remote: DomId) -> Result<Port> {
        let subject = on("make an event channel of", domain);
        let mut argument = EvtchnAllocUnbound::new_zeroed();
        argument.dom = domain.0;
        argument.remote_dom = remote.0;
        let mut buffer = self.buffer(subject, size_of::<EvtchnAllocUnbound>(), &[])?;
        let slot = buffer.put(&argument);
        let arguments = [u64::from(EVTCHNOP_ALLOC_UNBOUND), slot.address(), 0, 0, 0];
        self.hypercall(subject, HYPERVISOR_EVENT_CHANNEL_OP, arguments, &mut buffer)?;
        Ok(Port(buffer.get(slot).port))
    }

    /// What a port of a domain is bound to.
    ///
    /// # Errors
    /// `EINVAL`: beyond its last port.
    pub fn port_status(&self, domain: DomId, port: Port) -> Result<EvtchnStatus> {
        let subject = on("look at an event channel of", domain);
        let mut argument = EvtchnStatus::new_zeroed();
        argument.dom = domain.0;
        argument.port = port.0;
        let mut buffer = self.buffer(subject, size_of::<EvtchnStatus>(), &[])?;
        let slot = buffer.put(&argument);
        let arguments = [u64::from(EVTCHNOP_STATUS), slot.address(), 0, 0, 0];
        self.hypercall(subject, HYPERVISOR_EVENT_CHANNEL_OP, arguments, &mut buffer)?;
        Ok(buffer.get(slot))
    }
}
