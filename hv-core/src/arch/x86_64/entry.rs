//! Entry from guests and interrupts, and the way back. Assembly only; the Rust it
//! calls is named in the `extern` lists of `trap`.
//!
//! Every entry from a guest leaves its registers in `EntryData::frame` and then
//! runs Rust on the CPU's hypervisor stack, which is empty at that moment: the
//! hypervisor keeps nothing on it between two entries.
#![allow(unsafe_code, reason = "entry code is assembly")]

use super::cpu_area::{DATA_PAGE, EntryData, FRAME_OFFSET};
use core::mem::offset_of;

/// `GuestRegs::vector` of a 64-bit system call.
pub const VECTOR_SYSCALL: u32 = 0x100;
/// `GuestRegs::vector` of a compatibility-mode `syscall`.
pub const VECTOR_SYSCALL32: u32 = 0x101;
/// `GuestRegs::vector` of `sysenter`.
pub const VECTOR_SYSENTER: u32 = 0x102;

core::arch::global_asm!(
    r#"
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
    .balign 4096

    .section .text.entry, "ax"
    .balign 4096
    .global oxen_entry_start
oxen_entry_start:

.macro PUSH_REGS
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
.endm
.macro POP_REGS
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
.endm
// rsp is at the frame's start: onto the hypervisor's root (if isolated) and stack.
.macro TO_HYPERVISOR
    mov rdi, rsp
    mov rax, [rsp - {frame} + {host_cr3}]
    test rax, rax
    jz 2f
    mov cr3, rax
2:
    mov rsp, [rsp - {frame} + {stack_top}]
    xor ebp, ebp
.endm

    .global oxen_syscall_entry
oxen_syscall_entry:
    push 0xe02b
    push qword ptr [rsp - 4096 + 8]      // scratch_rsp
    push r11
    push 0xe033
    push rcx
    push 0
    mov dword ptr [rsp + 4], {v_syscall}
    PUSH_REGS
    TO_HYPERVISOR
    call {guest_syscall}
    jmp oxen_return_to_guest

    .global oxen_syscall32_entry
oxen_syscall32_entry:
    push 0xe02b
    push qword ptr [rsp - 4096 + 8]
    push r11
    push 0xe023
    push rcx
    push 0
    mov dword ptr [rsp + 4], {v_syscall32}
    PUSH_REGS
    TO_HYPERVISOR
    call {guest_trap}
    jmp oxen_return_to_guest

    // sysenter: rsp is the frame's end (MSR); nothing of the guest's is known.
    .global oxen_sysenter_entry
oxen_sysenter_entry:
    push 0xe02b
    push 0
    push 0x202
    push 3
    push 0
    push 0
    mov dword ptr [rsp + 4], {v_sysenter}
    PUSH_REGS
    TO_HYPERVISOR
    call {guest_trap}

    // All of the guest's state but the frame is loaded: load that and go.
    .global oxen_return_to_guest
oxen_return_to_guest:
    mov rsp, rax
    mov rax, [rsp - {frame} + {guest_cr3}]
    test rax, rax
    jnz 3f
4:
    POP_REGS
    add rsp, 8
    .global oxen_iretq
oxen_iretq:
    iretq
3:
    // Isolated: what stays behind in the frame must not be worth reading.
    mov cr3, rax
    POP_REGS
    mov qword ptr [rsp - 8], 0
    mov qword ptr [rsp - 16], 0
    mov qword ptr [rsp - 24], 0
    mov qword ptr [rsp - 32], 0
    mov qword ptr [rsp - 40], 0
    mov qword ptr [rsp - 48], 0
    mov qword ptr [rsp - 56], 0
    mov qword ptr [rsp - 64], 0
    mov qword ptr [rsp - 72], 0
    mov qword ptr [rsp - 80], 0
    mov qword ptr [rsp - 88], 0
    mov qword ptr [rsp - 96], 0
    mov qword ptr [rsp - 104], 0
    mov qword ptr [rsp - 112], 0
    mov qword ptr [rsp - 120], 0
    add rsp, 8
    jmp oxen_iretq

    // Exceptions and interrupts: rsp points at error code and vector.
    .balign 16
oxen_common:
    test byte ptr [rsp + 16], 3
    jz oxen_from_host
oxen_from_guest:
    PUSH_REGS
    cld
    TO_HYPERVISOR
    call {guest_trap}
    jmp oxen_return_to_guest

oxen_from_host:
    push rax
    lea rax, [rip + oxen_iretq]
    cmp rax, [rsp + 16]
    pop rax
    je oxen_iret_fault
    PUSH_REGS
    cld
    mov rdi, rsp
    mov rbx, rsp
    and rsp, -16
    call {host_trap}
    mov rsp, rbx
    POP_REGS
    add rsp, 8
    iretq

    // The return to the guest faulted: its registers are all loaded and its frame
    // is still at the end of the data page. The processor pushed below it, leaving
    // 8 bytes of alignment: just where error code and vector belong. Move them
    // there and go on as if the guest had faulted at its destination.
oxen_iret_fault:
    pop qword ptr [rsp + 40]
    lea rsp, [rsp + 40]
    jmp oxen_from_guest

    // Entries with a stack of their own (NMI, #MC, #DF, #DB): always a full frame
    // on that stack; Rust decides.
oxen_common_ist:
    PUSH_REGS
    cld
    mov rdi, rsp
    mov rbx, rsp
    mov r12, cr3
    and rsp, -16
    mov rax, rsp
    and rax, -{area_size}
    mov rax, [rax + {data} + {host_cr3}]
    test rax, rax
    jz 2f
    mov cr3, rax
2:
    call {ist_trap}
    test rax, rax
    jnz 5f
    mov rsp, rbx
    mov rax, r12
    mov cr3, rax
    POP_REGS
    add rsp, 8
    iretq
5:  // It came from a guest and is to be handled like any exception: the frame has
    // been copied to EntryData.
    mov rdi, rax
    mov rsp, [rax - {frame} + {stack_top}]
    xor ebp, ebp
    call {guest_trap}
    jmp oxen_return_to_guest

    .balign 16
    .global oxen_vectors
oxen_vectors:
    .set vec, 0
    .rept 256
    .balign 16
    .if !(vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21)
    push 0
    .endif
    mov dword ptr [rsp + 4], vec
    .if vec == 1 || vec == 2 || vec == 8 || vec == 18
    jmp oxen_common_ist
    .else
    jmp oxen_common
    .endif
    .set vec, vec + 1
    .endr
    .balign 4096
    .global oxen_entry_end
oxen_entry_end:
"#,
    data = const DATA_PAGE * 4096,
    area_size = const super::cpu_area::AREA_SIZE,
    frame = const FRAME_OFFSET,
    host_cr3 = const offset_of!(EntryData, host_cr3),
    guest_cr3 = const offset_of!(EntryData, guest_cr3),
    stack_top = const offset_of!(EntryData, stack_top),
    syscall_entry = const offset_of!(EntryData, syscall_entry),
    syscall32_entry = const offset_of!(EntryData, syscall32_entry),
    v_syscall = const VECTOR_SYSCALL,
    v_syscall32 = const VECTOR_SYSCALL32,
    v_sysenter = const VECTOR_SYSENTER,
    guest_syscall = sym crate::trap::guest_syscall,
    guest_trap = sym crate::trap::guest_trap,
    host_trap = sym crate::trap::host_trap,
    ist_trap = sym crate::trap::ist_trap,
);

unsafe extern "C" {
    /// First byte of the stub page.
    pub(super) static oxen_stub_page: u8;
    /// The compatibility-mode stub within it.
    pub(super) static oxen_stub32: u8;
    /// First byte of entry code (page aligned).
    pub(super) static oxen_entry_start: u8;
    /// First byte after entry code (page aligned).
    pub(super) static oxen_entry_end: u8;
    /// 256 exception and interrupt stubs of 16 bytes.
    pub(super) static oxen_vectors: u8;
    pub(super) static oxen_syscall_entry: u8;
    pub(super) static oxen_syscall32_entry: u8;
    pub(super) static oxen_sysenter_entry: u8;
    static oxen_return_to_guest: u8;
}

/// Leaves the hypervisor for the guest whose state is loaded and whose registers
/// are in this CPU's `EntryData::frame`.
///
/// # Safety
/// A vCPU is loaded on this CPU and nothing on the current stack is needed again.
pub unsafe fn enter_guest(frame: *mut crate::arch::regs::GuestRegs) -> ! {
    // SAFETY: the label expects the frame in rax and no stack.
    unsafe {
        core::arch::asm!(
            "jmp {go}",
            go = sym oxen_return_to_guest,
            in("rax") frame,
            options(noreturn)
        )
    }
}
