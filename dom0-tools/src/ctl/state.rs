//! A vCPU's state: registers, callbacks, extended state, MSRs.

use xen_abi::arch_x86::VcpuGuestContext;
use xen_abi::domctl::{
    XEN_DOMCTL_GET_EXT_VCPUCONTEXT, XEN_DOMCTL_GET_VCPU_MSRS, XEN_DOMCTL_GETVCPUCONTEXT,
    XEN_DOMCTL_GETVCPUEXTSTATE, XEN_DOMCTL_SET_EXT_VCPUCONTEXT, XEN_DOMCTL_SET_VCPU_MSRS,
    XEN_DOMCTL_SETVCPUCONTEXT, XEN_DOMCTL_SETVCPUEXTSTATE, XenDomctlExtVcpucontext,
    XenDomctlVcpuMsr, XenDomctlVcpuMsrs, XenDomctlVcpucontext, XenDomctlVcpuextstate,
};
use zerocopy::FromZeros;

use super::{Result, Xen};
use crate::sys::{DomId, Vcpu};

/// All state of a vCPU, as a save file keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VcpuState {
    /// Registers and callbacks.
    pub context: VcpuGuestContext,
    /// Callbacks of 32-bit system calls.
    pub extended: XenDomctlExtVcpucontext,
    /// XCR0, all it ever was, and the save area; empty if the vCPU has none.
    pub xsave: Vec<u8>,
    /// Model-specific registers that are not zero.
    pub msrs: Vec<XenDomctlVcpuMsr>,
}

/// Most bytes of extended state and most MSRs that are read.
const MOST_XSAVE: u64 = 1 << 20;
const MOST_MSRS: u32 = 4096;

impl Xen {
    /// A vCPU's registers and callbacks.
    ///
    /// # Errors
    /// `ESRCH`: no such vCPU. `ENODATA`: it was never given any.
    pub fn vcpu_context(&self, domain: DomId, vcpu: Vcpu) -> Result<Box<VcpuGuestContext>> {
        let bytes = size_of::<VcpuGuestContext>();
        let operation = "read the registers of";
        let mut call = self.domctl(operation, XEN_DOMCTL_GETVCPUCONTEXT, domain, &[bytes])?;
        let slot = call.buffer.put(&VcpuGuestContext::new_zeroed());
        call.run(&XenDomctlVcpucontext {
            vcpu: vcpu.0,
            _pad: 0,
            ctxt: slot.address(),
        })?;
        Ok(Box::new(call.buffer.get(slot)))
    }

    /// Gives a vCPU its registers and callbacks.
    ///
    /// # Errors
    /// `EINVAL`: the context is not sound, or its page table is not.
    pub fn set_vcpu_context(
        &self,
        domain: DomId,
        vcpu: Vcpu,
        context: &VcpuGuestContext,
    ) -> Result<()> {
        let bytes = size_of::<VcpuGuestContext>();
        let operation = "set the registers of";
        let mut call = self.domctl(operation, XEN_DOMCTL_SETVCPUCONTEXT, domain, &[bytes])?;
        let slot = call.buffer.put(context);
        call.run(&XenDomctlVcpucontext {
            vcpu: vcpu.0,
            _pad: 0,
            ctxt: slot.address(),
        })
        .map(drop)
    }

    /// A vCPU's callbacks of 32-bit system calls.
    ///
    /// # Errors
    /// `ESRCH`: no such vCPU.
    pub fn vcpu_extended(&self, domain: DomId, vcpu: Vcpu) -> Result<XenDomctlExtVcpucontext> {
        let operation = "read the registers of";
        let mut call = self.domctl(operation, XEN_DOMCTL_GET_EXT_VCPUCONTEXT, domain, &[])?;
        let mut argument = XenDomctlExtVcpucontext::new_zeroed();
        argument.vcpu = vcpu.0;
        argument.size = size_of::<XenDomctlExtVcpucontext>() as u32;
        call.run(&argument)
    }

    /// Sets them.
    ///
    /// # Errors
    /// `EINVAL`: not sound.
    pub fn set_vcpu_extended(
        &self,
        domain: DomId,
        vcpu: Vcpu,
        extended: &XenDomctlExtVcpucontext,
    ) -> Result<()> {
        let operation = "set the registers of";
        let mut call = self.domctl(operation, XEN_DOMCTL_SET_EXT_VCPUCONTEXT, domain, &[])?;
        let mut argument = *extended;
        argument.vcpu = vcpu.0;
        call.run(&argument).map(drop)
    }

    /// A vCPU's extended state: XCR0, all it ever was, and the save area. Empty if it has none.
    ///
    /// # Errors
    /// `ESRCH`: no such vCPU.
    pub fn vcpu_xsave(&self, domain: DomId, vcpu: Vcpu) -> Result<Vec<u8>> {
        let operation = "read the extended state of";
        let mut argument = XenDomctlVcpuextstate::new_zeroed();
        argument.vcpu = vcpu.0;
        let mut call = self.domctl(operation, XEN_DOMCTL_GETVCPUEXTSTATE, domain, &[])?;
        let sizes = call.run(&argument)?;
        let bytes = sizes.size.min(MOST_XSAVE);
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let room = bytes as usize;
        let mut call = self.domctl(operation, XEN_DOMCTL_GETVCPUEXTSTATE, domain, &[room])?;
        let slot = call.buffer.space(room);
        // Both as they came: the hypervisor refuses another mask than its own.
        argument.xfeature_mask = sizes.xfeature_mask;
        argument.size = bytes;
        argument.buffer = slot.address();
        let back = call.run(&argument)?;
        let mut state = call.buffer.slot(slot).to_vec();
        state.truncate(back.size as usize);
        Ok(state)
    }

    /// Sets it.
    ///
    /// # Errors
    /// `EINVAL`: not sound, or for components that the domain does not have.
    pub fn set_vcpu_xsave(&self, domain: DomId, vcpu: Vcpu, state: &[u8]) -> Result<()> {
        let operation = "set the extended state of";
        let room = [state.len()];
        let mut call = self.domctl(operation, XEN_DOMCTL_SETVCPUEXTSTATE, domain, &room)?;
        let mut argument = XenDomctlVcpuextstate::new_zeroed();
        argument.vcpu = vcpu.0;
        argument.size = state.len() as u64;
        argument.buffer = call.buffer.put_all(state).address();
        call.run(&argument).map(drop)
    }

    /// A vCPU's model-specific registers that are not zero.
    ///
    /// # Errors
    /// `EINVAL`: no such vCPU.
    pub fn vcpu_msrs(&self, domain: DomId, vcpu: Vcpu) -> Result<Vec<XenDomctlVcpuMsr>> {
        let operation = "read the MSRs of";
        let mut argument = XenDomctlVcpuMsrs::new_zeroed();
        argument.vcpu = vcpu.0;
        let mut call = self.domctl(operation, XEN_DOMCTL_GET_VCPU_MSRS, domain, &[])?;
        let count = call.run(&argument)?.msr_count.min(MOST_MSRS);
        if count == 0 {
            return Ok(Vec::new());
        }
        let room = count as usize * size_of::<XenDomctlVcpuMsr>();
        let mut call = self.domctl(operation, XEN_DOMCTL_GET_VCPU_MSRS, domain, &[room])?;
        let empty = vec![XenDomctlVcpuMsr::new_zeroed(); count as usize];
        let slot = call.buffer.put_all(&empty);
        argument.msr_count = count;
        argument.msrs = slot.address();
        let back = call.run(&argument)?;
        let mut msrs = call.buffer.get_all(slot);
        msrs.truncate(back.msr_count as usize);
        Ok(msrs)
    }

    /// Sets them.
    ///
    /// # Errors
    /// `EINVAL`: one that the domain does not have.
    pub fn set_vcpu_msrs(
        &self,
        domain: DomId,
        vcpu: Vcpu,
        msrs: &[XenDomctlVcpuMsr],
    ) -> Result<()> {
        let operation = "set the MSRs of";
        let room = [size_of_val(msrs)];
        let mut call = self.domctl(operation, XEN_DOMCTL_SET_VCPU_MSRS, domain, &room)?;
        let mut argument = XenDomctlVcpuMsrs::new_zeroed();
        argument.vcpu = vcpu.0;
        argument.msr_count = u32::try_from(msrs.len()).unwrap_or(u32::MAX);
        argument.msrs = call.buffer.put_all(msrs).address();
        call.run(&argument).map(drop)
    }

    /// All state of a vCPU.
    ///
    /// # Errors
    /// Those of its parts.
    pub fn vcpu_state(&self, domain: DomId, vcpu: Vcpu) -> Result<VcpuState> {
        Ok(VcpuState {
            context: *self.vcpu_context(domain, vcpu)?,
            extended: self.vcpu_extended(domain, vcpu)?,
            xsave: self.vcpu_xsave(domain, vcpu)?,
            msrs: self.vcpu_msrs(domain, vcpu)?,
        })
    }
}
