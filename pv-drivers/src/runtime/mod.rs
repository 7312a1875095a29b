//! A guest on bare metal: entry, memory, traps, time, virtual CPUs, its console and its end.
//!
//! [`entry!`](crate::entry) marks a guest's `main`. Before it runs, [`init`] has set up handlers of
//! exceptions, the shared page, memory and the console; when it returns, the guest powers off. A
//! panic or an exception is told on the console, and ends the guest as crashed.
//!
//! Addresses: PFN 0 is at [`VIRT_BASE`], and so on for as much memory as has been wanted, a GiB at
//! most. Grant tables and peers' pages are above ([`window`]).
//!
//! No upcall interrupts a guest: all ports stay masked (see [`event`](crate::event)), so locks need
//! no care for handlers.
#![allow(
    unsafe_code,
    reason = "a kernel: entry points, hypercalls, raw page accesses"
)]

pub mod boot;
pub mod clock;
pub mod console;
pub mod frames;
mod heap;
#[cfg(feature = "embedded-io")]
pub mod io;
#[cfg(feature = "log")]
pub mod log;
pub mod mmu;
#[cfg(feature = "smoltcp")]
pub mod network;
pub mod peer;
mod platform;
pub mod power;
#[cfg(feature = "random")]
pub mod random;
pub mod shared;
mod store;
pub mod suspend;
pub mod table;
pub mod trap;
pub mod user;
pub mod vcpu;
pub mod wait;
pub mod window;

pub use boot::{VIRT_BASE, start_info};
pub use platform::{Guest, Line};
pub use store::{GuestStore, store};

/// Marks the function that is the guest: `fn main()`. It runs on vCPU 0 with everything set up, and
/// the guest powers off when it returns.
///
/// `entry!(raw NAME)` takes a `fn() -> !` that runs with nothing set up, for those who want to
/// do all by themselves.
#[macro_export]
macro_rules! entry {
    (raw $main:path) => {
        #[unsafe(no_mangle)]
        fn pv_guest_main() -> ! {
            $main()
        }
    };
    ($main:path) => {
        fn pv_guest() -> ! {
            $crate::runtime::init();
            let main: fn() = $main;
            main();
            $crate::runtime::power::off()
        }
        $crate::entry!(raw pv_guest);
    };
}

/// Sets everything up; once, on vCPU 0.
pub fn init() {
    trap::init();
    shared::init();
    frames::init();
    console::init();
}
