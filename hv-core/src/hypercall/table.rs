//! The dispatch table: number, handler, and how much of the call there is.

use super::{
    Call, Handler, event_channel_op, grant_table_op, mca, memory_op, mmu_update, mmuext_op,
    multicall, sched_op, set_gdt, timer, update_va_mapping, vcpu_op,
};
use super::{
    callback_op, console_io, debugreg, domctl, fpu_taskswitch, physdev_op, platform_op,
    set_segment_base, set_trap_table, stack_switch, sysctl, vm_assist, xen_version, xenpmu_op,
};
use core::sync::atomic::Ordering;
use xen_abi::xen as abi;

/// How much of a hypercall is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything Xen 4.17 offers PV guests.
    Done,
    /// What is missing.
    Partial(&'static str),
}

/// One hypercall.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name in Xen's headers.
    pub name: &'static str,
    /// What runs.
    pub handler: Handler,
    /// How much of it there is.
    pub state: State,
}

/// Hypercalls by number.
pub static HANDLERS: [Option<Entry>; abi::NR_HYPERCALLS as usize] = table();

const fn table() -> [Option<Entry>; abi::NR_HYPERCALLS as usize] {
    let mut t: [Option<Entry>; abi::NR_HYPERCALLS as usize] = [None; abi::NR_HYPERCALLS as usize];
    t[abi::HYPERVISOR_SET_TRAP_TABLE as usize] =
        Some(done("set_trap_table", set_trap_table::set_trap_table));
    t[abi::HYPERVISOR_STACK_SWITCH as usize] =
        Some(done("stack_switch", stack_switch::stack_switch));
    t[abi::HYPERVISOR_SET_CALLBACKS as usize] =
        Some(done("set_callbacks", callback_op::set_callbacks));
    t[abi::HYPERVISOR_FPU_TASKSWITCH as usize] =
        Some(done("fpu_taskswitch", fpu_taskswitch::fpu_taskswitch));
    t[abi::HYPERVISOR_PLATFORM_OP as usize] = Some(partial(
        "platform_op",
        platform_op::platform_op,
        "EFI, microcode, processor power data, hot-plug",
    ));
    t[abi::HYPERVISOR_SET_DEBUGREG as usize] = Some(done("set_debugreg", debugreg::set_debugreg));
    t[abi::HYPERVISOR_GET_DEBUGREG as usize] = Some(done("get_debugreg", debugreg::get_debugreg));
    t[abi::HYPERVISOR_XEN_VERSION as usize] = Some(done("xen_version", xen_version::xen_version));
    t[abi::HYPERVISOR_CONSOLE_IO as usize] = Some(done("console_io", console_io::console_io));
    t[abi::HYPERVISOR_VM_ASSIST as usize] = Some(done("vm_assist", vm_assist::vm_assist));
    t[abi::HYPERVISOR_SET_SEGMENT_BASE as usize] =
        Some(done("set_segment_base", set_segment_base::set_segment_base));
    t[abi::HYPERVISOR_NMI_OP as usize] = Some(done("nmi_op", callback_op::nmi_op));
    t[abi::HYPERVISOR_CALLBACK_OP as usize] = Some(done("callback_op", callback_op::callback_op));
    t[abi::HYPERVISOR_PHYSDEV_OP as usize] = Some(partial(
        "physdev_op",
        physdev_op::physdev_op,
        "version 1 of the EOI map",
    ));
    t[abi::HYPERVISOR_XENPMU_OP as usize] = Some(done("xenpmu_op", xenpmu_op::xenpmu_op));
    t[abi::HYPERVISOR_MULTICALL as usize] = Some(done("multicall", multicall::multicall));
    t[abi::HYPERVISOR_MMU_UPDATE as usize] = Some(done("mmu_update", mmu_update::mmu_update));
    t[abi::HYPERVISOR_MMUEXT_OP as usize] = Some(done("mmuext_op", mmuext_op::mmuext_op));
    t[abi::HYPERVISOR_UPDATE_VA_MAPPING as usize] = Some(done(
        "update_va_mapping",
        update_va_mapping::update_va_mapping,
    ));
    t[abi::HYPERVISOR_UPDATE_VA_MAPPING_OTHERDOMAIN as usize] = Some(done(
        "update_va_mapping_otherdomain",
        update_va_mapping::update_va_mapping_otherdomain,
    ));
    t[abi::HYPERVISOR_MEMORY_OP as usize] = Some(partial(
        "memory_op",
        memory_op::memory_op,
        "virtual NUMA nodes, frames of translated guests",
    ));
    t[abi::HYPERVISOR_ARCH_0 as usize] = Some(partial(
        "mca",
        mca::mca,
        "machine checks themselves: none are logged or injected",
    ));
    t[abi::HYPERVISOR_SET_GDT as usize] = Some(done("set_gdt", set_gdt::set_gdt));
    t[abi::HYPERVISOR_UPDATE_DESCRIPTOR as usize] =
        Some(done("update_descriptor", set_gdt::update_descriptor));
    t[abi::HYPERVISOR_EVENT_CHANNEL_OP_COMPAT as usize] = Some(done(
        "event_channel_op_compat",
        event_channel_op::event_channel_op_compat,
    ));
    t[abi::HYPERVISOR_EVENT_CHANNEL_OP as usize] =
        Some(done("event_channel_op", event_channel_op::event_channel_op));
    t[abi::HYPERVISOR_GRANT_TABLE_OP as usize] = Some(partial(
        "grant_table_op",
        grant_table_op::grant_table_op,
        "version 2, transfer, unmap_and_replace, swap_grant_ref, cache_flush",
    ));
    t[abi::HYPERVISOR_SET_TIMER_OP as usize] = Some(done("set_timer_op", timer::set_timer_op));
    t[abi::HYPERVISOR_VCPU_OP as usize] = Some(partial(
        "vcpu_op",
        vcpu_op::vcpu_op,
        "get_physid (no vCPU is pinned)",
    ));
    t[abi::HYPERVISOR_DOMCTL as usize] = Some(partial(
        "domctl",
        domctl::domctl,
        "devices behind an IOMMU, debuggers, memory sharing, virtual NUMA nodes",
    ));
    t[abi::HYPERVISOR_SYSCTL as usize] = Some(partial(
        "sysctl",
        sysctl::sysctl,
        "trace buffers, performance counters, power management, pools other than 0",
    ));
    t[abi::HYPERVISOR_SCHED_OP as usize] = Some(done("sched_op", sched_op::sched_op));
    #[cfg(all(feature = "bounds", target_os = "none"))]
    {
        t[abi::HYPERVISOR_ARCH_7 as usize] =
            Some(done("longest_stretch", super::stretch::take_longest));
    }
    t
}

const fn done(name: &'static str, handler: Handler) -> Entry {
    Entry {
        name,
        handler,
        state: State::Done,
    }
}

const fn partial(name: &'static str, handler: Handler, missing: &'static str) -> Entry {
    Entry {
        name,
        handler,
        state: State::Partial(missing),
    }
}

/// Logs an absent hypercall, once a domain (numbers of 64 and more count as what is
/// left of them modulo 64).
pub fn note_absent(call: &Call<'_>, number: u64) {
    let bit = 1_u64 << (number & 63);
    if call.domain.absent_noted.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        log::info!(
            "domain {}: hypercall {number} is not implemented",
            call.domain.id.0
        );
    }
}
