//! Entry point, ELF notes and the start info.

use core::arch::global_asm;
use core::sync::atomic::{AtomicU64, Ordering};
use xen_abi::sched::{SCHEDOP_SHUTDOWN, SHUTDOWN_CRASH, SchedShutdown};
use xen_abi::xen::{HYPERVISOR_SCHED_OP, StartInfo};

use crate::hypercall::call;

/// Virtual address of PFN 0.
pub const VIRT_BASE: u64 = 0xffff_ffff_8000_0000;

// Xen passes the start info in rsi and a stack of one page, too small for Rust code.
// Notes: Xen `include/public/elfnote.h`.
global_asm!(
    r#"
    .macro xen_note kind, value:vararg
    .align 4
    .long 2f - 1f, 4f - 3f, \kind
1:  .asciz "Xen"
2:  .align 4
3:  \value
4:  .align 4
    .endm

    .section .note.Xen, "a", @note
    xen_note 1, .quad pv_start
    xen_note 2, .quad hypercall_page
    xen_note 3, .quad {virt_base}
    xen_note 4, .quad 0
    xen_note 5, .asciz "xen-3.0"
    xen_note 6, .asciz "test"
    xen_note 8, .asciz "generic"
    xen_note 10, .asciz "!writable_page_tables|pae_pgdir_above_4gb"
    xen_note 16, .long 1
    xen_note 17, .long 0x801

    .section .text.hypercall_page, "ax", @progbits
    .balign 4096
    .globl hypercall_page
hypercall_page:
    .fill 4096, 1, 0xcc

    .section .bss.stack, "aw", @nobits
    .balign 16
    .fill 65536, 1, 0
stack_end:

    .text
    .globl pv_start
pv_start:
    cld
    mov [rip + {start_info}], rsi
    mov [rip + {first_rsp}], rsp
    lea rsp, [rip + stack_end]
    xor ebp, ebp
    call {enter}
    ud2
    "#,
    virt_base = const VIRT_BASE,
    start_info = sym START_INFO,
    first_rsp = sym FIRST_RSP,
    enter = sym enter,
);

static START_INFO: AtomicU64 = AtomicU64::new(0);
static FIRST_RSP: AtomicU64 = AtomicU64::new(0);

unsafe extern "Rust" {
    /// The kernel proper; each binary defines it.
    fn kernel_main() -> !;
    /// Page of hypercall stubs, filled by the loader.
    static hypercall_page: [u8; 4096];
}

extern "C" fn enter() -> ! {
    // SAFETY: every binary of this package defines `kernel_main` with this signature.
    unsafe { kernel_main() }
}

/// The start info page.
pub fn start_info() -> &'static StartInfo {
    // SAFETY: the loader put it there, it stays mapped, and nobody writes it.
    unsafe { &*(START_INFO.load(Ordering::Relaxed) as *const StartInfo) }
}

/// Address of the start info page, as given in rsi.
pub fn start_info_va() -> u64 {
    START_INFO.load(Ordering::Relaxed)
}

/// Stack pointer at entry.
pub fn first_rsp() -> u64 {
    FIRST_RSP.load(Ordering::Relaxed)
}

/// Address of the hypercall page.
pub fn hypercall_page_va() -> u64 {
    &raw const hypercall_page as u64
}

/// The command line, up to its NUL.
pub fn cmd_line() -> &'static [u8] {
    let line = &start_info().cmd_line;
    line.split(|&b| b == 0).next().unwrap_or(line)
}

/// Stops the domain; `reason` is a `SHUTDOWN_*`.
pub fn shutdown(reason: u32) -> ! {
    let argument = SchedShutdown { reason };
    let pointer = &raw const argument as u64;
    loop {
        let number = u64::from(SCHEDOP_SHUTDOWN);
        call(HYPERVISOR_SCHED_OP, [number, pointer, 0, 0, 0]);
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    crate::println!("FAIL panic: {info}");
    shutdown(SHUTDOWN_CRASH)
}
