//! The guest's end, and why.

use core::sync::atomic::{AtomicBool, Ordering};

use xen_abi::sched::{
    SCHEDOP_SHUTDOWN, SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SchedShutdown,
};
use xen_abi::xen::HYPERVISOR_SCHED_OP;

use super::console;
use super::vcpu::STACK_SIZE;
use crate::hypercall::raw;

/// Stops the domain; `reason` is a `SHUTDOWN_*`.
pub fn shutdown(reason: u32) -> ! {
    console::drain();
    stop(reason)
}

fn stop(reason: u32) -> ! {
    let argument = SchedShutdown { reason };
    let pointer = &raw const argument as u64;
    loop {
        let number = u64::from(SCHEDOP_SHUTDOWN);
        // SAFETY: reads the struct.
        unsafe { raw(HYPERVISOR_SCHED_OP, [number, pointer, 0, 0, 0]) };
    }
}

/// Powers off.
pub fn off() -> ! {
    shutdown(SHUTDOWN_POWEROFF)
}

/// Asks for a fresh start.
pub fn reboot() -> ! {
    shutdown(SHUTDOWN_REBOOT)
}

/// Ends as crashed.
pub fn crash() -> ! {
    shutdown(SHUTDOWN_CRASH)
}

/// Whether a panic is being told.
static PANICKED: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    // One that comes while another is told, by the console's own code perhaps, is not.
    if PANICKED.swap(true, Ordering::SeqCst) {
        stop(SHUTDOWN_CRASH);
    }
    crate::println!("FAIL panic: {info}");
    backtrace();
    crash()
}

/// Prints the return addresses on this vCPU's stack, newest first.
fn backtrace() {
    let mut frame: u64;
    // SAFETY: copies a register.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack)) };
    let stack = frame & !(STACK_SIZE - 1);
    for _ in 0..32 {
        let within = frame >= stack && frame < stack + STACK_SIZE - 16 && frame.is_multiple_of(8);
        if !within {
            break;
        }
        // SAFETY: two words of this vCPU's stack.
        let [above, back] = unsafe { (frame as *const [u64; 2]).read_volatile() };
        if back == 0 {
            break;
        }
        crate::println!("  called from {back:#x}");
        if above <= frame {
            break;
        }
        frame = above;
    }
}
