//! The guest's end, and why.

use core::sync::atomic::{AtomicBool, Ordering};

use xen_abi::sched::{
    SCHEDOP_SHUTDOWN, SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SchedShutdown,
};
use xen_abi::xen::HYPERVISOR_SCHED_OP;

use super::console;
use super::store::store;
use super::vcpu::STACK_SIZE;
use crate::hypercall::{Native, RawPage, raw};
use crate::xenstore::{Error, Watch};

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

/// What the toolstack asks a guest to do with itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// To power off.
    PowerOff,
    /// To start afresh.
    Reboot,
}

/// The toolstack's requests (`control/shutdown` in the store).
#[derive(Debug)]
pub struct Requests(Watch<'static, RawPage, Native>);

/// Where requests come.
const REQUEST: &str = "control/shutdown";

impl Requests {
    /// Listens for requests from now on. One that comes ends [`wait::any`](super::wait::any).
    ///
    /// # Errors
    /// The store's; a guest without a store hears none.
    pub fn listen() -> Result<Self, Error> {
        store().ok_or(Error::Broken)?.watch(REQUEST).map(Self)
    }

    /// What was asked, if anything was; the toolstack sees that it was heard. Requests that a guest
    /// of this crate cannot follow (to be suspended) stay unheard.
    #[must_use]
    pub fn take(&self) -> Option<Request> {
        if !self.0.fired() {
            return None;
        }
        let store = store()?;
        let request = match store.read_text(REQUEST).ok()?.as_str() {
            "poweroff" | "halt" => Request::PowerOff,
            "reboot" => Request::Reboot,
            _ => return None,
        };
        store.write(REQUEST, b"").ok()?;
        Some(request)
    }

    /// Does what was asked, if anything was.
    pub fn obey(&self) {
        match self.take() {
            Some(Request::PowerOff) => off(),
            Some(Request::Reboot) => reboot(),
            None => {}
        }
    }
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
