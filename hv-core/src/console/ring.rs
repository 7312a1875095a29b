//! The text last logged.

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// Bytes kept; a power of two. Source: Xen's default `conring_size`, 16 KiB, doubled.
pub(super) const SIZE: usize = 32 << 10;

/// A ring's memory. Apart from the ring, so that it costs nothing in the image; its
/// ring's owner is the only one that touches it.
pub(super) type Bytes = [AtomicU8; SIZE];

/// A ring of bytes with ever-growing positions.
pub(super) struct Ring {
    bytes: &'static Bytes,
    /// Position of the oldest byte kept.
    start: u64,
    /// Position after the newest byte.
    end: u64,
}

impl Ring {
    pub(super) const fn new(bytes: &'static Bytes) -> Self {
        Self {
            bytes,
            start: 0,
            end: 0,
        }
    }

    /// Appends `text`, forgetting the oldest bytes.
    pub(super) fn write(&mut self, text: &[u8]) {
        for b in text {
            self.bytes[self.end as usize % SIZE].store(*b, Relaxed);
            self.end += 1;
        }
        self.start = self.start.max(self.end.saturating_sub(SIZE as u64));
    }

    /// Copies from position `index`; answers the count and the position after.
    pub(super) fn read(&self, index: u64, buffer: &mut [u8]) -> (usize, u64) {
        let from = if index > self.end {
            self.start
        } else {
            index.max(self.start)
        };
        let count = buffer.len().min((self.end - from) as usize);
        for (i, out) in buffer[..count].iter_mut().enumerate() {
            *out = self.bytes[(from as usize + i) % SIZE].load(Relaxed);
        }
        (count, from + count as u64)
    }

    /// Position after the newest byte.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Gives `sink` the text from position `index` on, piece by piece.
    pub(super) fn replay(&self, index: u64, mut sink: impl FnMut(&[u8])) {
        let mut text = [0; 128];
        let (mut count, mut next) = self.read(index, &mut text);
        while count > 0 {
            sink(&text[..count]);
            (count, next) = self.read(next, &mut text);
        }
    }

    pub(super) fn clear(&mut self) {
        self.start = self.end;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    /// A ring of its own for each test.
    macro_rules! new {
        () => {{
            static BYTES: Bytes = [const { AtomicU8::new(0) }; SIZE];
            Ring::new(&BYTES)
        }};
    }

    #[test]
    fn reads_on_from_where_it_was() {
        let mut ring = new!();
        ring.write(b"hello ");
        let mut buf = [0; 4];
        assert_eq!(ring.read(0, &mut buf), (4, 4));
        ring.write(b"world");
        let mut buf = [0; 100];
        let (n, next) = ring.read(4, &mut buf);
        assert_eq!((&buf[..n], next), (&b"o world"[..], 11));
        assert_eq!(ring.read(next, &mut buf), (0, 11));
    }

    #[test]
    fn the_oldest_text_goes_first() {
        let mut ring = new!();
        ring.write(&[b'a'; SIZE]);
        ring.write(b"bc");
        let mut buf = std::vec![0; SIZE + 10];
        let (n, next) = ring.read(0, &mut buf);
        assert_eq!((n, next), (SIZE, SIZE as u64 + 2));
        assert_eq!(&buf[SIZE - 3..SIZE], b"abc");
        ring.clear();
        assert_eq!(ring.read(0, &mut buf).0, 0);
    }

    #[test]
    fn a_position_from_the_future_means_the_start() {
        let mut ring = new!();
        ring.write(b"x");
        assert_eq!(ring.read(u64::MAX, &mut [0; 9]), (1, 1));
    }
}
