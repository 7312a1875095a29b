//! Serial console, screen, log ring, rate limiter.
//!
//! Three kinds of text pass here: the hypervisor's own lines (`log` macros, prefix
//! `(OXEN) `), lines that a guest can provoke ([`guest_log`], rate limited) and the
//! raw bytes of dom0's console ([`guest_write`]). The first two also go to the
//! ring that `dmesg`-like tools read ([`ring_read`]).
//!
//! The screen is the hypervisor's until dom0 takes it ([`leave_screen`]), and again when the
//! machine is about to stop.
//!
//! Does not know domains. Lock: [`Level::Console`], the innermost, so a line may be
//! logged under any other lock; nothing is called out to while it is held.

mod limit;
mod logger;
mod ring;
pub mod screen;
mod switch;
pub mod uart;

pub use logger::{Threshold, guest_log, limited_log, set_clock, set_thresholds};

use crate::arch::machine::{self, ScreenMemory, UartPort};
use crate::sync::{Level, Lock, Once};
use core::fmt::{self, Write};
use core::sync::atomic::AtomicU8;
use heapless::Deque;
use ring::Ring;
use screen::{Canvas, Framebuffer, Screen};
use switch::{Route, Switch};
use uart::Uart;

/// What every line of ours begins with.
pub const PREFIX: &str = "(OXEN) ";

static RING: ring::Bytes = [const { AtomicU8::new(0) }; ring::SIZE];

static CONSOLE: Lock<Console> = Lock::new(
    Level::Console,
    Console {
        uart: None,
        screen: None,
        ring: Ring::new(&RING),
        input: Deque::new(),
        switch: Switch::new(),
        keys: Deque::new(),
    },
);

/// The configuration in force, for whoever cannot wait for the lock.
static CONFIG: Once<uart::Config> = Once::new();

/// The screen, if there is one.
static CANVAS: Once<Canvas<ScreenMemory>> = Once::new();

/// Bytes of input kept for dom0; what comes in beyond that is lost.
const INPUT_SIZE: usize = 1024;

/// How often a dying CPU looks at the lock before it goes without.
const PANIC_PATIENCE: u32 = 10_000_000;

struct Console {
    uart: Option<Uart<UartPort>>,
    /// The screen, while it is ours.
    screen: Option<Screen<'static, ScreenMemory>>,
    ring: Ring,
    /// What came in on the serial line and dom0 has not read yet.
    input: Deque<u8, INPUT_SIZE>,
    /// Whom input is for.
    switch: Switch,
    /// Debug keys that were not served yet.
    keys: Deque<u8, 8>,
}

impl Console {
    /// Moves what the serial line received to the queue.
    fn receive(&mut self) {
        let Some(uart) = &mut self.uart else { return };
        while let Some(byte) = uart.read() {
            // What dom0 does not read in time is lost, so that keys still get through.
            match self.switch.route(byte) {
                Route::Kept => {}
                Route::Dom0(kept) => {
                    for _ in 0..kept {
                        let _ = self.input.push_back(switch::SWITCH);
                    }
                    let _ = self.input.push_back(byte);
                }
                Route::Key => {
                    let _ = self.keys.push_back(byte);
                }
                Route::Switched(to_hypervisor) => {
                    uart.write(if to_hypervisor {
                        b"\n(OXEN) *** Input goes to the hypervisor ('h' for help, Ctrl-A three times to switch back)\n"
                    } else {
                        b"\n(OXEN) *** Input goes to dom0\n"
                    });
                }
            }
        }
        if !self.keys.is_empty() {
            machine::raise(machine::cpu_id(), machine::WORK_INSPECT);
        }
    }

    /// Bytes to the serial line and the screen, past the ring.
    fn transmit(&mut self, bytes: &[u8]) {
        if let Some(uart) = &mut self.uart {
            uart.write(bytes);
        }
        if let Some(screen) = &mut self.screen {
            screen.write(bytes);
        }
    }

    /// Takes the screen, unless it is ours, and shows the end of the ring's text.
    fn take_screen(&mut self) {
        if self.screen.is_some() {
            return;
        }
        let Some(canvas) = CANVAS.get() else { return };
        let mut screen = Screen::new(canvas);
        let last = self.ring.end().saturating_sub(screen.capacity() as u64);
        self.ring.replay(last, |text| screen.write(text));
        self.screen = Some(screen);
    }
}

impl Write for Console {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.ring.write(s.as_bytes());
        self.transmit(s.as_bytes());
        Ok(())
    }
}

/// Brings up the serial line, if `config` asks for one and it is there, sends it
/// what the ring holds so far, and connects the `log` macros. Answers whether there
/// is a serial line.
pub fn init(config: Option<uart::Config>) -> bool {
    let mut console = CONSOLE.lock();
    console.uart = config.and_then(|config| {
        let uart = Uart::start(UartPort::at(config.port)?, &config)?;
        CONFIG.call_once(|| config);
        Some(uart)
    });
    let Console { uart, ring, .. } = &mut *console;
    if let Some(uart) = uart {
        ring.replay(0, |text| uart.write(text));
    }
    let found = uart.is_some();
    drop(console);
    logger::install();
    found
}

/// Shows the hypervisor's lines, those logged so far first, on the screen that `framebuffer`
/// describes and whose memory is `memory`. Answers whether text can be drawn on it. Allocates;
/// the first call counts.
pub fn use_screen(framebuffer: &Framebuffer, memory: ScreenMemory) -> bool {
    let Some(canvas) = Canvas::new(framebuffer, memory) else {
        return false;
    };
    CANVAS.call_once(|| canvas);
    CONSOLE.lock().take_screen();
    true
}

/// Leaves the screen to dom0.
pub fn leave_screen() {
    CONSOLE.lock().screen = None;
}

/// Column and row at which text on the screen goes on; the top left corner if it is not ours.
#[must_use]
pub fn screen_cursor() -> (u16, u16) {
    let console = CONSOLE.lock();
    let cursor = console.screen.as_ref().map(Screen::cursor);
    cursor.map_or((0, 0), |(column, row)| (column as u16, row as u16))
}

/// Takes the screen back from dom0, which is dead, and shows the lines logged last.
pub fn take_screen() {
    CONSOLE.lock().take_screen();
}

/// Sends bytes of dom0's console to the serial line as they are (but a line feed
/// also returns the carriage), and to the screen if that is still ours.
pub fn guest_write(bytes: &[u8]) {
    CONSOLE.lock().transmit(bytes);
}

/// Takes what the serial line received and says whether there is something to read.
/// The serial line's interrupt calls it.
#[must_use]
pub fn receive() -> bool {
    let mut console = CONSOLE.lock();
    console.receive();
    !console.input.is_empty()
}

/// The next byte that came in on the serial line, if any.
#[must_use]
pub fn poll_input() -> Option<u8> {
    let mut console = CONSOLE.lock();
    console.receive();
    console.input.pop_front()
}

/// The next debug key that came in, if any.
#[must_use]
pub fn take_key() -> Option<u8> {
    CONSOLE.lock().keys.pop_front()
}

/// Has a debug key served, as if it had come in on the serial line.
pub fn press_key(key: u8) {
    // Keys nobody has served yet fill the queue: one more would say no more.
    let _ = CONSOLE.lock().keys.push_back(key);
    machine::raise(machine::cpu_id(), machine::WORK_INSPECT);
}

/// I/O ports of the serial line, which no domain may touch.
#[must_use]
pub fn ports() -> Option<core::ops::RangeInclusive<u16>> {
    CONFIG.get().map(|c| c.port..=c.port + 7)
}

/// Whether the serial line raises its interrupt when a byte comes in. Answers the
/// ISA interrupt it uses, if there is a line.
pub fn set_input_interrupt(on: bool) -> Option<u8> {
    CONSOLE.lock().uart.as_mut()?.set_receive_interrupt(on);
    CONFIG.get().map(|c| c.irq)
}

/// Copies text of the ring from position `index` on. Answers the number of bytes
/// copied and the position after them. A position the ring has already forgotten
/// means the oldest text.
#[must_use]
pub fn ring_read(index: u64, buffer: &mut [u8]) -> (usize, u64) {
    CONSOLE.lock().ring.read(index, buffer)
}

/// Forgets the ring's text.
pub fn ring_clear() {
    CONSOLE.lock().ring.clear();
}

/// Runs `f` with exclusive access to the console.
pub(crate) fn with_writer<R>(f: impl FnOnce(&mut dyn Write) -> R) -> R {
    f(&mut *CONSOLE.lock())
}

/// Like `with_writer` for a dying CPU: if whoever holds the lock does not let go
/// in time, the text goes past it, to the serial line and a cleared screen.
pub fn with_panic_writer<R>(f: impl FnOnce(&mut dyn Write) -> R) -> R {
    for _ in 0..PANIC_PATIENCE {
        if let Some(mut console) = CONSOLE.try_lock() {
            console.take_screen();
            return f(&mut *console);
        }
        core::hint::spin_loop();
    }
    let uart = CONFIG
        .get()
        .and_then(|config| UartPort::at(config.port))
        .map(Uart::already_started);
    f(&mut WithoutLock {
        uart,
        screen: CANVAS.get().map(Screen::new),
    })
}

/// Serial line and screen without the ring.
struct WithoutLock {
    uart: Option<Uart<UartPort>>,
    screen: Option<Screen<'static, ScreenMemory>>,
}

impl Write for WithoutLock {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if let Some(uart) = &mut self.uart {
            uart.write(s.as_bytes());
        }
        if let Some(screen) = &mut self.screen {
            screen.write(s.as_bytes());
        }
        Ok(())
    }
}
