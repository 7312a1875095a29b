//! What the toolstack asks of the guest: to end, to stand still and be saved, to have more or less
//! memory. And its end, and why.
//!
//! A guest that lives on its main loop has [`Requests`], and [obeys](Requests::obey) them there:
//!
//! ```ignore
//! let requests = power::Requests::listen()?;
//! loop {
//!     // ... what the guest is for ...
//!     requests.obey();
//!     wait::any(u64::MAX);
//! }
//! ```
//!
//! It then can be shut down, rebooted, given more or less memory, saved, restored, moved to another
//! host, and copied, with no other line of its own: disks and network cards find their new backends
//! by themselves, time goes on, watches go on. Only who shares pages or channels with peers of its own
//! has to begin anew with them when [`obey`](Requests::obey) says [`Resumed::Elsewhere`].

use core::sync::atomic::{AtomicBool, Ordering};

use xen_abi::sched::{
    SCHEDOP_SHUTDOWN, SHUTDOWN_CRASH, SHUTDOWN_POWEROFF, SHUTDOWN_REBOOT, SchedShutdown,
};
use xen_abi::xen::HYPERVISOR_SCHED_OP;

use super::store::{GuestStore, store};
use super::suspend::{Resumed, suspend};
use super::vcpu::STACK_SIZE;
use super::{console, frames};
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
    /// To stand still and be saved.
    Suspend,
    /// To have so much memory.
    Resize {
        /// KiB.
        kib: u64,
    },
}

impl Request {
    /// What a word at [`REQUEST`] means.
    fn of_word(word: &[u8]) -> Option<Self> {
        match word {
            b"poweroff" | b"halt" => Some(Self::PowerOff),
            b"reboot" => Some(Self::Reboot),
            b"suspend" => Some(Self::Suspend),
            _ => None,
        }
    }
}

/// The toolstack's requests (`control/shutdown` and `memory/target` in the store).
#[derive(Debug)]
pub struct Requests {
    shutdown: Watch<'static, RawPage, Native>,
    memory: Watch<'static, RawPage, Native>,
}

/// Where requests come.
const REQUEST: &str = "control/shutdown";
/// Where the memory is that the guest shall have, KiB in decimal.
const TARGET: &str = "memory/target";

/// Says what the guest can do when it is asked to.
pub(super) fn announce() {
    let Some(store) = store() else { return };
    for feature in ["poweroff", "reboot", "suspend", "balloon"] {
        // A toolstack that does not let it say so does not ask either.
        let _ = store.write(&alloc::format!("control/feature-{feature}"), b"1");
    }
}

/// Takes the word at [`REQUEST`], and so tells the toolstack that it was heard: at once, for the
/// toolstack may take it back. One that means nothing stays unheard.
fn take_word(store: &GuestStore) -> Option<Request> {
    let taken = store.transaction(|transaction| {
        let request = Request::of_word(&transaction.read(REQUEST)?);
        if request.is_some() {
            transaction.write(REQUEST, b"")?;
        }
        Ok(request)
    });
    taken.ok().flatten()
}

impl Requests {
    /// Listens for requests from now on. One that comes ends [`wait::any`](super::wait::any).
    ///
    /// # Errors
    /// The store's; a guest without a store hears none.
    pub fn listen() -> Result<Self, Error> {
        let store = store().ok_or(Error::Broken)?;
        let requests = Self {
            shutdown: store.watch(REQUEST)?,
            memory: store.watch(TARGET)?,
        };
        announce();
        Ok(requests)
    }

    /// What was asked, if anything was; the toolstack sees that it was heard. For who wants to do
    /// something before or after; others [`obey`](Self::obey).
    #[must_use]
    pub fn take(&self) -> Option<Request> {
        let store = store()?;
        let shutdown = self.shutdown.fired().then(|| take_word(store)).flatten();
        if shutdown.is_some() {
            return shutdown;
        }
        if !self.memory.fired() {
            return None;
        }
        let target = store.read_text(TARGET).ok()?;
        let kib = target.trim().parse().ok()?;
        Some(Request::Resize { kib })
    }

    /// Does what was asked, if anything was: on vCPU 0. A guest that is suspended goes on when this
    /// returns, and is told where.
    ///
    /// One that cannot be suspended now says why on its console; the toolstack gives up in its time.
    pub fn obey(&self) -> Option<Resumed> {
        match self.take() {
            Some(Request::PowerOff) => off(),
            Some(Request::Reboot) => reboot(),
            Some(Request::Suspend) => {
                return suspend()
                    .inspect_err(|why| crate::println!("not suspended: {why}"))
                    .ok();
            }
            Some(Request::Resize { kib }) => {
                resize(kib);
            }
            None => {
                // What the host had no memory for it may have now.
                frames::resize(None);
            }
        }
        None
    }
}

/// Gives memory back, or takes it again, so that the guest has so much, in KiB; returns how much it
/// then has. Only memory that was never used is given, and 1 MiB of it is kept
/// ([`balloon`](crate::balloon)); there is never more than the guest began with.
pub fn resize(kib: u64) -> u64 {
    frames::resize(Some(kib))
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
