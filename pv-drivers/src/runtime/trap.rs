//! Exceptions and event upcalls.
//!
//! [`attempt`] runs code that may fault and reports the exception instead of returning to it.
//! Everything that arrives goes to the hook first ([`set_hook`]). Events that it leaves are
//! dropped; an exception outside an attempt ends the domain. All that is vCPU 0's: an exception on
//! another vCPU ends the domain.

use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use xen_abi::arch_x86::{FLAT_KERNEL_CS, TI_IF, TrapInfo};
use xen_abi::callback::{
    CALLBACKF_MASK_EVENTS, CALLBACKOP_REGISTER, CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE,
    CALLBACKTYPE_SYSCALL, CallbackRegister,
};
use xen_abi::xen::{HYPERVISOR_CALLBACK_OP, HYPERVISOR_SET_TRAP_TABLE};

use super::power;
use crate::hypercall::raw;

/// `Frame::vector` of an event upcall.
pub const EVENT: u64 = 256;
/// `Frame::vector` of a system call from user mode.
pub const SYSCALL: u64 = 257;
/// `Frame::vector` of the failsafe callback.
pub const FAILSAFE: u64 = 258;

/// What was interrupted, and by what.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
#[allow(missing_docs, reason = "registers by their names")]
pub struct Frame {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// Exception number, [`EVENT`], [`SYSCALL`] or [`FAILSAFE`].
    pub vector: u64,
    /// Error code, 0 if the exception has none.
    pub error: u64,
    /// From here on as the hypervisor pushed it.
    pub rip: u64,
    /// Selector, and the event mask in bits 32 to 39.
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

// Frame at a handler's entry: rcx, r11, error code (some), rip, cs, rflags, rsp, ss.
// A failsafe frame has ds, es, fs, gs after r11.
global_asm!(
    r#"
    .text
    .altmacro
    .macro stub number
    .balign 16
    trap_stub_\number:
    pop rcx
    pop r11
    .if (\number == 8) || ((\number >= 10) && (\number <= 14)) || (\number == 17) || (\number == 21)
    .else
    push 0
    .endif
    push \number
    jmp trap_common
    .endm

    .balign 16
trap_stubs:
    .set i, 0
    .rept 32
    stub %i
    .set i, i + 1
    .endr

    .macro stub_elsewhere number
    .balign 16
    push rsp
    push \number
    jmp trap_elsewhere
    .endm

    .balign 16
trap_stubs_elsewhere:
    .set i, 0
    .rept 32
    stub_elsewhere %i
    .set i, i + 1
    .endr

trap_elsewhere:
    pop rsi
    pop rdi
    and rsp, -16
    call {handle_elsewhere}
    ud2

    .macro callback name, number
    .globl \name
    \name:
    pop rcx
    pop r11
    push 0
    push \number
    jmp trap_common
    .endm
    callback trap_stub_int80, 0x80
    callback event_entry, 256
    callback syscall_entry, 257

    .globl failsafe_entry
failsafe_entry:
    pop rcx
    pop r11
    add rsp, 32
    push 0
    push 258

trap_common:
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
    cld
    mov rdi, rsp
    mov rbp, rsp
    and rsp, -16
    call {handle}
    mov rsp, rbp
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
    add rsp, 16
    push 0
    push rcx
    push r11
    push rax
    mov eax, 23
    syscall
    ud2

    # rdi: function, rsi: its argument. Returns 0, or 1 after a trap.
    .globl attempt_enter
attempt_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push [rip + {attempt_rsp}]
    mov [rip + {attempt_rsp}], rsp
    mov rax, rdi
    mov rdi, rsi
    call rax
    xor eax, eax
    jmp 1f
    .globl attempt_trapped
attempt_trapped:
    mov eax, 1
1:  cld
    pop [rip + {attempt_rsp}]
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret
    "#,
    handle = sym handle,
    handle_elsewhere = sym handle_elsewhere,
    attempt_rsp = sym ATTEMPT_RSP,
);

unsafe extern "C" {
    static trap_stubs: [[u8; 16]; 32];
    static trap_stubs_elsewhere: [[u8; 16]; 32];
    fn trap_stub_int80();
    fn event_entry();
    fn syscall_entry();
    fn failsafe_entry();
    fn attempt_enter(function: extern "C" fn(*mut ()), argument: *mut ()) -> u64;
    fn attempt_trapped();
}

/// Stack pointer to return to when an attempt traps; 0 outside.
static ATTEMPT_RSP: AtomicU64 = AtomicU64::new(0);
static HOOK: AtomicUsize = AtomicUsize::new(0);

struct LastFrame(UnsafeCell<Frame>);
// SAFETY: one vCPU; written by the handler, read after the trap has been left.
unsafe impl Sync for LastFrame {}
static LAST: LastFrame = LastFrame(UnsafeCell::new(Frame {
    r15: 0,
    r14: 0,
    r13: 0,
    r12: 0,
    rbp: 0,
    rbx: 0,
    r11: 0,
    r10: 0,
    r9: 0,
    r8: 0,
    rax: 0,
    rcx: 0,
    rdx: 0,
    rsi: 0,
    rdi: 0,
    vector: 0,
    error: 0,
    rip: 0,
    cs: 0,
    rflags: 0,
    rsp: 0,
    ss: 0,
}));

/// Sees a trap first; true if it has dealt with it and the interrupted code shall go on.
pub type Hook = fn(&mut Frame) -> bool;

extern "C" fn handle(frame: &mut Frame) {
    let hook = HOOK.load(Ordering::Relaxed);
    if hook != 0 {
        // SAFETY: only `set_hook` stores there, and only functions of this type.
        let hook: Hook = unsafe { core::mem::transmute(hook) };
        if hook(frame) {
            return;
        }
    }
    if frame.vector == EVENT {
        // Nobody waits for it.
        super::shared::take_upcall(0);
        return;
    }
    let rsp = ATTEMPT_RSP.load(Ordering::Relaxed);
    if rsp != 0 {
        // SAFETY: see `LastFrame`.
        unsafe { *LAST.0.get() = *frame };
        frame.rip = attempt_trapped as *const () as u64;
        frame.rsp = rsp;
        // Back to the kernel, wherever it happened; of the flags only the event mask stays.
        frame.rflags = frame.rflags & 0x200 | 2;
        frame.cs = u64::from(FLAT_KERNEL_CS) & !3;
        frame.ss = 0xe02b;
        return;
    }
    crate::println!("FAIL trap: {frame:x?}");
    power::crash()
}

/// An exception on a vCPU other than 0: what the hypervisor pushed, from rcx on, and the vector.
extern "C" fn handle_elsewhere(pushed: *const [u64; 4], vector: u64) -> ! {
    // SAFETY: rcx, r11, rip or an error code, and so on; the hypervisor has just pushed them.
    let pushed = unsafe { pushed.read() };
    let vcpu = super::vcpu::current();
    crate::println!("FAIL trap: vector {vector} on vCPU {vcpu}: {pushed:x?}");
    power::crash()
}

/// Sets or removes the hook.
pub fn set_hook(hook: Option<Hook>) {
    HOOK.store(hook.map_or(0, |h| h as usize), Ordering::Relaxed);
}

/// Runs `f`; if it causes an exception, abandons it and returns the frame.
///
/// What `f` owned when it was abandoned is never dropped. Attempts nest.
pub fn attempt<F: FnOnce()>(f: F) -> Option<Frame> {
    extern "C" fn run<F: FnOnce()>(argument: *mut ()) {
        // SAFETY: the pointer is to the `Option` below, which lives until `attempt_enter` returns.
        let f = unsafe { &mut *argument.cast::<Option<F>>() }.take();
        if let Some(f) = f {
            f();
        }
    }
    let mut f = Some(f);
    // SAFETY: `attempt_enter` follows the C calling convention whether or not it is cut short.
    let trapped = unsafe { attempt_enter(run::<F>, (&raw mut f).cast()) };
    core::mem::forget(f);
    if trapped == 0 {
        None
    } else {
        // SAFETY: see `LastFrame`.
        Some(unsafe { *LAST.0.get() })
    }
}

/// Address of the handler of an exception below 32.
pub fn stub(vector: u8) -> u64 {
    &raw const trap_stubs as u64 + u64::from(vector) * 16
}

/// The trap table and the callbacks of vCPUs other than 0: event, failsafe, system call.
pub(super) fn elsewhere() -> ([TrapInfo; 32], [u64; 3]) {
    let first = &raw const trap_stubs_elsewhere as u64;
    let table = core::array::from_fn(|n| trap_info(n as u8, TI_IF, first + n as u64 * 16));
    let entries = [event_entry, failsafe_entry, syscall_entry];
    (table, entries.map(|entry| entry as *const () as u64))
}

/// A trap table entry for this kernel's handlers.
pub fn trap_info(vector: u8, flags: u8, address: u64) -> TrapInfo {
    TrapInfo {
        vector,
        flags,
        cs: FLAT_KERNEL_CS,
        _pad: 0,
        address,
    }
}

/// Registers a callback; the hypercall's result.
pub fn register_callback(kind: u16, flags: u16, address: u64) -> i64 {
    let mut callback = CallbackRegister {
        r#type: kind,
        flags,
        _pad: 0,
        address,
    };
    let pointer = &raw mut callback as u64;
    let command = u64::from(CALLBACKOP_REGISTER);
    // SAFETY: reads the struct; the entry points are those of this file, or the caller's own.
    unsafe { raw(HYPERVISOR_CALLBACK_OP, [command, pointer, 0, 0, 0]) }
}

/// Installs all handlers.
///
/// # Panics
/// If the hypervisor refuses.
pub fn init() {
    let int80 = trap_stub_int80 as *const () as u64;
    let mut table = [trap_info(0, 0, 0); 34];
    for (vector, entry) in (0..32).zip(&mut table) {
        // Breakpoint and overflow are open to user mode.
        let dpl = if matches!(vector, 3 | 4) { 3 } else { 0 };
        *entry = trap_info(vector, TI_IF | dpl, stub(vector));
    }
    table[32] = trap_info(0x80, 3, int80);
    let pointer = &raw mut table as u64;
    // SAFETY: reads the table, whose entries are this file's.
    let refused = unsafe { raw(HYPERVISOR_SET_TRAP_TABLE, [pointer, 0, 0, 0, 0]) };
    assert_eq!(refused, 0);
    let callbacks: [(u16, unsafe extern "C" fn()); 3] = [
        (CALLBACKTYPE_EVENT, event_entry),
        (CALLBACKTYPE_FAILSAFE, failsafe_entry),
        (CALLBACKTYPE_SYSCALL, syscall_entry),
    ];
    for (kind, entry) in callbacks {
        let address = entry as *const () as u64;
        assert_eq!(register_callback(kind, CALLBACKF_MASK_EVENTS, address), 0);
    }
}

/// Raises a breakpoint exception: for those who set a hook that takes it.
pub fn breakpoint() {
    // SAFETY: the handler preserves all registers.
    unsafe { core::arch::asm!("int3") };
}
