//! Carries out the plan of `arch::speculation` on this machine's CPUs.
//!
//! `SPEC_CTRL` is written here and by entry code only.
#![allow(
    unsafe_code,
    reason = "writes MSRs that CPUID promises; sets the entry data"
)]

use super::faults::{read_msr_checked, write_msr_checked};
use super::local;
use crate::addr::CpuId;
use crate::arch::speculation::bits::{msr, pred_cmd};
use crate::arch::speculation::{
    Choices, Facts, Plan, Shown, SpecCtrl, Surroundings, Vendor, decide, idle, leave,
    needs_barrier, report,
};
use crate::sync::Once;
use core::arch::asm;
use core::arch::x86_64::__cpuid_count;

/// What was found and decided, once for all CPUs.
static DECIDED: Once<(Facts, Plan)> = Once::new();

/// Asks the boot CPU and decides. Before another CPU starts and before any guest; faults can be
/// handled already. `smt`: cores have several threads; `emulated`: QEMU's TCG is beneath.
pub fn choose(choices: &Choices, smt: bool, emulated: bool) {
    DECIDED.call_once(|| {
        let smep = super::features::protection() & 1 << 20 != 0;
        let mut around = Surroundings {
            smt,
            smep,
            sbpb: false,
            emulated,
        };
        let read = |around| Facts::read(cpuid, read_msr_checked, microcode(), around);
        let facts = read(around);
        if facts.is_amd() && facts.family == 0x19 && !facts.virtualised() {
            // Newer microcode of Zen 3 and 4 has it, and no CPUID bit says so.
            around.sbpb = write_msr_checked(msr::PRED_CMD, pred_cmd::SBPB);
        }
        let facts = read(around);
        (facts, decide(&facts, choices))
    });
}

fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let r = __cpuid_count(leaf, subleaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// Microcode revision. Source: AMD APM volume 2, appendix A.
fn microcode() -> u32 {
    let [_, b, c, d] = cpuid(0, 0);
    let mut name = [0; 12];
    for (part, word) in name.chunks_exact_mut(4).zip([b, d, c]) {
        part.copy_from_slice(&word.to_le_bytes());
    }
    if Vendor::of(&name) == Vendor::Intel {
        super::features::intel_microcode()
    } else {
        read_msr_checked(msr::MICROCODE).unwrap_or(0) as u32
    }
}

/// The plan.
///
/// # Panics
/// Before [`choose`].
#[must_use]
pub fn plan() -> &'static Plan {
    &DECIDED.get().expect("speculation::choose ran").1
}

/// What guests are told.
#[must_use]
pub fn shown() -> Shown {
    let (facts, plan) = DECIDED.get().expect("speculation::choose ran");
    Shown::new(facts, plan)
}

/// Writes to the log what the CPU has and what is done.
pub fn log() {
    let (facts, plan) = DECIDED.get().expect("speculation::choose ran");
    report(facts, plan, &mut |line| log::info!("{line}"));
    for warning in &plan.warnings {
        log::warn!("{}", warning.text());
    }
}

/// Whether entry code has something to do when it comes from a guest.
pub(super) fn enters_guarded() -> bool {
    DECIDED
        .get()
        .is_some_and(|(_, plan)| plan.enter | plan.enter_dom0 != 0)
}

/// Does on this CPU what is to be done once, and tells its entry code of the rest. Before its first
/// guest.
pub fn start_cpu() {
    let (_, plan) = DECIDED.get().expect("speculation::choose ran");
    for change in &plan.changes {
        let done = read_msr_checked(change.msr).is_some_and(|old| {
            let new = old & !change.clear | change.set;
            old == new
                || write_msr_checked(change.msr, new) && read_msr_checked(change.msr) == Some(new)
        });
        if !done {
            let cpu = local::cpu_id().0;
            log::warn!(
                "CPU {cpu} refuses a change of register {:#x}: {}",
                change.msr,
                change.what
            );
        }
    }
    if plan.spec_ctrl != SpecCtrl::Absent && !write_msr_checked(msr::SPEC_CTRL, plan.value) {
        log::warn!(
            "CPU {} refuses SPEC_CTRL={:#x}",
            local::cpu_id().0,
            plan.value
        );
    }
    let data = local::data();
    // SAFETY: this CPU's own data; entry code reads it from the next entry on.
    unsafe {
        (*data).spec_ctrl = plan.value as u32;
        (*data).guest_spec_ctrl = plan.guest_value as u32;
        (*data).leave = plan.leave;
        (*data).enter = plan.enter | plan.enter_dom0;
        (*data).selector = super::descriptors::HYPERVISOR_SS.into();
    }
}

/// A vCPU of another domain, or another vCPU, is being loaded: what the last one taught this CPU's
/// branch prediction is forgotten, and entries from now on are that domain's. `who` names the vCPU
/// among all that ever were; `last_cpu` is where it was loaded before.
pub(super) fn enter_vcpu(who: (u64, u16), last_cpu: Option<CpuId>, dom0: bool, spec_ctrl: u64) {
    let plan = plan();
    let (last, here) = (local::local().last_vcpu.replace(who), local::cpu_id());
    if plan.ibpb_between_domains && needs_barrier(last, who, last_cpu, here) {
        write_msr_checked(msr::PRED_CMD, pred_cmd::IBPB);
        if plan.ibpb_keeps_returns {
            refill_returns();
        }
    }
    // SAFETY: this CPU's own data.
    unsafe { (*local::data()).enter = plan.enter_from(dom0) };
    load_guest_value(spec_ctrl);
}

/// The value that the guest which is loaded wants in `SPEC_CTRL`; entry code loads it on the way out.
pub fn load_guest_value(wanted: u64) {
    // SAFETY: this CPU's own data.
    unsafe { (*local::data()).guest_spec_ctrl = (wanted | plan().guest_value) as u32 };
}

/// Makes this CPU's branch prediction forget, for a guest that asks for it. `command` holds bits
/// that the CPU has.
pub fn command_prediction(command: u64) {
    write_msr_checked(msr::PRED_CMD, command);
}

/// Whether entry code may answer system calls by itself: not if a register of the guest's has to be
/// exchanged on the way.
pub(super) fn allows_fast_ways() -> bool {
    // SAFETY: this CPU's own data.
    unsafe { (*local::data()).leave & leave::SPEC_CTRL == 0 }
}

/// Gives up what the sibling thread would suffer from, or find, while this one halts. The caller
/// halts next: no return is safe after this.
#[inline(always)]
pub(super) fn before_halt() {
    let idle = plan().idle;
    if idle & idle::SPEC_CTRL != 0 {
        set_spec_ctrl(0);
    }
    if idle & idle::VERW != 0 {
        let selector: u16 = super::descriptors::HYPERVISOR_SS;
        // SAFETY: changes ZF only.
        unsafe { asm!("verw word ptr [{}]", in(reg) &raw const selector, options(nostack)) };
    }
    if idle & idle::RETURNS != 0 {
        refill_returns();
    }
}

/// Undoes [`before_halt`]. (The interrupt that ended the halt has done so, if there was one.)
#[inline(always)]
pub(super) fn after_halt() {
    if plan().idle & idle::SPEC_CTRL != 0 {
        set_spec_ctrl(plan().value);
    }
}

#[inline(always)]
fn set_spec_ctrl(value: u64) {
    // SAFETY: the plan uses the register only where CPUID promises it.
    unsafe {
        asm!("wrmsr", in("ecx") msr::SPEC_CTRL, in("eax") value as u32, in("edx") 0, options(nostack, preserves_flags));
    }
}

/// Fills the return stack with addresses that lead nowhere.
#[inline(always)]
fn refill_returns() {
    // SAFETY: the calls write below the stack pointer, which is put back; no red zone is in use.
    unsafe {
        asm!(
            "mov {stack}, rsp",
            "2:",
            "call 3f",
            "int3",
            "3:",
            "call 4f",
            "int3",
            "4:",
            "sub {rounds:e}, 1",
            "jnz 2b",
            "mov rsp, {stack}",
            stack = out(reg) _,
            rounds = inout(reg) 16_u32 => _,
        );
    }
}
