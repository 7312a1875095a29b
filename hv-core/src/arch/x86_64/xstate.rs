//! Extended state (x87, SSE, AVX, ...) of the vCPU that is loaded, and XCR0.
#![allow(unsafe_code, reason = "loads and stores the state of the FPU")]

use super::context::CR4_OSXSAVE;
use super::local::local;
use super::speculation;
use crate::arch::fpu::FpuArea;
use crate::arch::xcr0::Xcr0;
use crate::domain::VcpuState;
use core::arch::asm;
use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use x86_64::registers::control::{Cr0, Cr0Flags};

/// The components that all CPUs have and that are switched between guests; all ones before
/// the first CPU was asked.
static COMPONENTS: AtomicU64 = AtomicU64::new(u64::MAX);

/// XCR0 with every component that guests may use.
fn host_xcr0() -> Xcr0 {
    let all = Xcr0::largest(COMPONENTS.load(Ordering::Relaxed));
    if speculation::plan().hide_avx {
        all.min(Xcr0::X87_SSE)
    } else {
        all
    }
}

/// Bytes of an extended-state area that holds every component of [`host_xcr0`].
#[must_use]
pub fn fpu_area_size() -> usize {
    if __cpuid(1).ecx >> 26 & 1 == 0 {
        return 576;
    }
    __cpuid_count(0xd, 0).ecx as usize
}

/// Bits of MXCSR that the CPUs have; any other faults when loaded.
static MXCSR_MASK: AtomicU32 = AtomicU32::new(0);

/// Bits of MXCSR that may be loaded.
#[must_use]
pub fn mxcsr_mask() -> u32 {
    MXCSR_MASK.load(Ordering::Relaxed)
}

/// Whether FXRSTOR and XRSTOR leave the last instruction's addresses as they are when no
/// exception is pending, so that a guest could read another's.
static KEEPS_POINTERS: AtomicBool = AtomicBool::new(false);

/// Finds out what this CPU's FPU does. It may be used (CR0.TS and EM are clear).
pub(super) fn init_cpu() {
    #[repr(align(16))]
    struct Image([u32; 128]);
    let mut image = Image([0; 128]);
    // SAFETY: FXSAVE writes 512 bytes at an aligned address.
    unsafe { asm!("fxsave64 [{}]", in(reg) image.0.as_mut_ptr(), options(nostack)) };
    // At byte 28; 0 means the default. Source: Intel SDM vol. 1, 11.6.6.
    let mask = match image.0[7] {
        0 => 0xffbf,
        mask => mask,
    };
    // What is loaded on one CPU may be loaded on another.
    let all = match MXCSR_MASK.load(Ordering::Relaxed) {
        0 => mask,
        others => others & mask,
    };
    MXCSR_MASK.store(all, Ordering::Relaxed);
    if keeps_pointers() {
        KEEPS_POINTERS.store(true, Ordering::Relaxed);
    }
    if has_xsave() {
        let leaf = __cpuid_count(0xd, 0);
        let has = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
        COMPONENTS.fetch_and(has, Ordering::Relaxed);
        set_xcr0(Xcr0::ALL);
    }
}

/// Asks this CPU for what [`KEEPS_POINTERS`] tells: AMD's without `RstrFpErrPtrs`.
/// Source: AMD APM vol. 3, CPUID `8000_0008`, EBX bit 2; Hygon's CPUs are AMD's.
fn keeps_pointers() -> bool {
    // The middle of "AuthenticAMD" and "HygonGenuine".
    let amd = matches!(&__cpuid(0).edx.to_le_bytes(), b"enti" | b"nGen");
    let told = __cpuid(0x8000_0000).eax >= 0x8000_0008;
    amd && !(told && __cpuid(0x8000_0008).ebx >> 2 & 1 != 0)
}

fn has_xsave() -> bool {
    local().cr4.get() & CR4_OSXSAVE != 0
}

/// Loads XCR0, or as much of it as the CPUs have, unless it is loaded already.
pub fn set_xcr0(value: Xcr0) {
    let raw = value.min(host_xcr0()).raw();
    if !has_xsave() || local().xcr0.get() == raw {
        return;
    }
    // SAFETY: every `Xcr0` up to the CPU's own is one it takes.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") raw as u32, in("edx") (raw >> 32) as u32, options(nomem, nostack));
    }
    local().xcr0.set(raw);
}

/// Stores the FPU's state in `state`.
pub(super) fn save_fpu(state: &mut VcpuState) {
    let area = state.fpu.as_mut_ptr();
    // SAFETY: the area is 64-byte aligned and large enough for all components.
    unsafe {
        asm!("clts", options(nomem, nostack));
        if has_xsave() {
            set_xcr0(Xcr0::ALL);
            asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
        } else {
            asm!("fxsave64 [{}]", in(reg) area, options(nostack));
        }
    }
}

/// Loads the FPU's state from `state`, XCR0 too.
pub(super) fn load_fpu(state: &mut VcpuState) {
    clear_pointers(&state.fpu);
    let area = state.fpu.as_mut_ptr();
    // SAFETY: the area was written by `save_fpu` or by `FpuArea`, which takes from others
    // only what a CPU loads.
    unsafe {
        if has_xsave() {
            set_xcr0(Xcr0::ALL);
            asm!("xrstor64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
            set_xcr0(state.xcr0);
        } else {
            asm!("fxrstor64 [{}]", in(reg) area, options(nostack));
        }
    }
    set_task_switched(state.task_switched);
}

/// Runs `f`, which may change all extended state, while that of the vCPU that is loaded is kept
/// in `state`.
pub(super) fn with_extended_state_saved<R>(state: &mut VcpuState, f: impl FnOnce() -> R) -> R {
    save_fpu(state);
    let result = f();
    load_fpu(state);
    result
}

/// Before `next` is loaded: makes the last vCPU's instruction and data pointers unreadable,
/// where loading does not replace them. Source: AMD APM vol. 2, 11.4.4 (FXRSTOR); Xen's
/// advisory 52.
fn clear_pointers(next: &FpuArea) {
    if !KEEPS_POINTERS.load(Ordering::Relaxed) || next.has_pending_exception() {
        return;
    }
    let zero = 0_u32;
    // SAFETY: the state that is changed is about to be replaced. FNCLEX takes exceptions
    // away that would fault, FFREE makes room on the stack, and FILD sets the pointers.
    unsafe {
        asm!("clts", "fnclex", "ffree st(7)", "fild dword ptr [{}]", in(reg) &raw const zero, options(nostack));
    }
}

/// Sets or clears CR0.TS, so that the guest's next FPU use traps or not.
pub fn set_task_switched(on: bool) {
    // SAFETY: the hypervisor itself uses no FPU.
    unsafe {
        if on {
            Cr0::write(Cr0::read() | Cr0Flags::TASK_SWITCHED);
        } else {
            asm!("clts", options(nomem, nostack));
        }
    }
}
