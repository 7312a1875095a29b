//! Entries on CPUs where a guest may have left something that steers what the hypervisor does by
//! speculation. Assembly only; the plan is `arch::speculation`'s.
//!
//! If the plan has work to do on entry, every way in begins here instead of in `entry`: the IDT,
//! the system-call registers and the stub page name these labels (see [`Doors`]; `sysenter` asks
//! for itself). Each does the
//! work, with all registers kept, and goes on at the label in `entry` that it stands before. So a
//! CPU that needs nothing pays nothing.
//!
//! Before the work is done there is no indirect branch, no return and no load through an address
//! that a guest chooses.
//!
//! The work is the same whether a guest or the hypervisor was interrupted. Of the hypervisor that
//! is only while it waits, at a preemption point, or by a fault of the `iretq` to a guest, after
//! the guest's `SPEC_CTRL` has been loaded.
//!
//! Sources: Intel, "Speculative Execution Side Channel Mitigations" (IBRS, IBPB, refilling the
//! return stack) and "Branch History Injection" (the sequence of branches); AMD, "Software
//! Techniques for Managing Speculation".
#![allow(unsafe_code, reason = "entry code is assembly")]

use super::cpu_area::{DATA_PAGE, EntryData};
use crate::arch::speculation::bits::{msr, pred_cmd};
use crate::arch::speculation::enter;
use core::mem::offset_of;

core::arch::global_asm!(
    r#"
// Does the work of EntryData::enter but for SPEC_CTRL. Changes rax, rcx, rdx and flags; uses 256
// bytes below rsp, which lies in the CPU's area.
.macro OXEN_FORGET
    mov rax, rsp
    and rax, -{area_size}
    test dword ptr [rax + {data} + {enter}], {ibpb}
    jz 1f
    mov ecx, {pred_cmd}
    mov eax, {pred_cmd_ibpb}
    xor edx, edx
    wrmsr
1:
    mov rax, rsp
    and rax, -{area_size}
    test dword ptr [rax + {data} + {enter}], {returns}
    jz 4f
    // 32 return addresses that lead nowhere.
    mov ecx, 16
    mov rdx, rsp
2:
    call 3f
    int3
3:
    call 3f
    int3
3:
    sub ecx, 1
    jnz 2b
    mov rsp, rdx
4:
.endm
// Loads the hypervisor's SPEC_CTRL, overwrites the branch history, and lets no test above be
// guessed past. Changes the same.
.macro OXEN_SHIELD spec_ctrl=1
    .if \spec_ctrl
    mov rax, rsp
    and rax, -{area_size}
    test dword ptr [rax + {data} + {enter}], {spec_ctrl}
    jz 1f
    mov eax, [rax + {data} + {value}]
    mov ecx, {spec_ctrl_msr}
    xor edx, edx
    wrmsr
1:
    .endif
    mov rax, rsp
    and rax, -{area_size}
    mov eax, [rax + {data} + {enter}]
    test eax, {history}
    jz 6f
    // Rounds, and taken branches in each: 5 and 5, or 12 and 7.
    mov ecx, 5
    mov edx, 5
    test eax, {history_long}
    jz 1f
    mov ecx, 12
    mov edx, 7
1:
    call 2f
    jmp 6f
    .balign 64
2:
    call 3f
    ret
    int3
    .balign 64
3:
    mov eax, edx
4:
    jmp 5f
    nop
5:
    sub eax, 1
    jnz 4b
    sub ecx, 1
    jnz 2b
    ret
    int3
6:
    lfence
.endm
.macro OXEN_GUARD spec_ctrl=1
    push rax
    push rcx
    push rdx
    OXEN_FORGET
    OXEN_SHIELD \spec_ctrl
    pop rdx
    pop rcx
    pop rax
.endm

    .section .text.entry.stub, "ax"
    .balign 4096
    .global oxen_stub_page
oxen_stub_page:
    // 64-bit system call, alias of page 0 of the CPU's area: page 1 is its data.
    mov [rip + oxen_stub_page + {data}], rsp
    lea rsp, [rip + oxen_stub_page + {data} + 4096]
    jmp qword ptr [rip + oxen_stub_page + {data} + {syscall_entry}]
    .balign 64
    .global oxen_stub32
oxen_stub32:
    mov [rip + oxen_stub_page + {data}], rsp
    lea rsp, [rip + oxen_stub_page + {data} + 4096]
    jmp qword ptr [rip + oxen_stub_page + {data} + {syscall32_entry}]
    .balign 64
    .global oxen_guarded_stub
oxen_guarded_stub:
    mov [rip + oxen_stub_page + {data}], rsp
    lea rsp, [rip + oxen_stub_page + {data} + 4096]
    OXEN_GUARD
    jmp qword ptr [rip + oxen_stub_page + {data} + {syscall_entry}]
    .balign 64
    .global oxen_guarded_stub32
oxen_guarded_stub32:
    mov [rip + oxen_stub_page + {data}], rsp
    lea rsp, [rip + oxen_stub_page + {data} + 4096]
    OXEN_GUARD
    jmp qword ptr [rip + oxen_stub_page + {data} + {syscall32_entry}]
    .balign 4096

    .section .text.entry.guard, "ax"
    .balign 4096
    .global oxen_guard_start
oxen_guard_start:
    .global oxen_guarded_sysenter
oxen_guarded_sysenter:
    OXEN_GUARD
    jmp oxen_sysenter_go
    .balign 16
oxen_guarded_common:
    OXEN_GUARD
    jmp oxen_common
    .balign 16
    // SPEC_CTRL is kept for the return, so `entry` loads it.
oxen_guarded_ist:
    OXEN_GUARD 0
    jmp oxen_common_ist

    .balign 16
    .global oxen_guarded_vectors
oxen_guarded_vectors:
    .set vec, 0
    .rept 256
    .balign 16
    .if !(vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21)
    push 0
    .endif
    mov dword ptr [rsp + 4], vec
    .if vec == 1 || vec == 2 || vec == 8 || vec == 18
    jmp oxen_guarded_ist
    .else
    jmp oxen_guarded_common
    .endif
    .set vec, vec + 1
    .endr
    .balign 4096
    .global oxen_guard_end
oxen_guard_end:
"#,
    data = const DATA_PAGE * 4096,
    area_size = const super::cpu_area::AREA_SIZE,
    syscall_entry = const offset_of!(EntryData, syscall_entry),
    syscall32_entry = const offset_of!(EntryData, syscall32_entry),
    enter = const offset_of!(EntryData, enter),
    value = const offset_of!(EntryData, spec_ctrl),
    ibpb = const enter::IBPB,
    returns = const enter::RETURNS,
    spec_ctrl = const enter::SPEC_CTRL,
    history = const enter::HISTORY_SHORT | enter::HISTORY_LONG,
    history_long = const enter::HISTORY_LONG,
    pred_cmd = const msr::PRED_CMD,
    pred_cmd_ibpb = const pred_cmd::IBPB,
    spec_ctrl_msr = const msr::SPEC_CTRL,
);

unsafe extern "C" {
    /// First byte of the stub page.
    static oxen_stub_page: u8;
    static oxen_stub32: u8;
    static oxen_guarded_stub: u8;
    static oxen_guarded_stub32: u8;
    /// First byte of this code (page aligned).
    static oxen_guard_start: u8;
    /// First byte after it (page aligned).
    static oxen_guard_end: u8;
    static oxen_guarded_vectors: u8;
}

/// Addresses of the ways in.
pub(super) struct Doors {
    /// 256 exception and interrupt stubs of 16 bytes.
    pub vectors: u64,
    /// The 64-bit system call, as an offset in the stub page.
    pub syscall: u64,
    /// The compatibility-mode system call, likewise.
    pub syscall32: u64,
}

/// The ways in that suit the plan.
pub(super) fn doors() -> Doors {
    use super::entry::oxen_vectors;
    let guarded = super::speculation::enters_guarded();
    let pick = |plain: *const u8, guard: *const u8| if guarded { guard } else { plain } as u64;
    let page = stub_page();
    Doors {
        vectors: pick(&raw const oxen_vectors, &raw const oxen_guarded_vectors),
        syscall: pick(&raw const oxen_stub_page, &raw const oxen_guarded_stub) - page,
        syscall32: pick(&raw const oxen_stub32, &raw const oxen_guarded_stub32) - page,
    }
}

/// The page of system-call stubs, as the linker placed it.
pub(super) fn stub_page() -> u64 {
    &raw const oxen_stub_page as u64
}

/// Addresses of the code here.
pub(super) fn code() -> core::ops::Range<u64> {
    &raw const oxen_guard_start as u64..&raw const oxen_guard_end as u64
}
