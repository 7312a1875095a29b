//! Random numbers, and how far they can be trusted.
//!
//! A PV guest has no device that gives entropy. It has the CPU's own generator where there is one
//! (RDRAND), and the time that things take. A [`Generator`] mixes both into the key of a ChaCha20
//! stream; [`Secure`] is one that has the CPU's word, and no other is a `CryptoRng`.
//!
//! What time alone is worth nobody here knows: on a busy host several bits for each of its hundreds
//! of samples, in an emulator that counts instructions none. It is good for sequence numbers, hash
//! seeds and delays, not for keys.
//!
//! A guest that was saved can be restored many times. Each copy mixes anew before the first number
//! that it draws, so copies part, as far as their sources do.

use chacha20::ChaCha20Rng;
use rand_core::{Infallible, Rng, SeedableRng, TryCryptoRng, TryRng};

/// Samples of time in a key.
const SAMPLES: usize = 512;
/// Words of the CPU's in a key.
const WORDS: usize = 16;

/// Where surprise comes from.
pub trait Source {
    /// A word of the CPU's generator; none if there is no such, or it has none left.
    fn hardware(&mut self) -> Option<u64>;

    /// How long something took, as finely as it can be told.
    fn jitter(&mut self) -> u64;

    /// Counts how often the guest was restored.
    fn incarnation(&self) -> u32;
}

/// Makes a key of any words: each 32 bytes of them change the key, and then it is what the stream of
/// the key before says. So neither order nor number of words is lost, and none can be undone.
struct Mixer {
    key: [u8; 32],
    place: usize,
}

impl Mixer {
    fn absorb(&mut self, word: u64) {
        let bytes = word.to_le_bytes();
        for (key, byte) in self.key.iter_mut().skip(self.place).zip(bytes) {
            *key ^= byte;
        }
        self.place += 8;
        if self.place == 32 {
            self.turn();
        }
    }

    fn turn(&mut self) {
        ChaCha20Rng::from_seed(self.key).fill_bytes(&mut self.key);
        self.place = 0;
    }

    fn key(mut self) -> [u8; 32] {
        // What fills no 32 bytes is not the same as zeros that do.
        let rest = self.place as u64;
        self.turn();
        self.absorb(rest);
        self.turn();
        self.key
    }
}

/// A random generator for any use but secrets; see [`Secure`].
#[derive(Debug)]
pub struct Generator<S> {
    source: S,
    stream: ChaCha20Rng,
    incarnation: u32,
    /// Whether the CPU's generator has ever given all that was asked.
    hardware: bool,
}

impl<S: Source> Generator<S> {
    /// A generator of a guest. What else is known of it, as its name and the date, keeps guests apart
    /// whose sources say the same.
    pub fn new(source: S, known: impl IntoIterator<Item = u64>) -> Self {
        let mut mixer = Mixer {
            key: [0; 32],
            place: 0,
        };
        for word in known {
            mixer.absorb(word);
        }
        let mut generator = Self {
            incarnation: source.incarnation(),
            stream: ChaCha20Rng::from_seed(mixer.key()),
            source,
            hardware: false,
        };
        generator.refresh();
        generator
    }

    /// Whether the CPU's generator has had its part in it.
    pub const fn has_hardware(&self) -> bool {
        self.hardware
    }

    /// Mixes anew. What was good before stays good, whatever the sources say now.
    pub fn refresh(&mut self) {
        let mut mixer = Mixer {
            key: [0; 32],
            place: 0,
        };
        self.stream.fill_bytes(&mut mixer.key);
        for _ in 0..SAMPLES {
            mixer.absorb(self.source.jitter());
        }
        let mut whole = true;
        for _ in 0..WORDS {
            match self.source.hardware() {
                Some(word) => mixer.absorb(word),
                None => whole = false,
            }
        }
        self.hardware |= whole;
        self.stream = ChaCha20Rng::from_seed(mixer.key());
    }

    fn stream(&mut self) -> &mut ChaCha20Rng {
        let incarnation = self.source.incarnation();
        if incarnation != self.incarnation {
            self.incarnation = incarnation;
            self.refresh();
        }
        &mut self.stream
    }
}

impl<S: Source> TryRng for Generator<S> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.stream().try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.stream().try_next_u64()
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        self.stream().try_fill_bytes(into)
    }
}

/// A random generator that is trusted with secrets, as far as the CPU is.
#[derive(Debug)]
pub struct Secure<S>(Generator<S>);

impl<S: Source> Secure<S> {
    /// Trusts a generator; not one that the CPU's has had no part in.
    #[must_use]
    pub fn new(generator: Generator<S>) -> Option<Self> {
        generator.has_hardware().then_some(Self(generator))
    }
}

impl<S: Source> TryRng for Secure<S> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, into: &mut [u8]) -> Result<(), Infallible> {
        self.0.try_fill_bytes(into)
    }
}

impl<S: Source> TryCryptoRng for Secure<S> {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use super::*;

    /// Says what it is told.
    struct Fake {
        jitter: u64,
        hardware: Option<u64>,
        incarnation: u32,
    }

    impl Source for Fake {
        fn hardware(&mut self) -> Option<u64> {
            self.hardware
        }

        fn jitter(&mut self) -> u64 {
            self.jitter
        }

        fn incarnation(&self) -> u32 {
            self.incarnation
        }
    }

    const QUIET: Fake = Fake {
        jitter: 5,
        hardware: None,
        incarnation: 0,
    };

    #[test]
    fn every_source_counts() {
        let first =
            |source: Fake, known: &[u64]| Generator::new(source, known.iter().copied()).next_u64();
        let other = Fake { jitter: 6, ..QUIET };
        let hardware = Fake {
            hardware: Some(5),
            ..QUIET
        };
        let all = [
            first(QUIET, &[]),
            first(QUIET, &[0]),
            first(QUIET, &[0, 0]),
            first(QUIET, &[1, 2]),
            first(QUIET, &[2, 1]),
            first(QUIET, &[0, 0, 0, 0]),
            first(other, &[]),
            first(hardware, &[]),
        ];
        assert_eq!(BTreeSet::from(all).len(), all.len());
        assert_eq!(first(QUIET, &[1]), first(QUIET, &[1]));
    }

    #[test]
    fn copies_of_a_guest_part() {
        let numbers = |restored: bool, jitter: u64| {
            let mut generator = Generator::new(QUIET, [1]);
            let before = generator.next_u64();
            if restored {
                generator.source.incarnation += 1;
            }
            generator.source.jitter = jitter;
            let after: Vec<u64> = (0..4).map(|_| generator.next_u64()).collect();
            (before, after)
        };
        assert_eq!(numbers(false, 7), numbers(false, 8));
        let (one, two) = (numbers(true, 7), numbers(true, 8));
        assert_eq!(one.0, two.0);
        assert!(one.1.iter().zip(&two.1).all(|(one, two)| one != two));
    }

    #[test]
    fn without_the_cpus_word_no_secrets() {
        assert!(Secure::new(Generator::new(QUIET, [])).is_none());
        let source = Fake {
            hardware: Some(9),
            ..QUIET
        };
        let mut secure = Secure::new(Generator::new(source, [])).unwrap();
        // It moves to a host without such a CPU, and loses nothing.
        secure.0.source.hardware = None;
        secure.0.source.incarnation += 1;
        let mut bytes = [0; 40];
        secure.fill_bytes(&mut bytes);
        assert!(secure.0.has_hardware() && bytes != [0; 40]);
    }
}
