//! What the boot loader says about the display, and what of it can be drawn on.

use core::ops::Range;

/// A linear framebuffer or the EGA text screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Framebuffer {
    /// Machine address.
    pub address: u64,
    /// Bytes from one line to the next.
    pub pitch: u32,
    /// Pixels, or characters in text mode.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bits per pixel (text mode: 16).
    pub bits: u8,
    /// What a pixel is.
    pub kind: FramebufferKind,
}

/// What a pixel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramebufferKind {
    /// An index into a palette.
    Indexed,
    /// Position and size in bits of red, green and blue.
    Rgb([(u8, u8); 3]),
    /// EGA text.
    Text,
}

/// Machine addresses of what the BIOS notes about the screen. Source: IBM PC/AT, BIOS data area:
/// mode at 0x449, columns at 0x44a (16 bits), rows less one at 0x484.
pub const BIOS_DATA: Range<u64> = 0x449..0x485;

/// Largest width and height believed, in pixels.
const MAX_SIDE: u32 = 1 << 14;
/// Largest number of bytes from one line to the next that is believed.
const MAX_PITCH: u32 = MAX_SIDE * 4;
/// Glyphs are drawn larger where more characters than this would fit in a line.
const MAX_COLUMNS: u32 = 256;
/// Glyphs are drawn larger where more lines of text than this would fit.
const MAX_ROWS: u32 = 128;

impl Framebuffer {
    /// The text screen that a PC's BIOS leaves: 80 columns, 25 rows at 0xb8000.
    /// Source: IBM VGA, mode 3.
    pub const TEXT_80X25: Self = Self {
        address: 0xb_8000,
        pitch: 160,
        width: 80,
        height: 25,
        bits: 16,
        kind: FramebufferKind::Text,
    };

    /// The text screen that the bytes at [`BIOS_DATA`] speak of; `None` if the BIOS set another
    /// mode than 80 by 25 characters in colour.
    #[must_use]
    pub fn from_bios(data: &[u8]) -> Option<Self> {
        let at = |address| data.get(address - BIOS_DATA.start as usize).copied();
        let mode = (at(0x449)?, at(0x44a)?, at(0x44b)?, at(0x484)?);
        (mode == (3, 80, 0, 24)).then_some(Self::TEXT_80X25)
    }

    /// Machine addresses of its memory; empty if the numbers make no sense.
    #[must_use]
    pub fn memory(&self) -> Range<u64> {
        let len = u64::from(self.pitch) * u64::from(self.height);
        let end = self.address.checked_add(len).unwrap_or(self.address);
        self.address..end
    }
}

/// How text is put on a framebuffer that can be drawn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Characters in a line.
    pub columns: usize,
    /// Lines of text.
    pub rows: usize,
    /// Bytes from one line of pixels (or of text) to the next.
    pub pitch: usize,
    /// How a character is drawn.
    pub cell: Cell,
}

/// How a character is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A byte for the character and one for its colours.
    Text,
    /// A glyph.
    Pixels {
        /// Bytes of a pixel: 2, 3 or 4.
        bytes: usize,
        /// Each pixel of the font is a square of so many.
        scale: usize,
        /// The letters' colour.
        ink: u32,
    },
}

impl Mode {
    /// How to draw on `screen` with glyphs of `glyph` pixels (width, height). `None` if
    /// that cannot be done: a palette, or numbers that do not fit each other.
    #[must_use]
    pub fn of(screen: &Framebuffer, glyph: (u32, u32)) -> Option<Self> {
        let pixel = u32::from(screen.bits).div_ceil(8);
        let sane = (1..=MAX_SIDE).contains(&screen.width)
            && (1..=MAX_SIDE).contains(&screen.height)
            && screen.pitch <= MAX_PITCH
            && screen.pitch >= screen.width * pixel
            && !screen.memory().is_empty();
        if !sane {
            return None;
        }
        let (columns, rows, cell) = match screen.kind {
            FramebufferKind::Text if pixel == 2 => (
                screen.width.min(MAX_COLUMNS),
                screen.height.min(MAX_ROWS),
                Cell::Text,
            ),
            FramebufferKind::Text | FramebufferKind::Indexed => return None,
            FramebufferKind::Rgb(colours) => {
                let wide = screen.width.div_ceil(MAX_COLUMNS * glyph.0);
                let scale = wide.max(screen.height.div_ceil(MAX_ROWS * glyph.1));
                let cell = Cell::Pixels {
                    bytes: (2..=4).contains(&pixel).then_some(pixel as usize)?,
                    scale: scale as usize,
                    ink: ink(&colours, pixel * 8)?,
                };
                (
                    screen.width / (glyph.0 * scale),
                    screen.height / (glyph.1 * scale),
                    cell,
                )
            }
        };
        (columns > 0 && rows > 0).then_some(Self {
            columns: columns as usize,
            rows: rows as usize,
            pitch: screen.pitch as usize,
            cell,
        })
    }
}

/// Light grey, 2/3 of each colour's largest value, in a pixel of `bits` bits.
fn ink(colours: &[(u8, u8); 3], bits: u32) -> Option<u32> {
    colours.iter().try_fold(0, |all, &(position, size)| {
        let (position, size) = (u32::from(position), u32::from(size));
        let fits = (1..=8).contains(&size) && position + size <= bits;
        fits.then(|| all | (0xaa >> (8 - size)) << position)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RGB32: Framebuffer = Framebuffer {
        address: 0xfd00_0000,
        pitch: 4096,
        width: 1024,
        height: 768,
        bits: 32,
        kind: FramebufferKind::Rgb([(16, 8), (8, 8), (0, 8)]),
    };

    fn of(screen: &Framebuffer) -> Option<Mode> {
        Mode::of(screen, (9, 15))
    }

    #[test]
    fn true_colour_modes() {
        let mode = of(&RGB32).expect("can be drawn on");
        assert_eq!((mode.columns, mode.rows, mode.pitch), (113, 51, 4096));
        let grey = |bytes, ink| Cell::Pixels {
            bytes,
            scale: 1,
            ink,
        };
        assert_eq!(mode.cell, grey(4, 0x00aa_aaaa));
        let mode = Framebuffer { bits: 24, ..RGB32 };
        assert_eq!(of(&mode).map(|m| m.cell), Some(grey(3, 0x00aa_aaaa)));
        let high = Framebuffer {
            bits: 16,
            kind: FramebufferKind::Rgb([(11, 5), (5, 6), (0, 5)]),
            ..RGB32
        };
        assert_eq!(of(&high).map(|m| m.cell), Some(grey(2, 0xad55)));
        let fifteen = Framebuffer {
            bits: 15,
            kind: FramebufferKind::Rgb([(10, 5), (5, 5), (0, 5)]),
            ..RGB32
        };
        assert_eq!(of(&fifteen).map(|m| m.cell), Some(grey(2, 0x56b5)));
    }

    #[test]
    fn large_screens_have_large_letters() {
        let large = Framebuffer {
            pitch: 3840 * 4,
            width: 3840,
            height: 2160,
            ..RGB32
        };
        let mode = of(&large).expect("can be drawn on");
        assert_eq!((mode.columns, mode.rows), (213, 72));
    }

    #[test]
    fn text_modes() {
        let mode = of(&Framebuffer::TEXT_80X25).expect("can be drawn on");
        assert_eq!((mode.columns, mode.rows, mode.cell), (80, 25, Cell::Text));
    }

    #[test]
    fn the_bios_tells_of_its_text_screen() {
        let mut data = [0; 60];
        (data[0], data[1], data[59]) = (3, 80, 24);
        assert_eq!(Framebuffer::from_bios(&data), Some(Framebuffer::TEXT_80X25));
        assert_eq!(Framebuffer::from_bios(&data[..59]), None);
        data[0] = 0x12;
        assert_eq!(Framebuffer::from_bios(&data), None);
        assert_eq!(Framebuffer::from_bios(&[0; 60]), None);
    }

    #[test]
    fn nonsense_is_not_drawn_on() {
        for wrong in [
            Framebuffer {
                pitch: 4095,
                ..RGB32
            },
            Framebuffer {
                width: 0,
                pitch: 0,
                ..RGB32
            },
            Framebuffer {
                height: 14,
                ..RGB32
            },
            Framebuffer {
                height: u32::MAX,
                ..RGB32
            },
            Framebuffer {
                address: u64::MAX - 5,
                ..RGB32
            },
            Framebuffer {
                bits: 8,
                kind: FramebufferKind::Indexed,
                ..RGB32
            },
            Framebuffer { bits: 8, ..RGB32 },
            Framebuffer {
                bits: 48,
                pitch: 8192,
                ..RGB32
            },
            Framebuffer { bits: 16, ..RGB32 },
            Framebuffer {
                kind: FramebufferKind::Rgb([(16, 0), (8, 8), (0, 8)]),
                ..RGB32
            },
            Framebuffer {
                kind: FramebufferKind::Rgb([(255, 8), (8, 8), (0, 8)]),
                ..RGB32
            },
            Framebuffer {
                kind: FramebufferKind::Text,
                ..RGB32
            },
        ] {
            assert_eq!(of(&wrong), None, "{wrong:?}");
        }
    }
}
