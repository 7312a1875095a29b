//! vCPUs in a stream: where their state names frames, the stream has PFNs.

use std::collections::BTreeMap;
use std::io::Write;

use xen_abi::arch_x86::VcpuGuestContext;
use xen_abi::domctl::{XenDomctlExtVcpucontext, XenDomctlVcpuMsr};
use zerocopy::{FromBytes, IntoBytes};

use super::error::{Error, Result, bad};
use super::format::{
    REC_X86_PV_VCPU_BASIC, REC_X86_PV_VCPU_EXTENDED, REC_X86_PV_VCPU_MSRS, REC_X86_PV_VCPU_XSAVE,
    write_record,
};
use super::guest::GuestFrames;
use super::records::VcpuHead;
use crate::ctl::{DomainInfo, Xen};
use crate::sys::{DomId, Mfn, Vcpu};

/// Bit of the user page table's register: there is one.
const USER_TABLE: u64 = 1;
/// Frames of a GDT, 512 entries each.
const GDT_ENTRIES: u64 = 512;

/// Writes the state of each vCPU that is up.
pub(super) fn write(
    xen: &Xen,
    info: &DomainInfo,
    guest: &GuestFrames,
    to: &mut impl Write,
) -> Result<()> {
    let domain = info.domain;
    for vcpu in (0..info.vcpus).map(Vcpu) {
        if !xen.vcpu_info(domain, vcpu)?.online {
            continue;
        }
        let mut state = xen.vcpu_state(domain, vcpu)?;
        let pfn = |mfn: u64| {
            guest.pfn(Mfn(mfn)).ok_or_else(|| {
                Error::Domain(format!(
                    "vCPU {vcpu} of domain {domain} uses frame {mfn}, which is not its own"
                ))
            })
        };
        renumber(&mut state.context, vcpu, Form::Frames, pfn)?;
        let head = VcpuHead {
            vcpu: vcpu.0,
            reserved: 0,
        };
        let mut record = |kind, body: &[u8]| {
            if body.is_empty() {
                Ok(())
            } else {
                write_record(to, kind, &[head.as_bytes(), body])
            }
        };
        record(REC_X86_PV_VCPU_BASIC, state.context.as_bytes())?;
        record(REC_X86_PV_VCPU_EXTENDED, state.extended.as_bytes())?;
        record(REC_X86_PV_VCPU_XSAVE, &state.xsave)?;
        record(REC_X86_PV_VCPU_MSRS, state.msrs.as_bytes())?;
    }
    Ok(())
}

/// How a context names pages: by frames (the hypervisor's) or by PFNs (a stream's), in which a user
/// page table has a bit that says there is one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Frames,
    Pfns,
}

/// Puts another number for each frame that a context names; `from` is the form it has.
fn renumber(
    context: &mut VcpuGuestContext,
    vcpu: Vcpu,
    from: Form,
    mut other: impl FnMut(u64) -> Result<u64>,
) -> Result<()> {
    if vcpu == Vcpu(0) {
        // The start info, as the kernel gave it with its suspension.
        context.user_regs.rdx = other(context.user_regs.rdx)?;
    }
    let gdt = context.gdt_ents.div_ceil(GDT_ENTRIES);
    let gdt = usize::try_from(gdt).ok();
    let Some(gdt) = gdt.and_then(|count| context.gdt_frames.get_mut(..count)) else {
        return bad(format!("vCPU {vcpu} has a GDT too large"));
    };
    for frame in gdt {
        *frame = other(*frame)?;
    }
    context.ctrlreg[3] = other(context.ctrlreg[3] >> 12)? << 12;
    let user = context.ctrlreg[1];
    let (there, mark) = match from {
        Form::Frames => (user != 0, USER_TABLE),
        Form::Pfns => (user & USER_TABLE != 0, 0),
    };
    context.ctrlreg[1] = if there {
        other(user >> 12)? << 12 | mark
    } else {
        0
    };
    Ok(())
}

/// State of a vCPU as a stream brings it.
#[derive(Default)]
struct Brought {
    context: Option<Box<VcpuGuestContext>>,
    extended: Option<XenDomctlExtVcpucontext>,
    xsave: Vec<u8>,
    msrs: Vec<XenDomctlVcpuMsr>,
}

/// State of all vCPUs, collected from a stream.
#[derive(Default)]
pub(super) struct Vcpus(BTreeMap<u32, Brought>);

/// Largest number of a vCPU.
const MOST_VCPUS: u32 = 8192;

/// Most bytes of a vCPU's XSAVE area or of its MSRs: an area with AVX-512 and AMX takes 11 KiB. So a
/// file cannot have the restorer keep memory without measure.
const MOST_STATE: usize = 16 << 10;

impl Vcpus {
    /// Takes a record of a vCPU.
    pub fn take(&mut self, kind: u32, body: &[u8]) -> Result<()> {
        let Ok((head, rest)) = VcpuHead::read_from_prefix(body) else {
            return bad("a vCPU's record too short");
        };
        if head.vcpu >= MOST_VCPUS {
            return bad(format!("vCPU {}", head.vcpu));
        }
        let varies = matches!(kind, REC_X86_PV_VCPU_XSAVE | REC_X86_PV_VCPU_MSRS);
        if varies && rest.len() > MOST_STATE {
            return bad(format!(
                "{} bytes of state of vCPU {}",
                rest.len(),
                head.vcpu
            ));
        }
        let brought = self.0.entry(head.vcpu).or_default();
        match kind {
            REC_X86_PV_VCPU_BASIC => match VcpuGuestContext::read_from_bytes(rest) {
                Ok(context) => brought.context = Some(Box::new(context)),
                Err(_) => return bad("a vCPU's registers of another size"),
            },
            REC_X86_PV_VCPU_EXTENDED => match XenDomctlExtVcpucontext::read_from_bytes(rest) {
                Ok(extended) => brought.extended = Some(extended),
                Err(_) => return bad("a vCPU's callbacks of another size"),
            },
            REC_X86_PV_VCPU_XSAVE => brought.xsave = rest.to_vec(),
            _ => {
                let all = rest.chunks_exact(size_of::<XenDomctlVcpuMsr>());
                if !all.remainder().is_empty() {
                    return bad("a vCPU's MSRs of another size");
                }
                brought.msrs = all
                    .filter_map(|bytes| XenDomctlVcpuMsr::read_from_bytes(bytes).ok())
                    .collect();
            }
        }
        Ok(())
    }

    /// PFN of the start info, from the first vCPU's registers.
    pub fn start_info(&self) -> Result<u64> {
        let first = self.0.get(&0).and_then(|v| v.context.as_ref());
        match first {
            Some(context) => Ok(context.user_regs.rdx),
            None => bad("no registers of vCPU 0"),
        }
    }

    /// Gives a domain's vCPUs their state; `mfn` knows the frame of a PFN.
    pub fn apply(
        self,
        xen: &Xen,
        domain: DomId,
        mut mfn: impl FnMut(u64) -> Result<u64>,
    ) -> Result<()> {
        for (number, brought) in self.0 {
            let vcpu = Vcpu(number);
            let Some(mut context) = brought.context else {
                return bad(format!("no registers of vCPU {vcpu}"));
            };
            renumber(&mut context, vcpu, Form::Pfns, &mut mfn)?;
            xen.set_vcpu_context(domain, vcpu, &context)?;
            if let Some(extended) = &brought.extended {
                xen.set_vcpu_extended(domain, vcpu, extended)?;
            }
            if !brought.xsave.is_empty() {
                xen.set_vcpu_xsave(domain, vcpu, &brought.xsave)?;
            }
            if !brought.msrs.is_empty() {
                xen.set_vcpu_msrs(domain, vcpu, &brought.msrs)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_without_measure_is_refused() {
        for kind in [REC_X86_PV_VCPU_XSAVE, REC_X86_PV_VCPU_MSRS] {
            let record = |bytes: usize| vec![0; size_of::<VcpuHead>() + bytes];
            let mut vcpus = Vcpus::default();
            vcpus.take(kind, &record(MOST_STATE)).unwrap();
            vcpus.take(kind, &record(MOST_STATE + 16)).unwrap_err();
        }
    }
}
