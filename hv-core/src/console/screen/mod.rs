//! Text on the display, for a machine without a serial port.
//!
//! A line feed on the last row moves the text up by an eighth of the screen: on a slow
//! display one move of all text then serves several lines.

mod canvas;
mod font;
mod mode;
#[cfg(test)]
mod tests;

pub use canvas::Canvas;
pub use mode::{BIOS_DATA, Framebuffer, FramebufferKind};

use crate::arch::ScreenMem;
use canvas::BLANK;
use core::sync::atomic::Ordering::Relaxed;

/// Columns from one tabulator stop to the next.
const TAB: usize = 8;
/// The part of the screen by which text moves up.
const MOVE: usize = 8;

/// Writes text on a [`Canvas`].
pub struct Screen<'a, M> {
    canvas: &'a Canvas<M>,
    /// The row of the canvas that is shown at the top.
    top: usize,
    row: usize,
    column: usize,
    /// Rows that have changed since they were drawn: from, to (not included).
    changed: (usize, usize),
}

impl<'a, M: ScreenMem> Screen<'a, M> {
    /// Takes the screen: clears it and writes from the top on.
    pub fn new(canvas: &'a Canvas<M>) -> Self {
        canvas.clear();
        Self {
            canvas,
            top: 0,
            row: 0,
            column: 0,
            changed: (0, 0),
        }
    }

    /// How many bytes of text the screen holds at most.
    pub fn capacity(&self) -> usize {
        let (columns, rows) = self.canvas.size();
        columns * rows
    }

    /// Column and row of what is written next; the last row while the text has yet to move up.
    pub fn cursor(&self) -> (usize, usize) {
        let (columns, rows) = self.canvas.size();
        (self.column.min(columns - 1), self.row.min(rows - 1))
    }

    /// Writes text and shows it. Bytes that are not ASCII become question marks, one for each
    /// character of UTF-8; control characters other than those that move are left out.
    pub fn write(&mut self, text: &[u8]) {
        for byte in text {
            match *byte {
                b'\n' => self.line_feed(),
                b'\r' => self.column = 0,
                b'\t' => self.column = (self.column / TAB + 1) * TAB,
                8 => self.column = self.column.saturating_sub(1),
                // 0x80 and up: the rest of a character of several bytes.
                0..=0x1f | 0x7f..=0xbf => {}
                0xc0..=0xff => self.put(b'?'),
                printable => self.put(printable),
            }
        }
        let (from, to) = core::mem::take(&mut self.changed);
        self.canvas.draw(self.top, from, to);
    }

    fn put(&mut self, character: u8) {
        let (columns, rows) = self.canvas.size();
        if self.column >= columns {
            self.line_feed();
        }
        if self.row == rows {
            self.move_up();
        }
        self.canvas.row(self.top, self.row)[self.column].store(character, Relaxed);
        self.column += 1;
        self.change(self.row, self.row + 1);
    }

    fn change(&mut self, from: usize, to: usize) {
        self.changed = match self.changed {
            (0, 0) => (from, to),
            (first, last) => (first.min(from), last.max(to)),
        };
    }

    /// The text moves when there is something to write, so that the last line stays
    /// on the last row.
    fn line_feed(&mut self) {
        if self.row == self.canvas.size().1 {
            self.move_up();
        }
        self.column = 0;
        self.row += 1;
    }

    fn move_up(&mut self) {
        let (_, rows) = self.canvas.size();
        let by = (rows / MOVE).max(1);
        for gone in 0..by {
            for cell in self.canvas.row(self.top, gone) {
                cell.store(BLANK, Relaxed);
            }
        }
        self.top = (self.top + by) % rows;
        self.row -= by;
        self.change(0, rows);
    }
}
