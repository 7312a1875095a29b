//! What a new domain needs beside its own memory: event masks, a first vCPU, grants of its rings.

use std::mem::offset_of;

use pv_image::Plan;
use xen_abi::arch_x86::{
    FLAT_KERNEL_CS, FLAT_KERNEL_SS, VGCF_IN_KERNEL, VGCF_ONLINE, VcpuGuestContext,
};
use xen_abi::grant_table::{
    GNTTAB_RESERVED_CONSOLE, GNTTAB_RESERVED_XENSTORE, GTF_PERMIT_ACCESS, GrantEntryV1,
};
use xen_abi::xen::{SharedInfo, VcpuInfo, XEN_LEGACY_MAX_VCPUS};
use zerocopy::FromZeros;

use crate::ctl::{self, Xen};
use crate::sys::{Access, DomId, Mfn, Vcpu};

use super::Built;
use super::error::Result;

/// Holds events off until the kernel wants them.
pub(super) fn mask_events(xen: &Xen, domain: DomId, shared_info: Mfn) -> Result<()> {
    let page = xen.map_all(domain, &[shared_info], Access::Write)?;
    for vcpu in 0..XEN_LEGACY_MAX_VCPUS {
        let info = offset_of!(SharedInfo, vcpu_info) + vcpu * size_of::<VcpuInfo>();
        page.put(info + offset_of!(VcpuInfo, evtchn_upcall_mask), &1_u8);
    }
    Ok(())
}

/// Puts the first vCPU at the kernel's entry.
///
/// Source: Xen `include/public/arch-x86/xen.h` (`vcpu_guest_context`), `include/public/xen.h`
/// (`start_info`).
pub(super) fn start_first_vcpu(xen: &Xen, domain: DomId, plan: &Plan, l4: Mfn) -> Result<()> {
    /// Interrupts on.
    const RFLAGS_IF: u64 = 1 << 9;
    // DR6 and DR7 after reset: Intel SDM volume 3, table 10-1.
    const DR6: u64 = 0xffff_0ff0;
    const DR7: u64 = 0x400;
    let mut context = VcpuGuestContext::new_zeroed();
    context.flags = VGCF_IN_KERNEL | VGCF_ONLINE;
    let regs = &mut context.user_regs;
    regs.rip = plan.entry;
    regs.rsp = plan.stack_top();
    regs.rsi = plan.start_info.va;
    regs.rflags = RFLAGS_IF;
    regs.cs = FLAT_KERNEL_CS;
    regs.ss = FLAT_KERNEL_SS;
    context.kernel_ss = u64::from(FLAT_KERNEL_SS);
    context.kernel_sp = plan.stack_top();
    context.ctrlreg[3] = l4.0 << pv_image::PAGE_SHIFT;
    context.debugreg[6] = DR6;
    context.debugreg[7] = DR7;
    Ok(xen.set_vcpu_context(domain, Vcpu(0), &context)?)
}

/// Grants the rings to those who serve them, in the entries kept for that.
pub(crate) fn grant_rings(
    xen: &Xen,
    domain: DomId,
    built: &Built,
    store: DomId,
    console: DomId,
) -> ctl::Result<()> {
    let table = xen.map_grant_table(domain)?;
    let rings = [
        (GNTTAB_RESERVED_CONSOLE, built.console, console),
        (GNTTAB_RESERVED_XENSTORE, built.store, store),
    ];
    for (reference, link, to) in rings {
        let entry = GrantEntryV1 {
            flags: GTF_PERMIT_ACCESS,
            domid: to.0,
            // Version 1 has 32 bits for a frame: 16 TiB of memory.
            frame: link.mfn.0 as u32,
        };
        table.put(reference as usize * size_of::<GrantEntryV1>(), &entry);
    }
    Ok(())
}
