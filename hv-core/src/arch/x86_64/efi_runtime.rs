//! Calls of EFI runtime services.
//!
//! `SetVirtualAddressMap` was never called, so services run with their memory mapped one to one,
//! in a root of their own that holds the hypervisor's slots too. Interrupts are off. The guest's
//! extended state is in the registers that the services use, so it is saved before and loaded
//! afterwards. While a service runs, this CPU uses no page table of a guest and takes no part in
//! flushes. A service that faults is left where it is: its state is then unknown, so none is
//! called again.
//!
//! Source: UEFI Specification 2.10, 2.3.4 (calling convention, state of the CPU), 8.1.
#![allow(unsafe_code, reason = "calls firmware")]

use super::{cpu_id, tlb, xstate};
use crate::addr::Mfn;
use crate::arch::efi::{Service, Services};
use crate::arch::regs::GuestRegs;
use crate::domain::VcpuState;
use crate::sync::{Level, Lock, Once};
use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// What is needed to call services.
#[derive(Debug)]
struct Runtime {
    root: Mfn,
    services: Services,
}

static RUNTIME: Once<Runtime> = Once::new();

/// A service has faulted.
static BROKEN: AtomicBool = AtomicBool::new(false);
/// One service is called at a time. Source: UEFI 2.10, table 8.1.
static CALLS: Lock<()> = Lock::new(Level::Device, ());

/// The CPU that is in a service; [`NOBODY`] if none is.
static CALLER: AtomicU32 = AtomicU32::new(NOBODY);
/// Where its stack pointer was.
static CALLER_STACK: AtomicU64 = AtomicU64::new(0);

const NOBODY: u32 = u32::MAX;

/// Status: the hardware failed. Source: UEFI 2.10, appendix D.
const DEVICE_ERROR: u64 = 1 << 63 | 7;
/// Status: the service is not there.
const UNSUPPORTED: u64 = 1 << 63 | 3;
/// DR7 with every breakpoint off. Source: Intel SDM volume 3, 17.2.4.
const NO_BREAKPOINTS: u64 = 0x400;
/// MXCSR at a call. Source: UEFI 2.10, 2.3.4.
const MXCSR: u32 = 0x1f80;
/// x87 control word at a call: likewise.
const X87_CONTROL: u16 = 0x037f;

global_asm!(
    // (rdi: code, rsi: five arguments, rdx: where to note the stack pointer); answers the status
    // in rax, and in rdx whether it faulted.
    ".globl oxen_efi_call",
    "oxen_efi_call:",
    "push rbp",
    "push rbx",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "mov [rdx], rsp",
    // Four homes for arguments in registers, the fifth argument, 16 byte alignment.
    "sub rsp, 56",
    "mov rax, rdi",
    "mov r10, rsi",
    "mov rcx, [r10]",
    "mov rdx, [r10 + 8]",
    "mov r8, [r10 + 16]",
    "mov r9, [r10 + 24]",
    "mov r11, [r10 + 32]",
    "mov [rsp + 32], r11",
    "xor ebp, ebp",
    "call rax",
    "add rsp, 56",
    "xor edx, edx",
    "2: cli",
    "cld",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbx",
    "pop rbp",
    "ret",
    // Where a fault goes on, with the noted stack pointer.
    ".globl oxen_efi_fault",
    "oxen_efi_fault:",
    "mov edx, 1",
    "jmp 2b",
);

/// What a call came to.
#[repr(C)]
struct Outcome {
    status: u64,
    faulted: u64,
}

unsafe extern "C" {
    fn oxen_efi_call(code: u64, args: *const [u64; 5], stack: *mut u64) -> Outcome;
    static oxen_efi_fault: u8;
    static __text_start: u8;
    static __text_end: u8;
}

/// Makes the services callable. The first call counts.
///
/// # Safety
/// `root` maps the hypervisor as its own root does, and one to one, for good, all memory that
/// firmware uses for `services`.
pub unsafe fn install(root: Mfn, services: Services) {
    RUNTIME.call_once(|| Runtime { root, services });
}

/// The table of services, if they can be called.
#[must_use]
pub fn services() -> Option<&'static Services> {
    let runtime = RUNTIME.get()?;
    (!BROKEN.load(Relaxed)).then_some(&runtime.services)
}

/// Calls a service for the vCPU whose state is `state` and whose extended state is loaded.
/// Answers its status.
///
/// # Safety
/// The arguments are what the service takes: what they point to is valid for as much as it reads
/// and writes, and is the hypervisor's.
pub unsafe fn call(state: &mut VcpuState, service: Service, args: &[u64; 5]) -> u64 {
    let Some(runtime) = RUNTIME.get() else {
        return UNSUPPORTED;
    };
    let Some(code) = runtime.services.address(service) else {
        return UNSUPPORTED;
    };
    let _one_at_a_time = CALLS.lock();
    if BROKEN.load(Relaxed) {
        return DEVICE_ERROR;
    }
    let outcome = xstate::with_extended_state_saved(state, || {
        // SAFETY: the caller vouches for the arguments, `install` for the rest; the guest's
        // extended state is saved.
        unsafe { enter(runtime.root, code, args) }
    });
    if outcome.faulted != 0 {
        BROKEN.store(true, Relaxed);
        log::error!("EFI: a runtime service faulted; none will be called again");
        return DEVICE_ERROR;
    }
    outcome.status
}

/// Calls `code` on `root`.
///
/// # Safety
/// As [`call`]; the registers of extended state are free.
unsafe fn enter(root: Mfn, code: u64, args: &[u64; 5]) -> Outcome {
    let (cr3, dr7): (u64, u64);
    // SAFETY: reads and sets registers; breakpoints are the guest's, and come back below.
    unsafe {
        asm!("mov {}, cr3", out(reg) cr3, options(nomem, nostack, preserves_flags));
        asm!("mov {}, dr7", out(reg) dr7, options(nomem, nostack, preserves_flags));
        asm!("mov dr7, {}", in(reg) NO_BREAKPOINTS, options(nomem, nostack, preserves_flags));
        asm!("fninit", "fldcw [{}]", "ldmxcsr [{}]",
            in(reg) &X87_CONTROL, in(reg) &MXCSR, options(readonly, nostack));
        tlb::load_cr3(root);
    }
    tlb::leave_guest_root();
    CALLER.store(u32::from(cpu_id().0), Relaxed);
    // SAFETY: the caller's promise. The stack is the hypervisor's, which `root` maps.
    let outcome = unsafe { oxen_efi_call(code, args, CALLER_STACK.as_ptr()) };
    CALLER.store(NOBODY, Relaxed);
    tlb::enter_guest_root();
    // SAFETY: the root that was loaded before, which the vCPU or the host keeps.
    unsafe {
        tlb::load_cr3(Mfn::new(cr3 >> 12));
        asm!("mov dr7, {}", in(reg) dr7, options(nomem, nostack, preserves_flags));
    }
    outcome
}

/// Leaves a service that faulted, at `regs`: the caller of it goes on. `false`: the fault was not
/// in a service.
#[must_use]
pub fn leave_faulty(regs: &mut GuestRegs) -> bool {
    let ours = (&raw const __text_start) as u64..(&raw const __text_end) as u64;
    if CALLER.load(Relaxed) != u32::from(cpu_id().0) || ours.contains(&regs.rip) {
        return false;
    }
    log::error!(
        "EFI: exception {} in a runtime service at {:#x}, error {:#x}, address {:#x}",
        regs.vector,
        regs.rip,
        regs.error_code,
        super::fault_address()
    );
    regs.rip = (&raw const oxen_efi_fault) as u64;
    regs.rsp = CALLER_STACK.load(Relaxed);
    true
}
