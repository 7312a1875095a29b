//! Text output: dom0's through the emergency console, another guest's through its console ring.

use crate::boot::start_info;
use crate::hypercall::{call, call_with};
use crate::memory::Page;
use core::fmt::{self, Write};
use core::mem::offset_of;
use core::sync::atomic::{AtomicU32, Ordering};
use xen_abi::event_channel::{EVTCHNOP_SEND, EvtchnSend};
use xen_abi::io::{XENCONS_OUT_SIZE, XenconsInterface};
use xen_abi::sched::SCHEDOP_YIELD;
use xen_abi::xen::{
    CONSOLEIO_WRITE, HYPERVISOR_CONSOLE_IO, HYPERVISOR_EVENT_CHANNEL_OP, HYPERVISOR_SCHED_OP,
    SIF_INITDOMAIN,
};

/// Collects a line and writes it at once.
struct Line {
    bytes: [u8; 256],
    used: usize,
}

impl Line {
    fn flush(&mut self) {
        if start_info().flags & SIF_INITDOMAIN == 0 {
            write_to_ring(&self.bytes[..self.used]);
            self.used = 0;
            return;
        }
        let pointer = self.bytes.as_ptr() as u64;
        let command = u64::from(CONSOLEIO_WRITE);
        call(
            HYPERVISOR_CONSOLE_IO,
            [command, self.used as u64, pointer, 0, 0],
        );
        self.used = 0;
    }
}

/// Puts bytes into the console ring and waits until they are taken, so that none is lost with the
/// guest.
fn write_to_ring(bytes: &[u8]) {
    let ring = Page::of_mfn(start_info().console_mfn).va();
    let out = (ring + offset_of!(XenconsInterface, out) as u64) as *mut u8;
    // SAFETY: indices of the mapped ring page; both sides access them atomically.
    let index = |offset: usize| unsafe { &*((ring + offset as u64) as *const AtomicU32) };
    let consumed = index(offset_of!(XenconsInterface, out_cons));
    let produced = index(offset_of!(XenconsInterface, out_prod));
    let notify = || {
        let mut send = EvtchnSend {
            port: start_info().console_evtchn,
        };
        call_with(HYPERVISOR_EVENT_CHANNEL_OP, EVTCHNOP_SEND, &mut send);
        call(HYPERVISOR_SCHED_OP, [u64::from(SCHEDOP_YIELD), 0, 0, 0, 0]);
    };
    for &byte in bytes {
        let at = produced.load(Ordering::Relaxed);
        while at.wrapping_sub(consumed.load(Ordering::Acquire)) as usize >= XENCONS_OUT_SIZE {
            notify();
        }
        // SAFETY: within the ring's buffer, in the mapped page.
        unsafe {
            out.add(at as usize % XENCONS_OUT_SIZE).write_volatile(byte);
        }
        produced.store(at.wrapping_add(1), Ordering::Release);
    }
    while produced.load(Ordering::Relaxed) != consumed.load(Ordering::Acquire) {
        notify();
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

/// Prints a line on the emergency console.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => {
        $crate::console::print(format_args!("{}\n", format_args!($($text)*)))
    };
}
