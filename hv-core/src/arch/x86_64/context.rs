//! Loading and unloading a vCPU's state: roots, segment bases and selectors, GDT and
//! LDT windows, extended state, debug registers.
//!
//! A vCPU is loaded on at most one CPU: the one that holds the guard of its
//! [`VcpuState`]. Loading and unloading happen with no loan of the state out (see
//! `local::lend`).
#![allow(
    unsafe_code,
    reason = "writes control registers, MSRs and segment registers"
)]

use super::cpu_area::{self, page_va};
use super::descriptors;
use super::local::{Current, local};
use super::xstate::{self, load_fpu, save_fpu};
use super::{speculation, tlb};
use crate::addr::{DomId, Mfn};
use crate::arch::regs::GuestRegs;
use crate::domain::{Domain, Vcpu, VcpuState};
use crate::fallible::Arc;
use crate::mm::host_map;
use crate::sync::Guard;
use core::arch::asm;
use core::sync::atomic::AtomicU64;
use x86_64::registers::control::{Cr0, Cr0Flags};
use x86_64::registers::model_specific::Msr;

const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
const TSC_AUX: u32 = 0xc000_0103;

/// CR4 bits the guest controls: TSD, DE, FSGSBASE (OSXSAVE is always on if the CPU
/// has it). Source: Intel SDM vol. 3, 2.5.
const CR4_GUEST: u64 = 1 << 2 | 1 << 3 | 1 << 16;
/// CR4.OSXSAVE.
pub(super) const CR4_OSXSAVE: u64 = 1 << 18;

fn read_cr4() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Sets up this CPU's control registers for running guests.
///
/// # Safety
/// Runs once on each CPU, on the hypervisor's root, before a vCPU is loaded.
pub unsafe fn init_cpu() {
    let leaf1 = core::arch::x86_64::__cpuid(1);
    let has_xsave = leaf1.ecx >> 26 & 1 != 0;
    let mut cr4 = read_cr4();
    cr4 |= 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10; // PAE MCE OSFXSR OSXMMEXCPT
    if has_xsave {
        cr4 |= CR4_OSXSAVE;
    }
    cr4 |= super::features::protection();
    // All of it, and the same on every CPU: what a CPU had before came from wherever it started.
    // EM and TS off: guests use the FPU directly. AM on, as a PV guest on Xen has it.
    let cr0 = Cr0Flags::PAGING
        | Cr0Flags::ALIGNMENT_MASK
        | Cr0Flags::WRITE_PROTECT
        | Cr0Flags::NUMERIC_ERROR
        | Cr0Flags::EXTENSION_TYPE
        | Cr0Flags::MONITOR_COPROCESSOR
        | Cr0Flags::PROTECTED_MODE_ENABLE;
    // SAFETY: only bits the CPU has are set; they suit the hypervisor, which uses no FPU itself,
    // and alignment is checked in ring 3 only.
    unsafe {
        asm!("mov cr4, {}", in(reg) cr4, options(nostack));
        Cr0::write_raw(cr0.bits());
    }
    local().cr4.set(cr4);
    xstate::init_cpu();
    // Firmware and loaders may have used them.
    // SAFETY: no breakpoint is on afterwards; `CpuLocal::debug` starts with these values.
    unsafe {
        asm!("mov dr7, {}", in(reg) 0x400_u64, options(nomem, nostack));
        asm!("mov dr0, {0}", "mov dr1, {0}", "mov dr2, {0}", "mov dr3, {0}", in(reg) 0_u64, options(nomem, nostack));
    }
}

/// Loads the guest-controlled CR4 bits.
pub fn load_guest_cr4(bits: u64) {
    let wanted = local().cr4.get() & !CR4_GUEST | bits & CR4_GUEST;
    if wanted != local().cr4.get() {
        // SAFETY: CPUID checks on the guest's write let through what the CPU has.
        unsafe { asm!("mov cr4, {}", in(reg) wanted, options(nostack)) };
        local().cr4.set(wanted);
    }
}

/// Reads the FS base of the loaded vCPU.
#[must_use]
pub fn fs_base() -> u64 {
    // SAFETY: the MSR exists in long mode.
    unsafe { Msr::new(FS_BASE).read() }
}

/// Reads the active GS base of the loaded vCPU.
#[must_use]
pub fn gs_base() -> u64 {
    // SAFETY: as above.
    unsafe { Msr::new(GS_BASE).read() }
}

/// Reads the inactive GS base of the loaded vCPU.
#[must_use]
pub fn inactive_gs_base() -> u64 {
    // SAFETY: as above.
    unsafe { Msr::new(KERNEL_GS_BASE).read() }
}

/// Sets the FS base. `base` is canonical.
pub fn set_fs_base(base: u64) {
    // SAFETY: canonical (caller); the hypervisor does not use FS.
    unsafe { Msr::new(FS_BASE).write(base) };
}

/// Sets the active GS base. `base` is canonical.
pub fn set_gs_base(base: u64) {
    // SAFETY: as above.
    unsafe { Msr::new(GS_BASE).write(base) };
}

/// Sets the inactive GS base. `base` is canonical.
pub fn set_inactive_gs_base(base: u64) {
    // SAFETY: as above.
    unsafe { Msr::new(KERNEL_GS_BASE).write(base) };
}

/// Sets TSC_AUX where the CPU has it.
pub fn set_tsc_aux(value: u32) {
    let has_rdtscp = core::arch::x86_64::__cpuid(0x8000_0001).edx >> 27 & 1 != 0;
    if has_rdtscp {
        // SAFETY: the MSR exists.
        unsafe { Msr::new(TSC_AUX).write(u64::from(value)) };
    }
}

/// Goes from guest user to guest kernel or back: the other GS base and the other
/// root. The caller has made sure that the root exists.
#[inline]
pub fn toggle_mode(state: &mut VcpuState) {
    state.kernel_mode = !state.kernel_mode;
    // SAFETY: the hypervisor does not use GS.
    unsafe { asm!("swapgs", options(nomem, nostack, preserves_flags)) };
    load_mode_root(state);
}

/// Loads the root of the mode the vCPU is in, which is another than before: notes the
/// flush that is.
pub fn load_vcpu_root(state: &VcpuState) {
    tlb::note_flush();
    load_mode_root(state);
}

/// As [`load_vcpu_root`] on the hot path between modes, where the flush that comes with
/// it is nothing to rely on.
#[inline]
fn load_mode_root(state: &VcpuState) {
    let root = if state.kernel_mode {
        state.kernel_root
    } else {
        state.user_root
    };
    if let Some(root) = root {
        load_cr3(root);
    }
}

/// Loads a guest root: at once, or on the way out if guests are isolated.
#[inline]
fn load_cr3(root: Mfn) {
    let data = super::local::data();
    let cr3 = root.addr().raw();
    // SAFETY: `root` is a validated L4 (or the hypervisor's own) that holds the
    // hypervisor's slots, kept by the vCPU's reference.
    unsafe {
        if (*data).host_cr3 == 0 {
            asm!("mov cr3, {}", in(reg) cr3, options(nostack, preserves_flags));
        } else {
            (*data).guest_cr3 = cr3;
        }
    }
}

/// Makes the GDT window show the vCPU's frames.
pub fn load_gdt(state: &VcpuState) {
    let mut mapped = local().gdt_mapped.get();
    if mapped == state.gdt_frames {
        return;
    }
    for (n, (now, want)) in mapped.iter_mut().zip(state.gdt_frames).enumerate() {
        if *now != want {
            let va = page_va(local().id, cpu_area::GDT_PAGE + n as u64);
            // SAFETY: this CPU's own window; the vCPU's reference keeps the frame.
            unsafe { host_map::set_window(va, Some(want.unwrap_or_else(super::area::zero_frame))) };
            *now = want;
        }
    }
    local().gdt_mapped.set(mapped);
}

/// Loads the LDT descriptor and shows in its window what the vCPU has used of its LDT;
/// other pages come by page fault.
pub fn load_ldt(state: &VcpuState) {
    let cpu = local().id;
    let mut mapped = local().ldt_mapped.replace(0);
    while mapped != 0 {
        let n = mapped.trailing_zeros();
        mapped &= mapped - 1;
        // SAFETY: this CPU's own window.
        unsafe { host_map::set_window(page_va(cpu, cpu_area::LDT_PAGE + u64::from(n)), None) };
    }
    // What was looked up before is shown at once: selectors in use lie there, and they
    // are loaded with nobody to answer a page fault.
    for (n, frame) in state.ldt_frames.iter().enumerate() {
        if let Some(frame) = frame {
            map_ldt_page(n as u16, *frame);
        }
    }
    // SAFETY: this CPU runs in its area.
    unsafe { descriptors::load_ldt(cpu, state.ldt_entries) };
}

/// Shows `frame` as page `n` of the LDT window.
pub fn map_ldt_page(n: u16, frame: Mfn) {
    // SAFETY: this CPU's own window; the vCPU's reference keeps the frame.
    unsafe {
        host_map::set_window(
            page_va(local().id, cpu_area::LDT_PAGE + u64::from(n)),
            Some(frame),
        );
    };
    local().ldt_mapped.set(local().ldt_mapped.get() | 1 << n);
}

/// Page of this CPU's LDT window that `va` lies in.
#[must_use]
pub fn ldt_window_page(va: u64) -> Option<u16> {
    let offset = va.checked_sub(page_va(local().id, cpu_area::LDT_PAGE))?;
    let page = offset / 4096;
    (page < cpu_area::LDT_PAGES).then_some(page as u16)
}

/// Loads the debug registers. Addresses too while no breakpoint is on: the guest may turn one
/// on later, and the CPU reports in DR6 that one is met even while it is off (Intel SDM vol. 3,
/// 18.2.3), so those of another guest must not stay.
pub fn load_debug(state: &VcpuState) {
    for register in [0, 1, 2, 3, 7] {
        set_debug_register(register, state.debug[usize::from(register)]);
    }
}

/// Loads one debug register (0 to 3, 6 or 7), whose value was checked, unless it is loaded.
/// DR6 is the CPU's report and never loaded.
pub fn set_debug_register(register: u8, value: u64) {
    let slot = &local().debug[usize::from(register & 7)];
    if slot.replace(value) == value {
        return;
    }
    // SAFETY: addresses outside the hypervisor, DR7 without GD.
    unsafe {
        match register {
            0 => asm!("mov dr0, {}", in(reg) value, options(nomem, nostack)),
            1 => asm!("mov dr1, {}", in(reg) value, options(nomem, nostack)),
            2 => asm!("mov dr2, {}", in(reg) value, options(nomem, nostack)),
            3 => asm!("mov dr3, {}", in(reg) value, options(nomem, nostack)),
            7 => asm!("mov dr7, {}", in(reg) value, options(nomem, nostack)),
            _ => {}
        }
    }
}

/// Writes back and drops the cached lines of a frame, on all CPUs.
///
/// A line is 64 bytes on every 64-bit CPU. The fences order it with stores before it and with
/// loads after it; on some AMD CPUs only they do. Source: Intel SDM vol. 2, CLFLUSH; AMD APM
/// vol. 3, CLFLUSH.
pub fn flush_cache(frame: &[AtomicU64; 512]) {
    // SAFETY: the lines are those of the frame; what they hold does not change.
    unsafe {
        asm!("mfence", options(nostack, preserves_flags));
        for line in frame.chunks(64 / size_of::<u64>()) {
            asm!("clflush [{}]", in(reg) line.as_ptr(), options(nostack, preserves_flags));
        }
        asm!("mfence", options(nostack, preserves_flags));
    }
}

/// Writes back and empties the caches.
pub fn wbinvd() {
    // SAFETY: slow, otherwise harmless.
    unsafe { asm!("wbinvd", options(nostack, preserves_flags)) };
}

/// Executes CPUID: `eax ebx ecx edx`.
#[must_use]
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let r = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

/// Loads a guest selector; a fault loads null instead and returns `false`.
macro_rules! load_selector {
    ($name:ident, $reg:literal) => {
        fn $name(selector: u16) -> bool {
            let ok: u32;
            // SAFETY: a faulting load is resumed at label 3 by the exception table.
            unsafe {
                asm!(
                    concat!("2: mov ", $reg, ", {sel:x}"),
                    "mov {ok:e}, 1",
                    "jmp 4f",
                    "3: xor {ok:e}, {ok:e}",
                    concat!("mov ", $reg, ", {ok:x}"),
                    "4:",
                    ".pushsection .ex_table, \"a\"",
                    ".quad 2b, 3b",
                    ".popsection",
                    sel = in(reg) selector,
                    ok = out(reg) ok,
                    options(nostack),
                );
            }
            ok != 0
        }
    };
}
load_selector!(load_ds, "ds");
load_selector!(load_es, "es");
load_selector!(load_fs, "fs");
load_selector!(load_gs, "gs");

/// Loads `selector` into the *inactive* GS (the user's, while the kernel runs),
/// keeping the active base. A bad selector loads null.
pub fn load_user_gs(selector: u16) {
    // SAFETY: the hypervisor does not use GS; swapped back at once.
    unsafe { asm!("swapgs", options(nomem, nostack, preserves_flags)) };
    let _ = load_gs(selector);
    // SAFETY: as above.
    unsafe { asm!("swapgs", options(nomem, nostack, preserves_flags)) };
}

fn selectors() -> [u16; 4] {
    let (ds, es, fs, gs): (u16, u16, u16, u16);
    // SAFETY: reads registers.
    unsafe {
        asm!("mov {0:x}, ds", "mov {1:x}, es", "mov {2:x}, fs", "mov {3:x}, gs",
            out(reg) ds, out(reg) es, out(reg) fs, out(reg) gs, options(nomem, nostack, preserves_flags));
    }
    [ds, es, fs, gs]
}

/// Loads everything of a vCPU on this CPU but its general registers, which it puts
/// into the entry frame. Returns `false` if a selector was bad (the failsafe
/// callback is due).
///
/// # Panics
/// If a vCPU is loaded already.
pub fn load(domain: Arc<Domain>, vcpu: Arc<Vcpu>, state: Guard<'_, VcpuState>) -> bool {
    // SAFETY: the guard points into `vcpu`, which is kept beside it and dropped after.
    let mut state: Guard<'static, VcpuState> = unsafe { core::mem::transmute(state) };
    let who = (domain.serial, vcpu.id.0);
    let last_cpu = state.last_cpu.replace(local().id);
    speculation::enter_vcpu(who, last_cpu, domain.id == DomId(0), state.spec_ctrl);
    // Others must flush this CPU from before it sees the guest's tables.
    tlb::enter_guest_root();
    load_vcpu_root(&state);
    load_gdt(&state);
    load_ldt(&state);
    load_guest_cr4(state.cr4);
    load_fpu(&mut state);
    load_debug(&state);
    set_tsc_aux(state.tsc_aux);
    let [ds, es, fs, gs] = state.selectors;
    let mut good = load_ds(ds) & load_es(es) & load_fs(fs);
    set_fs_base(state.fs_base);
    // The GS selector belongs to user mode's base; loading it clobbers a base.
    good &= load_gs(gs);
    let (active, inactive) = if state.kernel_mode {
        (state.gs_base_kernel, state.gs_base_user)
    } else {
        (state.gs_base_user, state.gs_base_kernel)
    };
    set_gs_base(active);
    set_inactive_gs_base(inactive);
    // SAFETY: the frame of this CPU; no loan is out.
    unsafe {
        (*super::local::data()).frame = state.regs;
        let slot = &mut *local().current.get();
        assert!(slot.is_none(), "a vCPU is loaded already");
        super::fast::withdraw();
        *slot = Some(Current {
            state,
            vcpu,
            domain,
        });
    }
    good
}

/// Saves the loaded vCPU's state and gives it up. `None` if none is loaded.
pub fn unload() -> Option<(Arc<Domain>, Arc<Vcpu>)> {
    // SAFETY: no loan is out.
    let mut current = unsafe { (*local().current.get()).take() }?;
    let state = &mut *current.state;
    // SAFETY: the frame of this CPU.
    state.regs = unsafe { (*super::local::data()).frame };
    state.selectors = selectors();
    state.fs_base = fs_base();
    let (active, inactive) = (gs_base(), inactive_gs_base());
    (state.gs_base_kernel, state.gs_base_user) = if state.kernel_mode {
        (active, inactive)
    } else {
        (inactive, active)
    };
    save_fpu(state);
    // The guest's roots may be freed once nobody runs on them.
    host_map::load_idle_root();
    tlb::leave_guest_root();
    let Current {
        state,
        vcpu,
        domain,
    } = current;
    drop(state);
    Some((domain, vcpu))
}

/// This CPU's entry frame.
#[must_use]
pub fn entry_frame() -> *mut GuestRegs {
    // SAFETY: takes an address only.
    unsafe { &raw mut (*super::local::data()).frame }
}

/// Bits of a physical address.
#[must_use]
pub fn physical_bits() -> u32 {
    let has_leaf = core::arch::x86_64::__cpuid(0x8000_0000).eax >= 0x8000_0008;
    if has_leaf {
        core::arch::x86_64::__cpuid(0x8000_0008).eax & 0xff
    } else {
        36
    }
}
