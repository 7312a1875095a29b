//! Privileged instructions, CPUID, MSRs and ports in the kernel.

use crate::test::Test;
use core::arch::asm;
use test_guests::boot::start_info;
use test_guests::hypercall::{call, call_with};
use test_guests::memory::l4;
use xen_abi::arch_x86::*;
use xen_abi::errno::*;
use xen_abi::physdev::*;
use xen_abi::xen::*;

/// CPUID with the forced emulation prefix: eax, ebx, ecx, edx.
fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let (eax, ecx, edx): (u32, u32, u32);
    let ebx: u64;
    // SAFETY: the hypervisor emulates it; rbx is restored.
    unsafe {
        asm!(
            "mov {save}, rbx",
            ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e",
            "cpuid",
            "xchg {save}, rbx",
            save = out(reg) ebx,
            inout("eax") leaf => eax,
            inout("ecx") subleaf => ecx,
            out("edx") edx,
        );
    }
    [eax, ebx as u32, ecx, edx]
}

pub fn cpuid_xen_leaves(t: &mut Test) {
    let [eax, ebx, ecx, edx] = cpuid(XEN_CPUID_FIRST_LEAF, 0);
    t.eq(eax, XEN_CPUID_FIRST_LEAF + 5);
    t.eq(ebx, XEN_CPUID_SIGNATURE_EBX);
    t.eq(ecx, XEN_CPUID_SIGNATURE_ECX);
    t.eq(edx, XEN_CPUID_SIGNATURE_EDX);
    t.eq(cpuid(XEN_CPUID_FIRST_LEAF + 1, 0)[0], 0x4_0011);
    let [pages, msr, features, _] = cpuid(XEN_CPUID_FIRST_LEAF + 2, 0);
    t.eq(pages, 1);
    t.eq(msr, 0x4000_0000);
    t.eq(features & 1, 1);
    t.yes(cpuid(XEN_CPUID_FIRST_LEAF + 5, 0)[1] & 0xff <= 52);
    t.yes(cpuid(XEN_CPUID_FIRST_LEAF + 6, 0) == [0; 4]);
    t.yes(cpuid(0x4000_0100, 0) == [0; 4]);
}

pub fn cpuid_features(t: &mut Test) {
    let bit = |word: u32, bit: u32| word >> bit & 1;
    let [_, _, ecx, edx] = cpuid(1, 0);
    // VME, PSE, PGE, PSE36: hidden. FPU, TSC, MSR, PAE, CX8, APIC, CMOV, FXSR, SSE2: shown.
    for hidden in [1, 3, 13, 17] {
        t.eq(bit(edx, hidden), 0);
    }
    for shown in [0, 4, 5, 6, 8, 9, 15, 24, 26] {
        t.eq(bit(edx, shown), 1);
    }
    // MONITOR, VMX, PCID, x2APIC, TSC deadline: hidden. CX16, hypervisor: shown.
    for hidden in [3, 5, 17, 21, 24] {
        t.eq(bit(ecx, hidden), 0);
    }
    for shown in [13, 31] {
        t.eq(bit(ecx, shown), 1);
    }
    let [_, ebx, ecx, _] = cpuid(7, 0);
    // TSC_ADJUST, SMEP, INVPCID, SMAP; UMIP, PKU, LA57.
    for hidden in [1, 7, 10, 20] {
        t.eq(bit(ebx, hidden), 0);
    }
    for hidden in [2, 3, 16] {
        t.eq(bit(ecx, hidden), 0);
    }
    let [_, _, ecx, edx] = cpuid(0x8000_0001, 0);
    // SVM; NX, SYSCALL, long mode shown; 1 GiB pages hidden.
    t.eq(bit(ecx, 2), 0);
    t.eq(bit(edx, 26), 0);
    for shown in [11, 20, 29] {
        t.eq(bit(edx, shown), 1);
    }
}

/// The prefix before anything but CPUID is an invalid instruction.
pub fn prefix_elsewhere(t: &mut Test) {
    t.traps(6, || {
        // SAFETY: traps as wanted.
        unsafe { asm!(".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e", "rdtsc", out("eax") _, out("edx") _) }
    });
    t.traps(6, || {
        // SAFETY: traps as wanted.
        unsafe { asm!(".byte 0x0f, 0x0b, 0x78, 0x65, 0x6f", "nop") }
    });
}

pub fn control_registers(t: &mut Test) {
    let (cr0, cr2, cr3, cr4): (u64, u64, u64, u64);
    // SAFETY: reads, emulated.
    unsafe {
        asm!("mov {}, cr0", out(reg) cr0);
        asm!("mov {}, cr2", out(reg) cr2);
        asm!("mov {}, cr3", out(reg) cr3);
        asm!("mov {}, cr4", out(reg) cr4);
    }
    // PG, AM, WP, NE, ET, MP, PE.
    t.eq(cr0, 0x8005_0033);
    t.eq(cr3, l4().machine());
    t.eq(cr2, test_guests::shared::cr2());
    // PAE and the SSE bits.
    t.eq(cr4 & 0x620, 0x620);
    // VME, PSE, PGE, UMIP, VMXE, SMEP, SMAP are not the guest's to see.
    t.eq(cr4 & 0x30_2891, 0);
    // TS is the only bit of CR0 it may change.
    t.no_trap(|| {
        // SAFETY: emulated; no FPU is used here.
        unsafe {
            asm!("mov cr0, {}", in(reg) cr0 | 8);
            asm!("clts");
        }
    });
    t.traps(13, || {
        // SAFETY: traps as wanted.
        unsafe { asm!("mov cr0, {}", in(reg) cr0 & !0x1_0000) }
    });
    // Other bits of CR4 are dropped in silence.
    t.no_trap(|| {
        // SAFETY: emulated.
        unsafe { asm!("mov cr4, {}", in(reg) cr4 | 0x90) }
    });
    let again: u64;
    // SAFETY: a read, emulated.
    unsafe { asm!("mov {}, cr4", out(reg) again) };
    t.eq(again, cr4);
    t.no_trap(|| {
        // SAFETY: the same root again.
        unsafe { asm!("mov cr3, {}", in(reg) cr3) }
    });
    t.traps(13, || {
        // SAFETY: traps as wanted: no L4 table.
        unsafe { asm!("mov cr3, {}", in(reg) 0u64) }
    });
}

/// The time stamp counter as the guest's to forbid.
pub fn task_switched(t: &mut Test) {
    t.rc(call(HYPERVISOR_FPU_TASKSWITCH, [1, 0, 0, 0, 0]), 0);
    t.traps(7, || {
        // SAFETY: traps as wanted.
        unsafe { asm!("fninit") }
    });
    // Delivery clears it.
    t.no_trap(|| {
        // SAFETY: no FPU state is in use.
        unsafe { asm!("fninit") }
    });
    t.rc(call(HYPERVISOR_FPU_TASKSWITCH, [1, 0, 0, 0, 0]), 0);
    t.rc(call(HYPERVISOR_FPU_TASKSWITCH, [0, 0, 0, 0, 0]), 0);
    t.no_trap(|| {
        // SAFETY: as above.
        unsafe { asm!("fninit") }
    });
}

macro_rules! general_protection {
    ($t:ident: $($code:literal),* $(,)?) => {
        $({
            let frame = $t.traps(13, || {
                // SAFETY: traps as wanted.
                unsafe {
                    asm!($code, inout("rax") 0u64 => _, inout("rcx") 0u64 => _, out("rdx") _)
                }
            });
            $t.eq(frame.error, 0);
        })*
    };
}

/// Instructions nobody emulates.
pub fn not_emulated(t: &mut Test) {
    general_protection!(t:
        "hlt", "invlpg [rsp]", "lgdt [rsp]", "lidt [rsp]", "lldt ax", "ltr ax", "lmsw ax",
        "swapgs", "sysretq", "invd", "mov cr8, rax",
    );
}

pub fn interrupt_flag(t: &mut Test) {
    let set = |iopl: u32| {
        let mut argument = PhysdevSetIopl { iopl };
        call_with(HYPERVISOR_PHYSDEV_OP, PHYSDEVOP_SET_IOPL, &mut argument)
    };
    t.rc(set(4), -EINVAL);
    t.rc(set(u32::MAX), -EINVAL);
    t.rc(set(0), 0);
    general_protection!(t: "cli", "sti", "in al, 0x80", "out 0x80, al");
    t.rc(set(1), 0);
    t.no_trap(|| {
        // SAFETY: emulated, without an effect on the mask.
        unsafe { asm!("cli", "sti") }
    });
    t.eq(test_guests::shared::upcall_mask(), 1);
    t.no_trap(|| {
        // SAFETY: the POST port.
        unsafe { asm!("in al, 0x80", "out 0x80, al", out("al") _) }
    });
    t.rc(set(0), 0);
}

/// Ports of the hypervisor's: reads give ones, writes are lost.
pub fn denied_ports(t: &mut Test) {
    let mut argument = PhysdevSetIopl { iopl: 1 };
    t.rc(
        call_with(HYPERVISOR_PHYSDEV_OP, PHYSDEVOP_SET_IOPL, &mut argument),
        0,
    );
    for port in [0x20u16, 0x21, 0xa0, 0xa1] {
        let value: u8;
        // SAFETY: emulated.
        unsafe { asm!("in al, dx", out("al") value, in("dx") port) };
        t.eq(value, 0xff);
    }
    argument.iopl = 0;
    t.rc(
        call_with(HYPERVISOR_PHYSDEV_OP, PHYSDEVOP_SET_IOPL, &mut argument),
        0,
    );
}

fn rdmsr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: emulated, or traps.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high) };
    u64::from(low) | u64::from(high) << 32
}

fn wrmsr(msr: u32, value: u64) {
    // SAFETY: emulated, or traps; only bases that nobody uses are written.
    unsafe { asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32) };
}

pub fn msrs(t: &mut Test) {
    // EFER: SCE, LME, LMA, NXE.
    t.eq(rdmsr(0xc000_0080) & 0xd01, 0xd01);
    t.eq(rdmsr(0x277), 0x0000_0501_0007_0406);
    // The first CPU's APIC base.
    t.eq(rdmsr(0x1b) & 0xffff_f900, 0xfee0_0900);
    for msr in [
        0xc000_0081u32,
        0xc000_0082,
        0xc000_0084,
        0x174,
        0x3a1,
        0xdead_beef,
    ] {
        let frame = t.traps(13, || {
            rdmsr(msr);
        });
        t.eq(frame.error, 0);
    }
    for msr in [0xc000_0082u32, 0x174, 0x1b, 0xdead_beef] {
        t.traps(13, || wrmsr(msr, 0));
    }
}

/// The registers of speculation are there just as CPUID says. No emulator has all of them; what
/// matters is that both answers agree.
pub fn speculation(t: &mut Test) {
    const SPEC_CTRL: u32 = 0x48;
    const PRED_CMD: u32 = 0x49;
    const ARCH_CAPABILITIES: u32 = 0x10a;
    const FLUSH_CMD: u32 = 0x10b;
    let [_, _, _, features] = cpuid(7, 0);
    let more = cpuid(0x8000_0008, 0)[1];
    if features >> 26 & 1 != 0 {
        t.no_trap(|| wrmsr(SPEC_CTRL, 3));
        t.eq(rdmsr(SPEC_CTRL), 3);
        // Bits 3 to 6 are not offered to PV guests, 11 and up do not exist.
        for bad in [1 << 3, 1 << 6, 1 << 11, 1 << 63] {
            t.traps(13, || wrmsr(SPEC_CTRL, bad));
        }
        t.eq(rdmsr(SPEC_CTRL), 3);
        t.no_trap(|| wrmsr(SPEC_CTRL, 0));
    } else {
        t.traps(13, || wrmsr(SPEC_CTRL, 0));
        t.traps(13, || {
            rdmsr(SPEC_CTRL);
        });
    }
    if features >> 26 & 1 != 0 || more >> 12 & 1 != 0 {
        t.no_trap(|| wrmsr(PRED_CMD, 1));
        t.traps(13, || wrmsr(PRED_CMD, 1 << 1));
    } else {
        t.traps(13, || wrmsr(PRED_CMD, 1));
    }
    if features >> 29 & 1 != 0 {
        t.no_trap(|| {
            rdmsr(ARCH_CAPABILITIES);
        });
    } else {
        t.traps(13, || {
            rdmsr(ARCH_CAPABILITIES);
        });
    }
    t.traps(13, || wrmsr(ARCH_CAPABILITIES, 0));
    // These are written only, or the hypervisor's.
    for msr in [PRED_CMD, FLUSH_CMD, 0x122, 0x123] {
        t.traps(13, || {
            rdmsr(msr);
        });
    }
    t.traps(13, || wrmsr(FLUSH_CMD, 1));
}

pub fn segment_bases(t: &mut Test) {
    let set = |which: u32, base: u64| {
        call(
            HYPERVISOR_SET_SEGMENT_BASE,
            [u64::from(which), base, 0, 0, 0],
        )
    };
    for (which, msr) in [
        (SEGBASE_FS, 0xc000_0100),
        (SEGBASE_GS_KERNEL, 0xc000_0101),
        (SEGBASE_GS_USER, 0xc000_0102),
    ] {
        t.rc(set(which, 0x1234_5678_9000), 0);
        t.eq(rdmsr(msr), 0x1234_5678_9000);
        t.no_trap(|| wrmsr(msr, 0xffff_8880_0000_1000));
        t.eq(rdmsr(msr), 0xffff_8880_0000_1000);
        t.rc(set(which, 1 << 60), -EINVAL);
        t.traps(13, || wrmsr(msr, 1 << 60));
        t.eq(rdmsr(msr), 0xffff_8880_0000_1000);
        t.rc(set(which, 0), 0);
    }
    t.rc(set(SEGBASE_GS_USER_SEL, 0), 0);
    t.rc(set(SEGBASE_GS_USER_SEL, 0x33), 0);
    t.rc(set(SEGBASE_GS_USER_SEL, 0xffff), 0);
    t.rc(set(SEGBASE_GS_USER_SEL, 0), 0);
    t.rc(set(4, 0), -EINVAL);
    t.rc(set(u32::MAX, 0), -EINVAL);
    // The base is the one in use.
    t.rc(set(SEGBASE_FS, start_info().pt_base), 0);
    let word: u64;
    // SAFETY: reads the L4 table's last entry through fs.
    unsafe { asm!("mov {}, fs:[0xff8]", out(reg) word) };
    t.eq(word, l4().read(511));
    t.rc(set(SEGBASE_FS, 0), 0);
}

pub fn debug_registers(t: &mut Test) {
    let set = |register: u64, value: u64| call(HYPERVISOR_SET_DEBUGREG, [register, value, 0, 0, 0]);
    let get = |register: u64| call(HYPERVISOR_GET_DEBUGREG, [register, 0, 0, 0, 0]);
    for register in 0..4 {
        t.rc(set(register, 0x1234), 0);
        t.rc(get(register), 0x1234);
        t.rc(set(register, HYPERVISOR_VIRT_START), -EPERM);
        t.rc(set(register, 0), 0);
    }
    t.rc(set(7, 0), 0);
    t.rc(set(7, 0x2000), -EPERM);
    t.rc(set(7, 1 << 32), -EINVAL);
    t.rc(get(7), 0x400);
    t.rc(set(6, 0), 0);
    t.rc(get(6), 0xffff_0ff0);
    for register in [8, 99, u64::from(u32::MAX)] {
        t.rc(set(register, 0), -ENODEV);
        t.rc(get(register), -ENODEV);
    }
}

/// A breakpoint on data.
pub fn watchpoint(t: &mut Test) {
    let page = test_guests::memory::Page::take();
    let set = |register: u64, value: u64| call(HYPERVISOR_SET_DEBUGREG, [register, value, 0, 0, 0]);
    t.rc(set(0, page.va()), 0);
    // Enable 0 locally, on writes, 8 bytes.
    t.rc(set(7, 1 | 9 << 16), 0);
    t.traps(1, || page.write(0, 1));
    t.rc(set(7, 0), 0);
    t.eq(call(HYPERVISOR_GET_DEBUGREG, [6, 0, 0, 0, 0]) & 1, 1);
    t.no_trap(|| page.write(0, 1));
    t.rc(set(6, 0), 0);
    t.rc(set(0, 0), 0);
}

pub fn xsetbv(t: &mut Test) {
    if cpuid(1, 0)[2] >> 26 & 1 == 0 {
        return;
    }
    let cr4: u64;
    // SAFETY: a read and a write, emulated: OSXSAVE.
    unsafe {
        asm!("mov {}, cr4", out(reg) cr4);
        asm!("mov cr4, {}", in(reg) cr4 | 1 << 18);
    }
    let set = |register: u32, value: u64| {
        // SAFETY: emulated, or traps.
        unsafe {
            asm!("xsetbv", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32);
        }
    };
    t.no_trap(|| set(0, 3));
    t.no_trap(|| set(0, 1));
    t.traps(13, || set(0, 0));
    t.traps(13, || set(0, 4 | 1));
    t.traps(13, || set(0, 1 << 62 | 3));
    t.traps(13, || set(1, 3));
    t.no_trap(|| set(0, 3));
}
