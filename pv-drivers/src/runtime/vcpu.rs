//! Virtual CPUs.

use alloc::alloc::{Layout, alloc_zeroed};
use alloc::boxed::Box;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use xen_abi::arch_x86::{FLAT_KERNEL_CS, FLAT_KERNEL_SS, VGCF_IN_KERNEL, VcpuGuestContext};
use xen_abi::errno::ENOMEM;
use xen_abi::vcpu::{VCPUOP_DOWN, VCPUOP_INITIALISE, VCPUOP_IS_UP, VCPUOP_UP};
use xen_abi::xen::{HYPERVISOR_VCPU_OP, XEN_LEGACY_MAX_VCPUS};
use zerocopy::FromZeros;

use super::boot::start_info;
use super::{clock, mmu, trap, wait};
use crate::hypercall::{Errno, Hypervisor, Native, raw};

/// Bytes of a vCPU's stack, to which it is aligned: its number is at the lowest address.
pub const STACK_SIZE: u64 = 64 << 10;

/// The vCPU that runs this.
pub fn current() -> u32 {
    let rsp: u64;
    // SAFETY: copies a register.
    unsafe { core::arch::asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack)) };
    // SAFETY: the lowest word of the stack in use, which is written before the stack is used;
    // vCPU 0's is zero from the beginning.
    let number = unsafe { ((rsp & !(STACK_SIZE - 1)) as *const u64).read_volatile() };
    number as u32
}

/// A `VCPUOP_*`.
///
/// # Safety
/// As for [`raw`].
unsafe fn op(command: u32, vcpu: u32, pointer: u64) -> Result<u64, Errno> {
    let arguments = [u64::from(command), u64::from(vcpu), pointer, 0, 0];
    // SAFETY: the caller's duty.
    Errno::check(unsafe { raw(HYPERVISOR_VCPU_OP, arguments) })
}

/// How many vCPUs the guest has, up or not.
pub fn count() -> u32 {
    let exists = |vcpu: &u32| {
        // SAFETY: a question.
        unsafe { op(VCPUOP_IS_UP, *vcpu, 0) }.is_ok()
    };
    (0..XEN_LEGACY_MAX_VCPUS as u32).take_while(exists).count() as u32
}

/// Whether a vCPU runs.
pub fn is_up(vcpu: u32) -> bool {
    // SAFETY: a question.
    let up = unsafe { op(VCPUOP_IS_UP, vcpu, 0) };
    up == Ok(1)
}

type Work = Box<dyn FnOnce() + Send>;

/// vCPUs other than 0 that have work.
static BUSY: AtomicU32 = AtomicU32::new(0);
/// Those of them that stand still.
static STILL: AtomicU32 = AtomicU32::new(0);
/// Whether they shall.
static HALT: AtomicBool = AtomicBool::new(false);

/// Stands still here while the guest is suspended. All that waits does so by itself; work on another
/// vCPU than 0 that computes for seconds without waiting calls this now and then, and holds no lock
/// then that vCPU 0 may want.
pub fn rest() {
    if HALT.load(Ordering::SeqCst) && current() != 0 {
        STILL.fetch_add(1, Ordering::SeqCst);
        while HALT.load(Ordering::SeqCst) {
            Native.yield_now();
        }
        STILL.fetch_sub(1, Ordering::SeqCst);
    }
}

/// All vCPUs but 0 stand still, or have no work, until this is dropped.
#[derive(Debug)]
pub(super) struct Halted(());

/// Has the other vCPUs stand still; none if one of them does not within `patience`, in nanoseconds.
pub(super) fn halt(patience: u64) -> Option<Halted> {
    let halted = Halted(());
    HALT.store(true, Ordering::SeqCst);
    let end = clock::now() + patience;
    // Work that begins meanwhile is begun by a vCPU that does not stand still yet.
    while STILL.load(Ordering::SeqCst) < BUSY.load(Ordering::SeqCst) {
        if clock::now() > end {
            return None;
        }
        wait::ring_all();
        Native.yield_now();
    }
    Some(halted)
}

impl Drop for Halted {
    fn drop(&mut self) {
        HALT.store(false, Ordering::SeqCst);
        // Or the next halt would count one that is about to go on.
        while STILL.load(Ordering::SeqCst) > 0 {
            Native.yield_now();
        }
    }
}

/// Starts a vCPU, which does `work` and then goes down. A vCPU is started once.
///
/// # Errors
/// `ENOENT`: no such vCPU; `EEXIST`: it was started before; `ENOMEM`: no memory for its stack.
pub fn start(vcpu: u32, work: impl FnOnce() + Send + 'static) -> Result<(), Errno> {
    // SAFETY: a question.
    unsafe { op(VCPUOP_IS_UP, vcpu, 0) }?;
    let layout = Layout::from_size_align(STACK_SIZE as usize, STACK_SIZE as usize)
        .map_err(|_| Errno(ENOMEM))?;
    // SAFETY: the size is not zero.
    let stack = unsafe { alloc_zeroed(layout) };
    if stack.is_null() {
        return Err(Errno(ENOMEM));
    }
    // SAFETY: the stack's lowest word, nobody else's.
    unsafe { stack.cast::<u64>().write(u64::from(vcpu)) };
    let work: Box<Work> = Box::new(Box::new(work));
    let work = Box::into_raw(work);
    let mut context = context(stack as u64 + STACK_SIZE, work as u64);
    BUSY.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the context names this kernel's code and memory that is the vCPU's alone.
    let started = unsafe { op(VCPUOP_INITIALISE, vcpu, &raw mut *context as u64) }
        // SAFETY: the same.
        .and_then(|_| unsafe { op(VCPUOP_UP, vcpu, 0) });
    if started.is_err() {
        BUSY.fetch_sub(1, Ordering::SeqCst);
        // SAFETY: it does not run, so stack and work are still this one's.
        unsafe {
            drop(Box::from_raw(work));
            alloc::alloc::dealloc(stack, layout);
        }
    }
    started.map(drop)
}

/// A vCPU's first state.
fn context(stack: u64, work: u64) -> Box<VcpuGuestContext> {
    let mut context = Box::new(VcpuGuestContext::new_zeroed());
    context.flags = VGCF_IN_KERNEL;
    let registers = &mut context.user_regs;
    registers.rip = begin as *const () as u64;
    // As after a call.
    registers.rsp = stack - 8;
    registers.rdi = work;
    registers.rflags = 0x200;
    registers.cs = FLAT_KERNEL_CS;
    registers.ss = FLAT_KERNEL_SS;
    let (table, [event, failsafe, syscall]) = trap::elsewhere();
    for (entry, from) in context.trap_ctxt.iter_mut().zip(table) {
        *entry = from;
    }
    context.event_callback_eip = event;
    context.failsafe_callback_eip = failsafe;
    context.syscall_callback_eip = syscall;
    context.kernel_ss = u64::from(FLAT_KERNEL_SS);
    context.kernel_sp = stack;
    context.ctrlreg[3] = mmu::mfn(start_info().pt_base) << 12;
    context
}

extern "C" fn begin(work: *mut Work) -> ! {
    // SAFETY: `start` made it, and gave it to this vCPU alone.
    let work = unsafe { Box::from_raw(work) };
    work();
    BUSY.fetch_sub(1, Ordering::SeqCst);
    loop {
        // SAFETY: stops this vCPU, whose stack stays.
        let _ = unsafe { op(VCPUOP_DOWN, current(), 0) };
    }
}
