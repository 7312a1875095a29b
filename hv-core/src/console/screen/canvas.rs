//! What is on the screen and what should be: draws the cells that differ.
//!
//! The screen's memory is slow to read, so it is only written, and what it shows is
//! remembered here. Cells are atomics: a CPU that panics draws without the console's lock.

use super::font::{self, Font};
use super::mode::{Cell, Framebuffer, Mode};
use crate::arch::ScreenMem;
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// What is in a cell of [`Canvas::shown`] when nobody knows; no text has it.
const UNKNOWN: u8 = 0;
/// An empty cell.
pub const BLANK: u8 = b' ';
/// Light grey on black. Source: IBM VGA, attribute byte.
const TEXT_COLOURS: u8 = 0x07;
/// Bytes of the widest line of a glyph: four bytes a pixel, scaled by [`MAX_SCALE`].
const MAX_LINE: usize = font::WIDTH * 4 * MAX_SCALE;
/// The largest scale there can be: 16384 pixels in 256 columns of 9 pixels, and 128 rows
/// of 15.
const MAX_SCALE: usize = 9;
/// Bytes cleared at a time.
const CLEARED: usize = 256;

/// A screen's memory and what it shows.
pub struct Canvas<M> {
    memory: M,
    mode: Mode,
    font: Font,
    /// What each cell shows.
    shown: Box<[AtomicU8]>,
    /// What each cell should show. Rows go round.
    wanted: Box<[AtomicU8]>,
}

impl<M: ScreenMem> Canvas<M> {
    /// A canvas on `memory`, which `screen` describes. `None` if text cannot be drawn there.
    #[allow(clippy::disallowed_methods, reason = "at boot only")]
    pub fn new(screen: &Framebuffer, memory: M) -> Option<Self> {
        let mode = Mode::of(screen, (font::WIDTH as u32, font::HEIGHT as u32))?;
        let cells = |byte| -> Box<[AtomicU8]> {
            (0..mode.columns * mode.rows)
                .map(|_| AtomicU8::new(byte))
                .collect::<Vec<_>>()
                .into()
        };
        Some(Self {
            memory,
            mode,
            font: Font::new(),
            shown: cells(UNKNOWN),
            wanted: cells(BLANK),
        })
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        (self.mode.columns, self.mode.rows)
    }

    /// Row `row` of the text that begins with row `top` of `wanted`.
    pub fn row(&self, top: usize, row: usize) -> &[AtomicU8] {
        let (columns, rows) = self.size();
        let at = (top + row) % rows * columns;
        &self.wanted[at..at + columns]
    }

    /// Clears the screen's memory, whatever it shows, and all text.
    pub fn clear(&self) {
        let blank = match self.mode.cell {
            Cell::Text => [BLANK, TEXT_COLOURS],
            Cell::Pixels { .. } => [0; 2],
        };
        let line: [u8; CLEARED] = core::array::from_fn(|i| blank[i % 2]);
        for at in (0..self.memory.size()).step_by(CLEARED) {
            self.memory
                .write(at, &line[..CLEARED.min(self.memory.size() - at)]);
        }
        self.memory.settle();
        for cell in self.shown.iter().chain(&self.wanted) {
            cell.store(BLANK, Relaxed);
        }
    }

    /// Shows rows `from` to `to` (not included) of the text that begins with row `top`.
    pub fn draw(&self, top: usize, from: usize, to: usize) {
        let (columns, _) = self.size();
        for row in from..to {
            for (column, wanted) in self.row(top, row).iter().enumerate() {
                let wanted = wanted.load(Relaxed);
                let shown = &self.shown[row * columns + column];
                if shown.load(Relaxed) != wanted {
                    shown.store(wanted, Relaxed);
                    self.draw_cell(row, column, wanted);
                }
            }
        }
        self.memory.settle();
    }

    fn draw_cell(&self, row: usize, column: usize, character: u8) {
        let pitch = self.mode.pitch;
        match self.mode.cell {
            Cell::Text => {
                let at = row * pitch + column * 2;
                self.memory.write(at, &[character, TEXT_COLOURS]);
            }
            Cell::Pixels { bytes, scale, ink } => {
                let ink = ink.to_le_bytes();
                let width = bytes * scale;
                let left = column * font::WIDTH * width;
                let top = row * font::HEIGHT * scale;
                let mut line = [0; MAX_LINE];
                let line = &mut line[..font::WIDTH * width];
                for (y, bits) in self.font.glyph(character).iter().enumerate() {
                    for (x, square) in line.chunks_exact_mut(width).enumerate() {
                        let on = bits >> x & 1 != 0;
                        for pixel in square.chunks_exact_mut(bytes) {
                            pixel.copy_from_slice(if on {
                                &ink[..bytes]
                            } else {
                                &[0; 4][..bytes]
                            });
                        }
                    }
                    for copy in 0..scale {
                        self.memory
                            .write((top + y * scale + copy) * pitch + left, line);
                    }
                }
            }
        }
    }
}
