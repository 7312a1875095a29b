//! A map that survives: a log of records on a disk.
//!
//! The disk has two halves. In the one that counts, sector 0 holds a head with a generation, and
//! sectors 1, 2, ... hold one record each, with that generation and a checksum; the log ends at
//! the first sector that is no such record. When a half is full, what is alive goes to the other
//! one with the next generation, its head last: a half counts when its head is whole and its
//! generation the higher one. So whatever moment everything stops at, every record that was made
//! durable is found.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Bytes of a sector, which a disk writes whole or not; a torn one is found by its checksum.
pub const SECTOR: usize = 512;

/// Bytes of key and value together at most.
pub const MOST: usize = SECTOR - HEAD;

/// Checksum, generation, number, length of the key and of the value.
const HEAD: usize = 24;

/// A record that removes its key: no value is that long.
const REMOVED: u16 = u16::MAX;

/// Where the log is kept.
pub trait Disk {
    /// Why it failed.
    type Error;

    /// Sectors.
    fn sectors(&self) -> u64;

    /// Reads sectors.
    ///
    /// # Errors
    /// The disk's.
    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), Self::Error>;

    /// Writes sectors; they are durable after the next flush.
    ///
    /// # Errors
    /// The disk's.
    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), Self::Error>;

    /// Makes durable what was written.
    ///
    /// # Errors
    /// The disk's.
    fn flush(&mut self) -> Result<(), Self::Error>;
}

/// Why a change was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error<E> {
    /// The disk; nothing is known of the change.
    Disk(E),
    /// Key and value are longer than [`MOST`].
    TooLong,
    /// More is alive than a half of the disk holds.
    Full,
}

impl<E> From<E> for Error<E> {
    fn from(why: E) -> Self {
        Self::Disk(why)
    }
}

/// The map and its log.
#[derive(Debug)]
pub struct Log<D> {
    disk: D,
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    generation: u64,
    /// Which half counts.
    half: u64,
    /// Number of the next record.
    next: u64,
}

/// A sector: a record, or a head, which is number 0 without key and value.
fn encode(generation: u64, number: u32, key: &[u8], value: Option<&[u8]>) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    sector[4..12].copy_from_slice(&generation.to_le_bytes());
    sector[12..16].copy_from_slice(&number.to_le_bytes());
    sector[16..18].copy_from_slice(&(key.len() as u16).to_le_bytes());
    let length = value.map_or(REMOVED, |value| value.len() as u16);
    sector[18..20].copy_from_slice(&length.to_le_bytes());
    let body = key.iter().chain(value.unwrap_or_default());
    for (byte, from) in sector[HEAD..].iter_mut().zip(body) {
        *byte = *from;
    }
    let sum = crc32fast::hash(&sector[4..]);
    sector[..4].copy_from_slice(&sum.to_le_bytes());
    sector
}

/// A whole sector: its generation, number, key, and value if it is not a removal.
type Record<'s> = (u64, u32, &'s [u8], Option<&'s [u8]>);

fn decode(sector: &[u8; SECTOR]) -> Option<Record<'_>> {
    let number = |at: usize, bytes: usize| {
        let bytes = sector.get(at..at + bytes)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0_u64, |n, &byte| n << 8 | u64::from(byte)),
        )
    };
    if number(0, 4)? != u64::from(crc32fast::hash(&sector[4..])) {
        return None;
    }
    let (generation, count) = (number(4, 8)?, number(12, 4)? as u32);
    // All zeros have the checksum of nothing written, and no generation.
    if generation == 0 {
        return None;
    }
    let (key, value) = (number(16, 2)? as usize, number(18, 2)? as u16);
    let body = &sector[HEAD..];
    let value = match value {
        REMOVED => None,
        length => Some(body.get(key..key + usize::from(length))?),
    };
    Some((generation, count, body.get(..key)?, value))
}

impl<D: Disk> Log<D> {
    /// Finds what was kept on a disk. A fresh one is all zeros.
    ///
    /// # Errors
    /// The disk's; [`Error::Full`]: it has not even four sectors.
    pub fn open(disk: D) -> Result<Self, Error<D::Error>> {
        if disk.sectors() < 4 {
            return Err(Error::Full);
        }
        let mut log = Self {
            disk,
            map: BTreeMap::new(),
            generation: 0,
            half: 0,
            next: 1,
        };
        let mut sector = [0; SECTOR];
        for half in 0..2 {
            log.disk.read(half * log.capacity(), &mut sector)?;
            if let Some((generation, 0, ..)) = decode(&sector)
                && generation > log.generation
            {
                (log.generation, log.half) = (generation, half);
            }
        }
        if log.generation == 0 {
            log.begin(1, 0)?;
        } else {
            log.replay()?;
        }
        Ok(log)
    }

    /// Sectors of a half.
    fn capacity(&self) -> u64 {
        self.disk.sectors() / 2
    }

    /// Makes a half count.
    fn begin(&mut self, generation: u64, half: u64) -> Result<(), D::Error> {
        let head = encode(generation, 0, &[], Some(&[]));
        self.disk.write(half * self.capacity(), &head)?;
        self.disk.flush()?;
        (self.generation, self.half) = (generation, half);
        Ok(())
    }

    fn replay(&mut self) -> Result<(), D::Error> {
        let mut sector = [0; SECTOR];
        while self.next < self.capacity() {
            let at = self.half * self.capacity() + self.next;
            self.disk.read(at, &mut sector)?;
            match decode(&sector) {
                Some((generation, number, key, value))
                    if generation == self.generation && u64::from(number) == self.next =>
                {
                    match value {
                        Some(value) => drop(self.map.insert(key.into(), value.into())),
                        None => drop(self.map.remove(key)),
                    }
                }
                _ => break,
            }
            self.next += 1;
        }
        Ok(())
    }

    /// A key's value.
    pub fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.map.get(key).map(Vec::as_slice)
    }

    /// How many keys have a value.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether no key has a value.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// Sets a key's value; durable when this returns.
    ///
    /// # Errors
    /// [`Error`].
    pub fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error<D::Error>> {
        if key.len() + value.len() > MOST {
            return Err(Error::TooLong);
        }
        self.append(key, Some(value))?;
        self.map.insert(key.into(), value.into());
        Ok(())
    }

    /// Removes a key; durable when this returns.
    ///
    /// # Errors
    /// [`Error`].
    pub fn remove(&mut self, key: &[u8]) -> Result<(), Error<D::Error>> {
        if self.map.contains_key(key) {
            self.append(key, None)?;
            self.map.remove(key);
        }
        Ok(())
    }

    fn append(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Error<D::Error>> {
        if self.next == self.capacity() {
            self.compact()?;
        }
        let sector = encode(self.generation, self.next as u32, key, value);
        let at = self.half * self.capacity() + self.next;
        self.disk.write(at, &sector)?;
        self.disk.flush()?;
        self.next += 1;
        Ok(())
    }

    /// Moves to the other half with what is alive.
    fn compact(&mut self) -> Result<(), Error<D::Error>> {
        let alive = self.map.len() as u64;
        // At least one record must fit after it.
        if alive + 2 > self.capacity() {
            return Err(Error::Full);
        }
        let (generation, half) = (self.generation + 1, 1 - self.half);
        let first = half * self.capacity();
        for ((key, value), number) in self.map.iter().zip(1_u32..) {
            let sector = encode(generation, number, key, Some(value));
            self.disk.write(first + u64::from(number), &sector)?;
        }
        self.disk.flush()?;
        self.begin(generation, half)?;
        self.next = alive + 1;
        Ok(())
    }

    /// The disk, and the map given up.
    pub fn into_disk(self) -> D {
        self.disk
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A disk that stops at some write, and leaves each sector that was not flushed old, new or
    /// torn.
    #[derive(Clone, Debug)]
    struct Fragile {
        durable: Vec<[u8; SECTOR]>,
        written: BTreeMap<u64, [u8; SECTOR]>,
        steps: u32,
        seed: u64,
    }

    #[derive(Debug, PartialEq)]
    struct Stopped;

    impl Fragile {
        fn new(sectors: usize) -> Self {
            Self {
                durable: vec![[0; SECTOR]; sectors],
                written: BTreeMap::new(),
                steps: u32::MAX,
                seed: 1,
            }
        }

        fn step(&mut self) -> Result<(), Stopped> {
            self.steps = self.steps.checked_sub(1).ok_or(Stopped)?;
            Ok(())
        }

        /// Comes back after a stop.
        fn revive(mut self) -> Self {
            for (sector, new) in std::mem::take(&mut self.written) {
                self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005) + 1;
                let old = &mut self.durable[sector as usize];
                match self.seed >> 62 {
                    0 => {}
                    1 => old[..200].copy_from_slice(&new[..200]),
                    2 => old[200..].copy_from_slice(&new[200..]),
                    _ => *old = new,
                }
            }
            self.steps = u32::MAX;
            self
        }
    }

    impl Disk for Fragile {
        type Error = Stopped;

        fn sectors(&self) -> u64 {
            self.durable.len() as u64
        }

        fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), Stopped> {
            let written = self.written.get(&sector);
            into.copy_from_slice(written.unwrap_or(&self.durable[sector as usize]));
            Ok(())
        }

        fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), Stopped> {
            self.written.insert(sector, from.try_into().unwrap());
            self.step()
        }

        fn flush(&mut self) -> Result<(), Stopped> {
            self.step()?;
            for (sector, new) in std::mem::take(&mut self.written) {
                self.durable[sector as usize] = new;
            }
            Ok(())
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused_and_the_rest_stays() {
        let mut log = Log::open(Fragile::new(16)).unwrap();
        assert_eq!(log.set(b"k", &[0; MOST]), Err(Error::TooLong));
        log.set(b"k", &[7; MOST - 1]).unwrap();
        let mut full = false;
        for n in 0..20 {
            full |= log.set(&[n], b"x") == Err(Error::Full);
        }
        assert!(full);
        let log = Log::open(log.into_disk()).unwrap();
        assert_eq!(log.get(b"k"), Some(&[7; MOST - 1][..]));
        assert!(matches!(Log::open(Fragile::new(3)), Err(Error::Full)));
    }

    #[test]
    fn a_disk_of_something_else_is_empty() {
        let mut disk = Fragile::new(32);
        for (n, sector) in disk.durable.iter_mut().enumerate() {
            sector.fill(n as u8 | 0x40);
        }
        assert!(Log::open(disk).unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn nothing_acknowledged_is_lost(
            lives in proptest::collection::vec(
                (
                    proptest::collection::vec((0_u8..6, any::<bool>(), any::<u16>()), 1..40),
                    0_u32..60,
                    any::<u64>(),
                ),
                1..12,
            ),
        ) {
            let mut known: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let mut disk = Fragile::new(24);
            for (changes, steps, seed) in lives {
                let mut log = Log::open(disk).unwrap();
                prop_assert_eq!(&log.map, &known);
                log.disk.steps = steps;
                log.disk.seed = seed;
                // The change under way at the stop may be there or not.
                let mut open = None;
                for (key, remove, value) in changes {
                    let (key, value) = (vec![key], value.to_le_bytes().to_vec());
                    let done = if remove { log.remove(&key) } else { log.set(&key, &value) };
                    if done.is_err() {
                        open = Some((key, (!remove).then_some(value)));
                        break;
                    }
                    if remove { known.remove(&key); } else { known.insert(key, value); }
                }
                disk = log.into_disk().revive();
                if let Some((key, value)) = open {
                    let log = Log::open(disk.clone()).unwrap();
                    let found = log.get(&key).map(Vec::from);
                    let before = known.get(&key).cloned();
                    prop_assert!(found == value || found == before);
                    match found {
                        Some(found) => drop(known.insert(key, found)),
                        None => drop(known.remove(&key)),
                    }
                    // Looking at it has repaired nothing: the next life sees the same.
                    disk = log.into_disk();
                }
            }
            prop_assert_eq!(&Log::open(disk).unwrap().map, &known);
        }
    }
}
