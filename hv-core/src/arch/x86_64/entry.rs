//! Entry from guests and interrupts, and the way back. Assembly only; the Rust it
//! calls is named in the `extern` lists of `trap`.
//!
//! Every entry from a guest leaves its registers in `EntryData::frame` and then
//! runs Rust on the CPU's hypervisor stack, which is empty at that moment: the
//! hypervisor keeps nothing on it between two entries.
//!
//! RFLAGS on entry is partly the guest's. SYSCALL clears what `SFMASK` names; an interrupt
//! gate clears TF, NT, RF and IF but not DF or AC; SYSENTER clears IF and VM only (Intel SDM
//! vol. 2, SYSENTER; vol. 3, 6.12.1.3). So every other entry, and [`enter_guest`], runs
//! `CLEAN_FLAGS` before it does anything that a flag changes. From there on nothing sets
//! these flags, and the `iretq` on the way out, which faults when NT is set, finds none.
#![allow(unsafe_code, reason = "entry code is assembly")]

use super::cpu_area::{DATA_PAGE, EntryData, FRAME_OFFSET};
use crate::arch::speculation::bits::msr;
use crate::arch::speculation::{enter, leave};
use core::mem::offset_of;

/// `GuestRegs::vector` of a 64-bit system call.
pub const VECTOR_SYSCALL: u32 = 0x100;
/// `GuestRegs::vector` of a compatibility-mode `syscall`.
pub const VECTOR_SYSCALL32: u32 = 0x101;
/// `GuestRegs::vector` of `sysenter`.
pub const VECTOR_SYSENTER: u32 = 0x102;

core::arch::global_asm!(
    r#"
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
// RFLAGS as the hypervisor wants it: DF, TF, NT, AC, RF, IF and IOPL are clear.
.macro CLEAN_FLAGS
    push 2
    popfq
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

    // rsp is the data page's end, scratch_rsp the guest's. See `fast` for what may be
    // done here; SLOW leaves with every register as the guest had it.
    .global oxen_syscall_entry
oxen_syscall_entry:
    cmp dword ptr [rsp - 4096 + {work}], 0
    jne oxen_syscall_slow
    cmp dword ptr [rsp - 4096 + {mode}], {in_kernel}
    je oxen_fast_iret
    cmp dword ptr [rsp - 4096 + {mode}], {in_user}
    jne oxen_syscall_slow

    // A system call: frame onto the kernel stack, mode and root changed.
    mov [rsp - 4096 + {scratch_rax}], rax
    mov [rsp - 4096 + {scratch_rdx}], rdx
    mov rdx, [rsp - 4096 + {info}]
    test byte ptr [rdx + 1], 1
    jnz oxen_fast_give_up
    mov rax, [rsp - 4096 + {kernel_sp}]
    and rax, -16
    sub rax, 56
    mov rdx, rax
    shr rdx, 12
    cmp rdx, [rsp - 4096 + {stack_page}]
    jne oxen_fast_give_up
    mov edx, eax
    and edx, 0xfff
    cmp edx, 4096 - 56
    ja oxen_fast_give_up
    add rdx, [rsp - 4096 + {stack_at}]
    mov [rdx], rcx
    mov [rdx + 8], r11
    mov [rdx + 16], rcx
    mov qword ptr [rdx + 24], 0xe033
    and r11d, {user_flags}
    or r11d, 0x200
    mov [rdx + 32], r11
    mov rcx, [rsp - 4096]
    mov [rdx + 40], rcx
    mov qword ptr [rdx + 48], 0xe02b
    mov rcx, [rsp - 4096 + {info}]
    mov edx, [rsp - 4096 + {syscall_mask}]
    or [rcx + 1], dl
    mov dword ptr [rsp - 4096 + {mode}], {in_kernel}
    swapgs
    mov rcx, [rsp - 4096 + {kernel_cr3}]
    mov cr3, rcx
    and r11d, {kernel_flags}
    mov rcx, [rsp - 4096 + {syscall_rip}]
    mov rdx, [rsp - 4096 + {scratch_rdx}]
    xchg rax, [rsp - 4096 + {scratch_rax}]
    mov rsp, [rsp - 4096 + {scratch_rax}]
    sysretq

oxen_fast_give_up:
    mov rax, [rsp - 4096 + {scratch_rax}]
    mov rdx, [rsp - 4096 + {scratch_rdx}]
    jmp oxen_syscall_slow

    // The iret hypercall: rax, rcx and r11 are dead, the frame has them.
oxen_fast_iret:
    cmp rax, 23
    jne oxen_syscall_slow
    mov [rsp - 4096 + {scratch_rax}], rax
    mov [rsp - 4096 + {scratch_rdx}], rdx
    mov rax, [rsp - 4096]
    mov rdx, rax
    shr rdx, 12
    cmp rdx, [rsp - 4096 + {stack_page}]
    jne oxen_fast_give_up
    mov edx, eax
    and edx, 0xfff
    cmp edx, 4096 - 72
    ja oxen_fast_give_up
    add rdx, [rsp - 4096 + {stack_at}]
    cmp qword ptr [rdx + 24], 0
    jne oxen_fast_iret_slow
    mov eax, [rdx + 48]
    test eax, 0x200
    jz oxen_fast_iret_slow
    and eax, {settable_flags}
    or eax, 0x202
    mov [rsp - 24], rax
    movzx eax, word ptr [rdx + 40]
    or eax, 3
    mov [rsp - 32], rax
    mov rax, [rdx + 32]
    mov [rsp - 40], rax
    mov rax, [rdx + 56]
    mov [rsp - 16], rax
    movzx eax, word ptr [rdx + 64]
    or eax, 3
    mov [rsp - 8], rax
    // Unmask, then look: whoever sets pending later interrupts this CPU.
    mov rax, [rsp - 4096 + {info}]
    mov byte ptr [rax + 1], 0
    cmp byte ptr [rax], 0
    jne oxen_fast_iret_slow
    mov eax, [rdx + 40]
    not eax
    test eax, 3
    jnz 6f
    mov dword ptr [rsp - 4096 + {mode}], {in_user}
    swapgs
    mov rax, [rsp - 4096 + {user_cr3}]
    mov cr3, rax
6:
    mov rax, [rdx]
    mov r11, [rdx + 8]
    mov rcx, [rdx + 16]
    mov rdx, [rsp - 4096 + {scratch_rdx}]
    sub rsp, 40
    jmp oxen_iretq

    // Rust reads the guest's frame again. (The mask may be off already, as it will
    // leave it.)
oxen_fast_iret_slow:
    jmp oxen_fast_give_up

oxen_syscall_slow:
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

    // sysenter: rsp is the frame's end (MSR); of the guest's state only the flags are
    // known. With TF each instruction up to the label `saved` causes a #DB, whose handler
    // ends that there (`faults::debug_in_hypervisor`).
    .global oxen_sysenter_entry
oxen_sysenter_entry:
    lea rsp, [rsp - 16]
    pushfq
    .global oxen_sysenter_saved
oxen_sysenter_saved:
    CLEAN_FLAGS
    or dword ptr [rsp], 0x200
    mov qword ptr [rsp + 8], 0
    mov qword ptr [rsp + 16], 0xe02b
    push 3
    push 0
    push 0
    mov dword ptr [rsp + 4], {v_sysenter}
    cmp dword ptr [rsp + 48 - 4096 + {enter}], 0
    jne oxen_guarded_sysenter
    lfence
    .global oxen_sysenter_go
oxen_sysenter_go:
    PUSH_REGS
    TO_HYPERVISOR
    call {guest_trap}

    // All of the guest's state but the frame is loaded: load that and go.
    .global oxen_return_to_guest
oxen_return_to_guest:
    mov rsp, rax
    cmp dword ptr [rsp - {frame} + {leave}], 0
    jne oxen_leave_guarded
oxen_leave:
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

    // What is done about speculation before a guest runs. From the write of SPEC_CTRL to the
    // `iretq`, which waits for all before it, there is no indirect branch and no return.
oxen_leave_guarded:
    mov ebx, [rsp - {frame} + {leave}]
    test ebx, {leave_divide}
    jz 1f
    mov eax, 1
    div al
1:
    test ebx, {leave_spec_ctrl}
    jz 2f
    mov ecx, {spec_ctrl_msr}
    mov eax, [rsp - {frame} + {guest_spec_ctrl}]
    xor edx, edx
    wrmsr
2:
    test ebx, {leave_verw}
    jz 3f
    verw word ptr [rsp - {frame} + {selector}]
3:
    jmp oxen_leave

    // Exceptions and interrupts: rsp points at error code and vector.
    .balign 16
    .global oxen_common
oxen_common:
    test byte ptr [rsp + 16], 3
    jz oxen_from_host
oxen_from_guest:
    PUSH_REGS
    CLEAN_FLAGS
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
    CLEAN_FLAGS
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
    .global oxen_common_ist
oxen_common_ist:
    PUSH_REGS
    CLEAN_FLAGS
    mov rdi, rsp
    mov rbx, rsp
    mov r12, cr3
    and rsp, -16
    mov r14, rsp
    and r14, -{area_size}
    mov rax, [r14 + {data} + {host_cr3}]
    test rax, rax
    jz 2f
    mov cr3, rax
2:
    // Whose SPEC_CTRL is loaded depends on where in entry code this arrived.
    test dword ptr [r14 + {data} + {enter}], {enter_spec_ctrl}
    jz 3f
    mov ecx, {spec_ctrl_msr}
    rdmsr
    mov r13d, eax
    mov eax, [r14 + {data} + {spec_ctrl}]
    xor edx, edx
    wrmsr
3:
    lfence
    call {ist_trap}
    test rax, rax
    jnz 5f
    test dword ptr [r14 + {data} + {enter}], {enter_spec_ctrl}
    jz 4f
    mov ecx, {spec_ctrl_msr}
    mov eax, r13d
    xor edx, edx
    wrmsr
4:
    test dword ptr [r14 + {data} + {leave}], {leave_verw}
    jz 6f
    verw word ptr [r14 + {data} + {selector}]
6:
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
    work = const offset_of!(EntryData, work),
    mode = const offset_of!(EntryData, mode),
    in_user = const super::cpu_area::IN_USER,
    in_kernel = const super::cpu_area::IN_KERNEL,
    stack_page = const offset_of!(EntryData, stack_page),
    stack_at = const offset_of!(EntryData, stack_at),
    scratch_rax = const offset_of!(EntryData, scratch_rax),
    scratch_rdx = const offset_of!(EntryData, scratch_rdx),
    kernel_cr3 = const offset_of!(EntryData, fast.kernel_cr3),
    user_cr3 = const offset_of!(EntryData, fast.user_cr3),
    syscall_rip = const offset_of!(EntryData, fast.syscall_rip),
    syscall_mask = const offset_of!(EntryData, fast.syscall_mask),
    kernel_sp = const offset_of!(EntryData, fast.kernel_sp),
    info = const offset_of!(EntryData, fast.info),
    // What a frame shows of RFLAGS: not IOPL; IF is the event mask's.
    user_flags = const !0x3200_i32,
    // What a guest kernel is entered with: not AC VM RF NT DF TF.
    kernel_flags = const !0x7_4500_i32,
    settable_flags = const 0x25_4dd5,
    host_cr3 = const offset_of!(EntryData, host_cr3),
    guest_cr3 = const offset_of!(EntryData, guest_cr3),
    enter = const offset_of!(EntryData, enter),
    leave = const offset_of!(EntryData, leave),
    spec_ctrl = const offset_of!(EntryData, spec_ctrl),
    guest_spec_ctrl = const offset_of!(EntryData, guest_spec_ctrl),
    selector = const offset_of!(EntryData, selector),
    enter_spec_ctrl = const enter::SPEC_CTRL,
    leave_spec_ctrl = const leave::SPEC_CTRL,
    leave_verw = const leave::VERW,
    leave_divide = const leave::DIVIDE,
    spec_ctrl_msr = const msr::SPEC_CTRL,
    stack_top = const offset_of!(EntryData, stack_top),
    v_syscall = const VECTOR_SYSCALL,
    v_syscall32 = const VECTOR_SYSCALL32,
    v_sysenter = const VECTOR_SYSENTER,
    guest_syscall = sym crate::trap::guest_syscall,
    guest_trap = sym crate::trap::guest_trap,
    host_trap = sym crate::trap::host_trap,
    ist_trap = sym crate::trap::ist_trap,
);

unsafe extern "C" {
    /// First byte of entry code (page aligned).
    pub(super) static oxen_entry_start: u8;
    /// First byte after entry code (page aligned).
    pub(super) static oxen_entry_end: u8;
    /// 256 exception and interrupt stubs of 16 bytes.
    pub(super) static oxen_vectors: u8;
    pub(super) static oxen_syscall_entry: u8;
    pub(super) static oxen_syscall32_entry: u8;
    pub(super) static oxen_sysenter_entry: u8;
    /// Where the guest's flags have been saved after SYSENTER.
    pub(super) static oxen_sysenter_saved: u8;
    static oxen_return_to_guest: u8;
}

/// Leaves the hypervisor for the guest whose state is loaded and whose registers
/// are in this CPU's `EntryData::frame`.
///
/// # Safety
/// A vCPU is loaded on this CPU and nothing on the current stack is needed again.
pub unsafe fn enter_guest(frame: *mut crate::arch::regs::GuestRegs) -> ! {
    // SAFETY: the label expects the frame in rax, clean flags and no stack.
    unsafe {
        core::arch::asm!(
            "push 2",
            "popfq",
            "jmp {go}",
            go = sym oxen_return_to_guest,
            in("rax") frame,
            options(noreturn)
        )
    }
}
