//! The letters: X11's fixed font, 9 by 15 pixels, as `embedded-graphics` has it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use embedded_graphics::geometry::{OriginDimensions, Point};
use embedded_graphics::image::GetPixel;
use embedded_graphics::mono_font::ascii::FONT_9X15 as FONT;
use embedded_graphics::pixelcolor::BinaryColor;

/// Width of a glyph in pixels.
pub const WIDTH: usize = FONT.character_size.width as usize;
/// Height of a glyph in pixels.
pub const HEIGHT: usize = FONT.character_size.height as usize;

/// First character that has a glyph, and the one after the last.
const FIRST: u8 = b' ';
const END: u8 = 0x7f;

/// Lines of a glyph from top to bottom; the pixel on the left is bit 0.
pub type Glyph = [u16; HEIGHT];

/// All glyphs, unpacked.
pub struct Font(Box<[Glyph]>);

impl Font {
    /// Unpacks the font. Allocates.
    #[allow(clippy::disallowed_methods, reason = "at boot only")]
    pub fn new() -> Self {
        Self((FIRST..END).map(glyph).collect::<Vec<_>>().into())
    }

    /// The glyph of a character; a question mark's for what has none.
    pub fn glyph(&self, character: u8) -> &Glyph {
        let at = |c: u8| self.0.get(usize::from(c.wrapping_sub(FIRST)));
        at(character).unwrap_or(&self.0[usize::from(b'?' - FIRST)])
    }
}

/// Unpacks one glyph.
fn glyph(character: u8) -> Glyph {
    let columns = FONT.image.size().width as usize / WIDTH;
    let at = FONT.glyph_mapping.index(char::from(character));
    let (left, top) = (at % columns * WIDTH, at / columns * HEIGHT);
    core::array::from_fn(|y| {
        (0..WIDTH).fold(0, |line, x| {
            let place = Point::new((left + x) as i32, (top + y) as i32);
            let on = FONT.image.pixel(place) == Some(BinaryColor::On);
            line | u16::from(on) << x
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_character_has_a_glyph_of_its_own() {
        let font = Font::new();
        let all: std::collections::BTreeSet<_> = (FIRST..END).map(|c| *font.glyph(c)).collect();
        assert_eq!(all.len(), usize::from(END - FIRST));
        assert_eq!(font.glyph(b' '), &[0; HEIGHT]);
        assert_eq!(font.glyph(0x80), font.glyph(b'?'));
        assert_eq!(font.glyph(0), font.glyph(b'?'));
    }

    #[test]
    fn an_underscore_is_a_line_near_the_bottom() {
        let lines = Font::new().glyph(b'_').map(u16::count_ones);
        assert_eq!(lines.iter().filter(|n| **n > 0).count(), 1);
        assert!(lines[HEIGHT / 2..].iter().any(|n| *n > 5));
    }
}
