//! Exceptions as the CPU reports them: fault address, debug status, the exception
//! table, and the end when the hypervisor itself faults.
#![allow(unsafe_code, reason = "reads and writes exception-related registers")]

use super::local::{cpu_id, local};
use crate::arch::regs::{GuestRegs, RFLAGS_RF, RFLAGS_TF};
use core::arch::asm;
use core::sync::atomic::Ordering;

/// An instruction of ours that may fault on a guest's value, and where to go on.
#[repr(C)]
struct Fixup {
    at: u64,
    resume: u64,
}

unsafe extern "C" {
    /// Bounds of the exception table, laid out by the linker script.
    static __ex_table_start: Fixup;
    static __ex_table_end: Fixup;
}

/// Where to go on after a fault at `rip`, if the exception table knows.
#[must_use]
pub fn exception_fixup(rip: u64) -> Option<u64> {
    let start = &raw const __ex_table_start;
    let end = &raw const __ex_table_end;
    let count = (end as usize - start as usize) / size_of::<Fixup>();
    // SAFETY: the linker lays the entries out between the two symbols.
    let table = unsafe { core::slice::from_raw_parts(start, count) };
    table.iter().find(|f| f.at == rip).map(|f| f.resume)
}

/// The address of the last page fault.
#[must_use]
pub fn fault_address() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// DR6's status bits, cleared for the next exception.
#[must_use]
pub fn take_dr6() -> u64 {
    const RESERVED_ONES: u64 = 0xffff_0ff0;
    let value: u64;
    // SAFETY: reads and resets a status register.
    unsafe {
        asm!("mov {}, dr6", out(reg) value, options(nomem, nostack, preserves_flags));
        asm!("mov dr6, {}", in(reg) RESERVED_ONES, options(nomem, nostack, preserves_flags));
    }
    value & !RESERVED_ONES
}

/// A debug exception while the hypervisor ran, which a guest caused: a data breakpoint whose
/// report MOV SS put off until a system call had changed to ring 0 (Intel SDM vol. 3, 6.8.3),
/// or the single steps of a SYSENTER with TF. It means nothing; the hypervisor goes on without
/// TF as soon as entry code has saved the guest's.
pub fn debug_in_hypervisor(regs: &mut GuestRegs) {
    let _of_no_vcpu = take_dr6();
    let entry = &raw const super::entry::oxen_sysenter_entry as u64;
    let saved = &raw const super::entry::oxen_sysenter_saved as u64;
    if !(entry..saved).contains(&regs.rip) {
        regs.rflags &= !RFLAGS_TF;
    }
    // Guests cannot set instruction breakpoints here. If one hit all the same, it would hit
    // again without end.
    regs.rflags |= RFLAGS_RF;
}

/// Opens interrupts for a moment, so that what is pending is taken. No lock is held but that of the
/// loaded vCPU's state.
pub fn let_interrupts_in() {
    debug_assert!(
        super::local::with_held_locks(|held| held[1..].iter().all(|n| *n == 0)),
        "interrupts are let in with a lock held"
    );
    super::stretch::end();
    // SAFETY: handlers run on this stack and come back; see `trap::host_trap`.
    unsafe { asm!("sti", "nop", "cli", options(nostack)) };
    super::stretch::begin();
}

/// Lets interrupts in, and says whether a long operation should stop here.
#[must_use]
pub fn preempt_point() -> bool {
    let_interrupts_in();
    if super::local::work_pending() {
        return true;
    }
    // SAFETY: no loan is taken: this only looks at the vCPU's atomics.
    let current = unsafe { &*local().current.get() };
    current.as_ref().is_some_and(|c| c.vcpu.upcall_due())
}

/// Reads an MSR; `None` if the CPU refuses.
#[must_use]
pub fn read_msr_checked(msr: u32) -> Option<u64> {
    let (low, high, ok): (u32, u32, u32);
    // SAFETY: a fault is resumed at label 3 by the exception table; reading an MSR has
    // no effect on memory.
    unsafe {
        asm!(
            "2: rdmsr",
            "mov {ok:e}, 1",
            "jmp 4f",
            "3: xor {ok:e}, {ok:e}",
            "xor eax, eax",
            "xor edx, edx",
            "4:",
            ".pushsection .ex_table, \"a\"",
            ".quad 2b, 3b",
            ".popsection",
            ok = out(reg) ok,
            in("ecx") msr,
            out("eax") low,
            out("edx") high,
            options(nostack),
        );
    }
    (ok != 0).then_some(u64::from(high) << 32 | u64::from(low))
}

/// Writes an MSR; `false` if the CPU refuses. For registers that change nothing of what Rust counts
/// on.
pub(super) fn write_msr_checked(msr: u32, value: u64) -> bool {
    let ok: u32;
    // SAFETY: a fault is resumed at label 3 by the exception table; the registers written are as
    // the function's contract says.
    unsafe {
        asm!(
            "2: wrmsr",
            "mov {ok:e}, 1",
            "jmp 4f",
            "3: xor {ok:e}, {ok:e}",
            "4:",
            ".pushsection .ex_table, \"a\"",
            ".quad 2b, 3b",
            ".popsection",
            ok = out(reg) ok,
            in("ecx") msr,
            in("eax") value as u32,
            in("edx") (value >> 32) as u32,
            options(nostack),
        );
    }
    ok != 0
}

/// A hypervisor fault nobody expected: prints the registers and ends everything.
pub fn die_of_exception(regs: &GuestRegs) -> ! {
    let r = regs;
    panic!(
        "exception {} error {:x} on CPU {} at {:04x}:{}\n\
         rsp {:04x}:{:016x} rflags {:x} cr2 {:016x}\n\
         rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}\n\
         rsi {:016x} rdi {:016x} rbp {:016x} r8  {:016x}\n\
         r9  {:016x} r10 {:016x} r11 {:016x} r12 {:016x}\n\
         r13 {:016x} r14 {:016x} r15 {:016x}",
        r.vector,
        r.error_code,
        cpu_id().0,
        r.cs,
        crate::arch::symbols::Name(r.rip),
        r.ss,
        r.rsp,
        r.rflags,
        fault_address(),
        r.rax,
        r.rbx,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        r.rbp,
        r.r8,
        r.r9,
        r.r10,
        r.r11,
        r.r12,
        r.r13,
        r.r14,
        r.r15
    );
}

/// A non-maskable interrupt: another CPU panicked and wants this one to stop, or the
/// machine reports an error. It may come anywhere, with any lock held, so it is only noted
/// ([`report_nmis`]).
pub fn handle_nmi(regs: &GuestRegs) {
    if super::stop_requested() {
        super::halt_forever();
    }
    let local = local();
    local.nmi_rip.store(regs.rip, Ordering::Relaxed);
    local.nmis.fetch_add(1, Ordering::Relaxed);
    super::local::raise(local.id, super::local::WORK_NMI);
}

/// Logs the NMIs that this CPU has noted.
pub fn report_nmis() {
    let local = local();
    let count = local.nmis.swap(0, Ordering::Relaxed);
    if count != 0 {
        let rip = local.nmi_rip.load(Ordering::Relaxed);
        log::warn!("CPU {}: {count} NMI, the last at {rip:#x}", local.id.0);
    }
}
