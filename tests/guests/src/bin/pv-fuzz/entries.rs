//! Odd ways into the hypervisor: any interrupt, system calls of every kind and privileged
//! instructions, with any registers and flags, from kernel and from user mode. For the second vCPU:
//! nothing comes back.

use crate::random::Random;
use crate::second;
use core::arch::{asm, global_asm};
use test_guests::hypercall::{call, mmuext_op};
use test_guests::memory;
use xen_abi::arch_x86::FLAT_KERNEL_SS;
use xen_abi::xen::{HYPERVISOR_STACK_SWITCH, MMUEXT_NEW_USER_BASEPTR};

// Each instruction in 16 bytes, and behind it the way back. `entries_begin` takes 15 registers, the
// flags and the place to go to from where rdi points.
global_asm!(
    r#"
    .text
    .balign 16
    .globl entries_int
entries_int:
    .set n, 0
    .rept 256
    .balign 16
    .byte 0xcd, n
    jmp second_restart
    .set n, n + 1
    .endr

    .macro entry code:vararg
    .balign 16
    \code
    jmp second_restart
    .endm

    .balign 16
    .globl entries_other
entries_other:
    entry syscall
    entry syscall
    entry sysenter
    entry sysenter
    entry int3
    entry .byte 0xf1
    entry ud2
    entry .byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2
    entry .byte 0x0f, 0x0b, 0x78, 0x65, 0x6e, 0xf4
    entry cpuid
    entry rdmsr
    entry wrmsr
    entry in al, dx
    entry in eax, dx
    entry out dx, al
    entry out dx, eax
    entry rep insb
    entry rep outsd
    entry mov rax, cr0
    entry mov rax, cr2
    entry mov rax, cr3
    entry mov rax, cr4
    entry mov cr0, rax
    entry mov cr4, rax
    entry mov rax, dr6
    entry mov dr7, rax
    entry mov dr0, rax
    entry clts
    entry cli
    entry sti
    entry wbinvd
    entry invd
    entry invlpg [rax]
    entry lgdt [rax]
    entry lidt [rax]
    entry lldt ax
    entry ltr ax
    entry sgdt [rax]
    entry xsetbv
    entry xgetbv
    entry rdtsc
    entry rdpmc
    entry rdtscp
    entry swapgs
    entry vmcall
    entry vmmcall
    entry clac
    entry stac
    entry monitor
    entry mov ds, ax
    entry mov es, ax
    entry mov ss, ax
    entry mov fs, ax
    entry mov gs, ax
    entry mov rax, [rax]
    entry mov [rax], rax
    entry add [rcx], rax
    entry lock cmpxchg16b [rcx]
    entry fninit
    entry fldcw [rax]
    entry ldmxcsr [rax]
    entry xrstor [rdx]
    entry fxrstor [rdx]
    entry wrfsbase rax
    entry rdgsbase rax
    entry .byte 0x48, 0xcb
    entry sysretq
    entry sysexit
    .balign 16
    .globl entries_end
entries_end:

    .globl entries_begin
entries_begin:
    mov rax, rdi
    push [rax + 16 * 8]
    push [rax + 15 * 8]
    mov rbx, [rax + 8]
    mov rcx, [rax + 2 * 8]
    mov rdx, [rax + 3 * 8]
    mov rsi, [rax + 4 * 8]
    mov rdi, [rax + 5 * 8]
    mov rbp, [rax + 6 * 8]
    mov r8, [rax + 7 * 8]
    mov r9, [rax + 8 * 8]
    mov r10, [rax + 9 * 8]
    mov r11, [rax + 10 * 8]
    mov r12, [rax + 11 * 8]
    mov r13, [rax + 12 * 8]
    mov r14, [rax + 13 * 8]
    mov r15, [rax + 14 * 8]
    mov rax, [rax]
    popfq
    ret
    "#
);

unsafe extern "C" {
    static entries_int: u8;
    static entries_other: u8;
    static entries_end: u8;
    fn entries_begin();
}

/// Registers, the flags, and where to go to.
type Begin = [u64; 17];

/// IF, which a guest always has, and bit 1.
const FLAGS: u64 = 0x202;
/// What user mode can set of itself: CF PF AF ZF SF TF DF OF IOPL NT RF AC ID.
const FREE_FLAGS: u64 = 0x27_7dd5;
/// TF: the step ends before its instruction.
const TF: u64 = 0x100;

fn begin(random: &mut Random) -> Begin {
    let mut begin: Begin = core::array::from_fn(|_| random.odd());
    // A hypercall's number or a selector, and an address, more often.
    if random.once_in(2) {
        begin[0] = random.below(64);
    }
    let flags = random.word() & FREE_FLAGS;
    begin[15] = FLAGS
        | if random.once_in(4) {
            flags
        } else {
            flags & !TF
        };
    let int = &raw const entries_int as u64;
    let other = &raw const entries_other as u64;
    let end = &raw const entries_end as u64;
    begin[16] = if random.once_in(4) {
        int + 16 * random.below(256)
    } else {
        other + 16 * random.below((end - other) / 16)
    };
    begin
}

/// Enters the hypervisor. What comes of it begins the next step.
pub fn step(random: &mut Random) {
    let begin = begin(random);
    // `syscall` in kernel mode with any registers is a hypercall that might end this guest.
    let hypercall = (begin[16].wrapping_sub(&raw const entries_other as u64)) < 32;
    if hypercall || random.once_in(2) {
        from_user(&begin);
    } else {
        // SAFETY: whatever happens, `second::restart` follows, and nothing of this frame is needed.
        unsafe {
            asm!(
                "jmp {}", sym entries_begin,
                in("rdi") &raw const begin,
                options(noreturn),
            )
        }
    }
}

/// The same in user mode, which sees all that the kernel sees.
fn from_user(begin: &Begin) {
    mmuext_op(MMUEXT_NEW_USER_BASEPTR, memory::l4().mfn(), 0);
    call(
        HYPERVISOR_STACK_SWITCH,
        [u64::from(FLAT_KERNEL_SS), second::stack(), 0, 0, 0],
    );
    // SAFETY: as above. The frame is that of the iret hypercall: rax, r11, rcx, flags, rip, cs,
    // rflags, rsp, ss.
    unsafe {
        asm!(
            "mov rax, rsp",
            "push 0xe02b",
            "push rax",
            "push 0x202",
            "push 0xe033",
            "push {go}",
            "push 0",
            "push 0",
            "push 0",
            "push 0",
            "mov eax, 23",
            "syscall",
            "ud2",
            go = in(reg) entries_begin as *const () as u64,
            in("rdi") begin,
            options(noreturn),
        )
    }
}
