//! A 16550 UART, polled. Source of numbers: National Semiconductor PC16550D.

use crate::arch::ByteRegs;

/// Receive, transmit; divisor low while [`LCR_DLAB`].
const DATA: u16 = 0;
/// Interrupt enable; divisor high while [`LCR_DLAB`].
const IER: u16 = 1;
/// FIFO control.
const FCR: u16 = 2;
/// Line control.
const LCR: u16 = 3;
/// Modem control.
const MCR: u16 = 4;
/// Line status.
const LSR: u16 = 5;
/// Modem status.
const MSR: u16 = 6;

const IER_RECEIVE: u8 = 1;
const FCR_ENABLE_AND_CLEAR: u8 = 0x07;
const LCR_DLAB: u8 = 0x80;
/// DTR, RTS, OUT2 (which lets the interrupt through on a PC).
const MCR_READY: u8 = 0x0b;
const MCR_LOOP: u8 = 0x10;
const LSR_DATA_READY: u8 = 0x01;
const LSR_TRANSMIT_EMPTY: u8 = 0x20;

/// Bytes the transmitter takes once it is empty.
const FIFO: usize = 16;
/// Looks at the status before a transmitter counts as stuck: a port read takes about
/// a microsecond, 16 bytes at 9600 baud take 17 ms.
const PATIENCE: u32 = if cfg!(test) { 100 } else { 50_000 };

/// How to drive a UART.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// First I/O port.
    pub port: u16,
    /// ISA interrupt.
    pub irq: u8,
    /// Divisor of the 115200 Hz clock; `None` leaves what firmware set.
    pub divisor: Option<u16>,
    /// Line control register: bits, parity, stop bits.
    pub line: u8,
}

impl Config {
    /// Line control for 8 data bits, no parity, 1 stop bit.
    pub const LINE_8N1: u8 = 0x03;
    /// First serial port, 115200 baud, 8n1.
    pub const COM1: Self = Self {
        port: 0x3f8,
        irq: 4,
        divisor: Some(1),
        line: Self::LINE_8N1,
    };
    /// Second serial port, 115200 baud, 8n1.
    pub const COM2: Self = Self {
        port: 0x2f8,
        irq: 3,
        ..Self::COM1
    };
}

/// A UART that is there.
pub(super) struct Uart<R> {
    regs: R,
    /// The last byte sent, to tell a bare line feed.
    last: u8,
    /// The transmitter did not empty in time; do not wait again until it has.
    stuck: bool,
}

impl<R: ByteRegs> Uart<R> {
    /// Sets the UART up; `None` if nothing answers there.
    pub(super) fn start(regs: R, config: &Config) -> Option<Self> {
        regs.write(LCR, config.line);
        regs.write(IER, 0);
        // In loop-back mode the modem status mirrors the modem control.
        regs.write(MCR, MCR_LOOP | 0x0a);
        if regs.read(MSR) & 0xf0 != 0x90 {
            return None;
        }
        if let Some(divisor) = config.divisor {
            let [low, high] = divisor.to_le_bytes();
            regs.write(LCR, config.line | LCR_DLAB);
            regs.write(DATA, low);
            regs.write(IER, high);
            regs.write(LCR, config.line);
        }
        regs.write(FCR, FCR_ENABLE_AND_CLEAR);
        regs.write(MCR, MCR_READY);
        Some(Self::already_started(regs))
    }

    /// A UART that somebody has set up.
    pub(super) fn already_started(regs: R) -> Self {
        Self {
            regs,
            last: 0,
            stuck: false,
        }
    }

    /// Sends bytes, waiting for the transmitter as long as it makes progress. A line
    /// feed without carriage return gets one.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        let mut room = 0;
        for b in bytes {
            if *b == b'\n' && self.last != b'\r' {
                self.put(b'\r', &mut room);
            }
            self.put(*b, &mut room);
        }
    }

    fn put(&mut self, byte: u8, room: &mut usize) {
        if *room == 0 {
            let patience = if self.stuck { 1 } else { PATIENCE };
            let ready = (0..patience).any(|_| self.regs.read(LSR) & LSR_TRANSMIT_EMPTY != 0);
            self.stuck = !ready;
            if !ready {
                return;
            }
            *room = FIFO;
        }
        self.regs.write(DATA, byte);
        self.last = byte;
        *room -= 1;
    }

    /// A byte that came in.
    pub(super) fn read(&mut self) -> Option<u8> {
        let status = self.regs.read(LSR);
        // All ones: it has gone away.
        (status != 0xff && status & LSR_DATA_READY != 0).then(|| self.regs.read(DATA))
    }

    /// Lets a received byte raise the interrupt.
    pub(super) fn set_receive_interrupt(&mut self, on: bool) {
        self.regs.write(IER, if on { IER_RECEIVE } else { 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::vec::Vec;

    #[derive(Default)]
    struct Chip {
        regs: [u8; 8],
        sent: Vec<u8>,
        busy: bool,
        absent: bool,
    }

    impl ByteRegs for &RefCell<Chip> {
        fn read(&self, reg: u16) -> u8 {
            let chip = self.borrow();
            match reg {
                _ if chip.absent => 0xff,
                LSR => u8::from(!chip.busy) * LSR_TRANSMIT_EMPTY,
                MSR if chip.regs[MCR as usize] == 0x1a => 0x90,
                _ => chip.regs[reg as usize],
            }
        }
        fn write(&self, reg: u16, value: u8) {
            let mut chip = self.borrow_mut();
            if reg == DATA && chip.regs[LCR as usize] & LCR_DLAB == 0 {
                chip.sent.push(value);
            }
            chip.regs[reg as usize] = value;
        }
    }

    #[test]
    fn sends_lines_with_carriage_returns() {
        let chip = RefCell::new(Chip::default());
        let mut uart = Uart::start(&chip, &Config::COM1).unwrap();
        uart.write(b"a\nb\r\n");
        assert_eq!(chip.borrow().sent, b"a\r\nb\r\n");
        assert_eq!(chip.borrow().regs[LCR as usize], Config::LINE_8N1);
    }

    #[test]
    fn no_uart_no_output() {
        let chip = RefCell::new(Chip {
            absent: true,
            ..Chip::default()
        });
        assert!(Uart::start(&chip, &Config::COM1).is_none());
    }

    #[test]
    fn a_stuck_transmitter_does_not_hang_us() {
        let chip = RefCell::new(Chip::default());
        let mut uart = Uart::start(&chip, &Config::COM1).unwrap();
        chip.borrow_mut().busy = true;
        uart.write(&[b'x'; 1000]);
        chip.borrow_mut().busy = false;
        uart.write(b"y");
        assert_eq!(chip.borrow().sent, b"y");
    }
}
