//! The guest's own text: on the hypervisor's emergency console if it is the initial domain, else on
//! its console ring.

use core::fmt::{self, Write};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};

use spin::mutex::SpinMutex;
use xen_abi::xen::{CONSOLEIO_WRITE, HYPERVISOR_CONSOLE_IO};

use super::boot::{is_initial_domain, links};
use super::{clock, mmu, shared};
use crate::console::Console;
use crate::event::Channel;
use crate::hypercall::{Native, Port, RawPage, raw};

/// Longest that a line waits for a backend, in nanoseconds.
const PATIENCE: u64 = 2_000_000_000;

static RING: SpinMutex<Option<Console<RawPage, Native>>> = SpinMutex::new(None);

/// Whether lines may wait in the ring when this kernel goes on.
static RELAXED: AtomicBool = AtomicBool::new(false);

/// From now on a line may be in the ring when the guest goes on; [`drain`] waits for it.
pub(super) fn init() {
    RELAXED.store(true, Ordering::Relaxed);
}

fn open() -> Option<Console<RawPage, Native>> {
    let link = links().console;
    let start = NonNull::new(mmu::address(mmu::m2p(link.mfn)) as *mut u8)?;
    // SAFETY: the toolstack made this page the console's ring; it is mapped with the kernel, and
    // used for nothing else.
    let page = unsafe { RawPage::new(start) };
    Some(Console::new(
        page,
        Channel::adopt(Native, shared::bits(), Port(link.port)),
    ))
}

/// The ring is another backend's now: it is opened again at its next use.
pub(super) fn renew() {
    *RING.lock() = None;
}

/// Uses the console ring, unless this is the initial domain.
fn with_ring(f: impl FnOnce(&mut Console<RawPage, Native>)) {
    if is_initial_domain() {
        return;
    }
    let mut ring = RING.lock();
    if ring.is_none() {
        *ring = open();
    }
    if let Some(console) = ring.as_mut() {
        f(console);
    }
}

/// Writes bytes. What the console's backend does not take is lost.
pub fn write(bytes: &[u8]) {
    if is_initial_domain() {
        let command = u64::from(CONSOLEIO_WRITE);
        let arguments = [command, bytes.len() as u64, bytes.as_ptr() as u64, 0, 0];
        // SAFETY: reads the bytes.
        unsafe { raw(HYPERVISOR_CONSOLE_IO, arguments) };
        return;
    }
    with_ring(|console| {
        let deadline = Some(clock::now() + PATIENCE);
        let written = console.write(bytes, deadline, clock::now);
        if written.is_ok() && !RELAXED.load(Ordering::Relaxed) {
            // So that nothing is lost with the guest, whatever it does next.
            let _ = console.drain(deadline, clock::now);
        }
    });
}

/// Waits until what was written has been taken, two seconds at most.
pub fn drain() {
    with_ring(|console| {
        let _ = console.drain(Some(clock::now() + PATIENCE), clock::now);
    });
}

/// Takes what was typed at the console; returns how many bytes.
pub fn read(into: &mut [u8]) -> usize {
    let mut count = 0;
    with_ring(|console| count = console.take(into).unwrap_or(0));
    count
}

/// Collects text and writes it in pieces, lines mostly.
struct Line {
    bytes: [u8; 256],
    used: usize,
}

impl Line {
    fn flush(&mut self) {
        write(self.bytes.get(..self.used).unwrap_or_default());
        self.used = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.used == self.bytes.len() {
                self.flush();
            }
            self.bytes[self.used] = byte;
            self.used += 1;
        }
        Ok(())
    }
}

/// Writes formatted text.
pub fn print(text: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; 256],
        used: 0,
    };
    // Writing to the line cannot fail.
    let _ = line.write_fmt(text);
    line.flush();
}

/// Prints a line on the guest's console.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => {
        $crate::runtime::console::print(format_args!("{}\n", format_args!($($text)*)))
    };
}
