//! Where the hypervisor's lines go: serial ports and the screen.

use super::Uart;

/// `console=com1,vga,none`: the first serial port named, and whether the screen is.
pub(super) fn console(value: &str) -> Option<(Option<usize>, bool)> {
    let (mut port, mut screen) = (None, false);
    for part in value.split(',') {
        match part {
            "com1" => port = port.or(Some(0)),
            "com2" => port = port.or(Some(1)),
            "vga" => screen = true,
            "none" | "tty" => {}
            _ => return None,
        }
    }
    Some((port, screen))
}

/// `vga=<mode>[,keep]`: whether the screen stays ours when dom0 starts. The mode is what the
/// boot loader set.
pub(super) fn vga(value: &str) -> Option<bool> {
    let (mode, keep) = match value.split_once(',') {
        None if value == "keep" => return Some(true),
        None => (value, false),
        Some((mode, "keep")) => (mode, true),
        Some(_) => return None,
    };
    let known = ["current", "ask"].contains(&mode)
        || ["text-", "gfx-", "mode-"]
            .iter()
            .any(|kind| mode.starts_with(kind));
    known.then_some(keep)
}

/// `com1=<baud>[/<base-baud>][,<DPS>[,<io-base>[,<irq>]]]`
pub(super) fn uart(value: &str, mut config: Uart) -> Option<Uart> {
    let mut parts = value.split(',');
    let baud = parts.next()?;
    let (baud, base) = baud
        .split_once('/')
        .map_or((baud, Some(115_200)), |(b, base)| (b, base.parse().ok()));
    let base: u32 = base?;
    config.divisor = match baud {
        "auto" => None,
        "" => config.divisor,
        _ => {
            let baud = baud.parse::<u32>().ok().filter(|b| *b > 0)?;
            // A base clock above 115200 * 16 is given in Hz.
            let base = if base > 1_843_200 - 1 {
                base / 16
            } else {
                base
            };
            Some(u16::try_from(base / baud).ok().filter(|d| *d > 0)?)
        }
    };
    if let Some(line) = parts.next().filter(|l| !l.is_empty()) {
        config.line = line_control(line)?;
    }
    if let Some(port) = parts.next().filter(|p| !p.is_empty()) {
        let hex = port.strip_prefix("0x").unwrap_or(port);
        config.port = u16::from_str_radix(hex, 16).ok()?;
    }
    if let Some(irq) = parts.next().filter(|i| !i.is_empty()) {
        config.irq = irq.parse().ok()?;
    }
    Some(config)
}

/// Data bits, parity, stop bits: `8n1`. Source: PC16550D, line control register.
fn line_control(value: &str) -> Option<u8> {
    let [data, parity, stop] = value.as_bytes().try_into().ok()?;
    let data = match data {
        b'5'..=b'8' => data - b'5',
        _ => return None,
    };
    let parity = match parity {
        b'n' => 0,
        b'o' => 0x08,
        b'e' => 0x18,
        b'm' => 0x28,
        b's' => 0x38,
        _ => return None,
    };
    let stop = match stop {
        b'1' => 0,
        b'2' => 0x04,
        _ => return None,
    };
    Some(data | parity | stop)
}
