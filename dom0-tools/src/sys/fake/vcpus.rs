//! State of vCPUs of a machine that is none: what tools set they read again.

use std::collections::BTreeMap;

use xen_abi::arch_x86::VcpuGuestContext;
use xen_abi::domctl::*;
use zerocopy::{FromZeros, IntoBytes};

use super::super::Buffer;
use super::hypervisor::{Answer, answer, argument, read, write};

/// State of one.
#[derive(Debug)]
pub(super) struct State {
    pub context: Box<VcpuGuestContext>,
    extended: XenDomctlExtVcpucontext,
    pub xsave: Vec<u8>,
    pub msrs: Vec<u8>,
}

/// State of those that were given some; they are up.
#[derive(Debug, Default)]
pub(super) struct Vcpus(BTreeMap<u32, State>);

impl Vcpus {
    /// How many are up.
    pub fn online(&self) -> u32 {
        self.0.len() as u32
    }

    /// State of one; it is up from now on.
    pub fn state(&mut self, vcpu: u32) -> &mut State {
        self.0.entry(vcpu).or_insert_with(|| State {
            context: Box::new(FromZeros::new_zeroed()),
            extended: FromZeros::new_zeroed(),
            xsave: Vec::new(),
            msrs: Vec::new(),
        })
    }

    fn known(&mut self, vcpu: u32) -> Answer<&mut State> {
        self.0.get_mut(&vcpu).ok_or(libc::ESRCH)
    }

    /// Commands that concern one vCPU.
    pub fn domctl(
        &mut self,
        command: u32,
        payload: &mut [u64; 16],
        buffer: &mut Buffer,
    ) -> Answer<()> {
        match command {
            XEN_DOMCTL_GETVCPUINFO => {
                let mut info: XenDomctlGetvcpuinfo = argument(payload);
                info.online = u8::from(self.0.contains_key(&info.vcpu));
                answer(payload, &info);
            }
            XEN_DOMCTL_SETVCPUCONTEXT => {
                let call: XenDomctlVcpucontext = argument(payload);
                *self.state(call.vcpu).context = read(buffer, call.ctxt)?;
            }
            XEN_DOMCTL_GETVCPUCONTEXT => {
                let call: XenDomctlVcpucontext = argument(payload);
                write(buffer, call.ctxt, &*self.known(call.vcpu)?.context)?;
            }
            XEN_DOMCTL_SET_EXT_VCPUCONTEXT => {
                let call: XenDomctlExtVcpucontext = argument(payload);
                self.known(call.vcpu)?.extended = call;
            }
            XEN_DOMCTL_GET_EXT_VCPUCONTEXT => {
                let call: XenDomctlExtVcpucontext = argument(payload);
                answer(payload, &self.known(call.vcpu)?.extended);
            }
            XEN_DOMCTL_SETVCPUEXTSTATE | XEN_DOMCTL_GETVCPUEXTSTATE => {
                let mut call: XenDomctlVcpuextstate = argument(payload);
                let set = command == XEN_DOMCTL_SETVCPUEXTSTATE;
                let state = &mut self.known(call.vcpu)?.xsave;
                call.size = exchange(state, set, call.buffer, call.size, buffer)?;
                answer(payload, &call);
            }
            XEN_DOMCTL_SET_VCPU_MSRS | XEN_DOMCTL_GET_VCPU_MSRS => {
                const ENTRY: u64 = size_of::<XenDomctlVcpuMsr>() as u64;
                let mut call: XenDomctlVcpuMsrs = argument(payload);
                let set = command == XEN_DOMCTL_SET_VCPU_MSRS;
                let state = &mut self.known(call.vcpu)?.msrs;
                let bytes = u64::from(call.msr_count) * ENTRY;
                let bytes = exchange(state, set, call.msrs, bytes, buffer)?;
                call.msr_count = (bytes / ENTRY) as u32;
                answer(payload, &call);
            }
            _ => return Err(libc::ENOSYS),
        }
        Ok(())
    }
}

/// Takes the bytes at an address, or puts them there; without an address it tells how many.
fn exchange(
    state: &mut Vec<u8>,
    set: bool,
    address: u64,
    bytes: u64,
    buffer: &mut Buffer,
) -> Answer<u64> {
    if address != 0 {
        let bytes = usize::try_from(bytes).map_err(|_| libc::E2BIG)?;
        if set {
            let from = buffer.at_mut(address, bytes).ok_or(libc::EFAULT)?;
            *state = from.to_vec();
        } else if bytes < state.len() {
            return Err(libc::ENOBUFS);
        } else {
            write(buffer, address, state.as_bytes())?;
        }
    }
    Ok(state.len() as u64)
}
