//! Damage to bytes, reproducible from a number.

/// A generator of numbers: SplitMix64, by Sebastiano Vigna.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One that always gives the same numbers for the same seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `end`; 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 {
            0
        } else {
            (self.next() % end as u64) as usize
        }
    }
}

/// Longest input that grows out of mutations, bytes.
const MOST: usize = 64 << 10;

/// Numbers at which lengths, counts and offsets go wrong.
const EDGES: [u64; 14] = [
    0,
    1,
    7,
    8,
    0x7f,
    0x80,
    0xff,
    0xfff,
    0x1000,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 47,
    u64::MAX,
];

/// One of the seeds with one to eight kinds of damage.
#[must_use]
pub fn mutant(seeds: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = match seeds {
        [] => Vec::new(),
        seeds => seeds[random.below(seeds.len())].clone(),
    };
    for _ in 0..=random.below(8) {
        damage(&mut bytes, seeds, random);
    }
    bytes.truncate(MOST.max(seeds.iter().map(Vec::len).max().unwrap_or(0)));
    bytes
}

fn damage(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    match random.below(9) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = random.next() as u8;
            }
        }
        2 => overwrite(bytes, at, random),
        3 => bytes.truncate(at),
        4 => bytes.insert(at, random.next() as u8),
        5 => {
            let end = (at + random.below(64)).min(bytes.len());
            bytes.drain(at..end);
        }
        6 => {
            let end = (at + random.below(64)).min(bytes.len());
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        7 => {
            let other = &seeds[random.below(seeds.len())..].first();
            let other = other.map_or(&[][..], |seed| &seed[..]);
            let from = random.below(other.len() + 1);
            let end = (from + random.below(256)).min(other.len());
            let to = (at + end - from).min(bytes.len());
            bytes.splice(at..to, other[from..end].iter().copied());
        }
        _ => {
            let noise: Vec<u8> = (0..random.below(32)).map(|_| random.next() as u8).collect();
            bytes.splice(at..at, noise);
        }
    }
}

/// Puts a number of some width that is likely to be wrong, in either byte order.
fn overwrite(bytes: &mut [u8], at: usize, random: &mut Random) {
    let width = 1 << random.below(4);
    let number = EDGES[random.below(EDGES.len())];
    let number = number.wrapping_add(random.below(3) as u64).wrapping_sub(1);
    // Tables are aligned as a rule.
    let at = if random.below(4) == 0 {
        at
    } else {
        at / width * width
    };
    let mut word = number.to_le_bytes();
    if random.below(8) == 0 {
        word[..width].reverse();
    }
    if let Some(place) = bytes.get_mut(at..at + width) {
        place.copy_from_slice(&word[..width]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_bytes() {
        let seeds = vec![b"one".to_vec(), vec![7; 100], Vec::new()];
        let all = |seed| {
            let mut random = Random::new(seed);
            let mutants: Vec<_> = (0..200).map(|_| mutant(&seeds, &mut random)).collect();
            mutants
        };
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
        assert!(all(3).iter().any(|bytes| !seeds.contains(bytes)));
        assert!(mutant(&[], &mut Random::new(0)).len() < 1000);
    }
}
