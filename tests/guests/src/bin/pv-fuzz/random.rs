//! Numbers that look random and come back with their seed.

/// A SplitMix64 generator (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
pub struct Random(u64);

impl Random {
    /// The sequence of a step of `seed`, whatever became of the steps before.
    pub fn of_step(seed: u64, step: u64) -> Self {
        let mut random = Self(seed.rotate_left(32) ^ step);
        Self(random.word())
    }

    /// 64 bits.
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.word().checked_rem(limit).unwrap_or(0)
    }

    /// True once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of them.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }

    /// A number of the kind that breaks programs: small, a power of two or next to one, all ones.
    pub fn odd(&mut self) -> u64 {
        match self.below(5) {
            0 => self.below(16),
            1 => (1_u64 << self.below(64))
                .wrapping_add(self.below(3))
                .wrapping_sub(1),
            2 => u64::MAX - self.below(16),
            3 => self.below(1 << 16),
            _ => self.word(),
        }
    }
}
