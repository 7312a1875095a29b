//! Numbers that look random and come again from the same seed.

/// Xorshift64*: quick enough not to be what is measured under emulation.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// The next number below a limit above zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Fills a buffer whose length is a multiple of eight bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for word in buffer.chunks_exact_mut(8) {
            word.copy_from_slice(&self.next().to_le_bytes());
        }
    }

    /// Whether a buffer holds what [`Self::fill`] would write now.
    pub fn matches(&mut self, buffer: &[u8]) -> bool {
        // No early end: the sequence must go on behind the buffer in any case.
        buffer.chunks_exact(8).fold(true, |same, word| {
            same & (word == self.next().to_le_bytes())
        })
    }
}
