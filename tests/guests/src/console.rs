//! Text output through the emergency console.

use crate::hypercall::call;
use core::fmt::{self, Write};
use xen_abi::xen::{CONSOLEIO_WRITE, HYPERVISOR_CONSOLE_IO};

/// Collects a line and writes it at once.
struct Line {
    bytes: [u8; 256],
    used: usize,
}

impl Line {
    fn flush(&mut self) {
        let pointer = self.bytes.as_ptr() as u64;
        let command = u64::from(CONSOLEIO_WRITE);
        call(
            HYPERVISOR_CONSOLE_IO,
            [command, self.used as u64, pointer, 0, 0],
        );
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

/// Prints a line on the emergency console.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => {
        $crate::console::print(format_args!("{}\n", format_args!($($text)*)))
    };
}
