//! The second vCPU: makes calls at the same time as the first, on the same pages, and enters the
//! hypervisor in every odd way.
//!
//! Nothing comes back to where it was: every exception, event and system call leads to
//! [`restart`], which begins the next step on an empty stack.

use crate::arena::Arena;
use crate::random::Random;
use crate::{calls, entries, tables};
use core::arch::global_asm;
use core::cell::UnsafeCell;
use core::mem::{MaybeUninit, offset_of};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use pv_drivers::runtime::shared;
use pv_drivers::runtime::vcpu::STACK_SIZE;
use test_guests::hypercall::{address_of, call};
use test_guests::{memory, trap};
use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, TI_IF, VGCF_IN_KERNEL, VcpuGuestContext};
use xen_abi::callback::{
    CALLBACKF_MASK_EVENTS, CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE, CALLBACKTYPE_SYSCALL,
};
use xen_abi::vcpu::{VCPUOP_INITIALISE, VCPUOP_UP};
use xen_abi::xen::{
    HYPERVISOR_SET_TRAP_TABLE, HYPERVISOR_STACK_SWITCH, HYPERVISOR_VCPU_OP, VcpuInfo,
};
use zerocopy::FromZeros;

global_asm!(
    r#"
    .section .bss.second, "aw", @nobits
    .balign {stack}
    .globl second_stack
second_stack:
    .fill {stack}, 1, 0
    .globl second_stack_end
second_stack_end:

    .text
    .globl second_restart
second_restart:
    cld
    lea rsp, [rip + second_stack_end]
    xor ebp, ebp
    call {run}
    ud2
    "#,
    stack = const STACK_SIZE,
    run = sym run,
);

unsafe extern "C" {
    static second_stack: u64;
    static second_stack_end: u64;
    fn second_restart();
}

/// Where everything that interrupts this vCPU leads.
pub fn restart() -> u64 {
    second_restart as *const () as u64
}

/// The upper end of its stack.
pub fn stack() -> u64 {
    &raw const second_stack_end as u64
}

/// What the first vCPU prepares, and then leaves to this one.
struct Kept(UnsafeCell<MaybeUninit<Arena>>);

// SAFETY: written before the vCPU starts, and then its alone.
unsafe impl Sync for Kept {}

static ARENA: Kept = Kept(UnsafeCell::new(MaybeUninit::uninit()));
static SEED: AtomicU64 = AtomicU64::new(0);
static STEPS: AtomicU64 = AtomicU64::new(0);
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// The contexts and trap tables are too large for a stack.
static CONTEXT: Page2 = Page2(UnsafeCell::new([0; 5168 / 8]));
#[repr(C, align(4096))]
struct Page2(UnsafeCell<[u64; 5168 / 8]>);
// SAFETY: written before the vCPU starts, and then its alone.
unsafe impl Sync for Page2 {}

/// Steps so far.
pub fn steps() -> u64 {
    STEPS.load(Ordering::Relaxed)
}

/// Starts the vCPU on the pages of `arena`; `false`: the domain has none.
pub fn start(arena: &Arena, seed: u64) -> bool {
    SEED.store(seed, Ordering::Relaxed);
    // SAFETY: the vCPU does not run yet.
    unsafe {
        (*ARENA.0.get()).write(arena.twin());
        // The number of its vCPU is at a stack's lowest address.
        (&raw const second_stack).cast_mut().write(1);
    }
    // SAFETY: as above; plain data of that size.
    let context = unsafe { &mut *CONTEXT.0.get().cast::<VcpuGuestContext>() };
    describe(context);
    let pointer = address_of(context);
    call(
        HYPERVISOR_VCPU_OP,
        [u64::from(VCPUOP_INITIALISE), 1, pointer, 0, 0],
    ) == 0
        && call(HYPERVISOR_VCPU_OP, [u64::from(VCPUOP_UP), 1, 0, 0, 0]) == 0
}

fn describe(context: &mut VcpuGuestContext) {
    context.zero();
    context.flags = VGCF_IN_KERNEL;
    context.user_regs.rip = restart();
    context.user_regs.rsp = stack();
    context.user_regs.rflags = 0x200;
    context.user_regs.cs = FLAT_KERNEL_CS;
    context.user_regs.ss = FLAT_KERNEL_SS;
    for (vector, entry) in context.trap_ctxt.iter_mut().enumerate() {
        *entry = trap::trap_info(vector as u8, TI_IF | 3, restart());
    }
    context.event_callback_eip = restart();
    context.failsafe_callback_eip = restart();
    context.syscall_callback_eip = restart();
    context.kernel_ss = u64::from(FLAT_KERNEL_SS);
    context.kernel_sp = stack();
    context.ctrlreg[3] = memory::l4().machine();
}

/// Says again where exceptions and events lead: random calls may have changed that.
fn lead_back() {
    // SAFETY: this vCPU's alone.
    let context = unsafe { &mut *CONTEXT.0.get().cast::<VcpuGuestContext>() };
    // The last entry ends the table.
    context.trap_ctxt[255] = FromZeros::new_zeroed();
    call(
        HYPERVISOR_SET_TRAP_TABLE,
        [address_of(&mut context.trap_ctxt), 0, 0, 0, 0],
    );
    for kind in [
        CALLBACKTYPE_EVENT,
        CALLBACKTYPE_FAILSAFE,
        CALLBACKTYPE_SYSCALL,
    ] {
        trap::register_callback(kind, CALLBACKF_MASK_EVENTS, restart());
    }
    call(
        HYPERVISOR_STACK_SWITCH,
        [u64::from(FLAT_KERNEL_SS), stack(), 0, 0, 0],
    );
}

fn mask_events() {
    let mask = shared::vcpu_info(1) + offset_of!(VcpuInfo, evtchn_upcall_mask) as u64;
    // SAFETY: a byte of the mapped page, which both sides access atomically.
    unsafe { (mask as *mut u8).write_volatile(1) };
}

extern "C" fn run() -> ! {
    // SAFETY: written by `start`, and this vCPU's alone. What it did when it was interrupted is
    // never gone on with.
    let arena = unsafe { (*ARENA.0.get()).assume_init_mut() };
    loop {
        mask_events();
        let n = STEPS.fetch_add(1, Ordering::Relaxed);
        let seed = SEED.load(Ordering::Relaxed);
        let mut random = Random::of_step(seed, n);
        if arena.take_spoiled() || n.is_multiple_of(64) {
            lead_back();
        }
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            arena.repair();
        }
        match random.below(16) {
            0 | 1 => {
                tables::step(arena, &mut random);
            }
            2 | 3 => entries::step(&mut random),
            _ => {
                calls::step(arena, &mut random);
            }
        }
        INTERRUPTED.store(false, Ordering::Relaxed);
    }
}
