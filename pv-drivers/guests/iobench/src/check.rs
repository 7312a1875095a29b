//! Whether a disk keeps what it is given.

use alloc::vec;
use alloc::vec::Vec;

use pv_drivers::block::{Disk, Error, Flush, SECTOR};
use pv_drivers::println;
use pv_drivers::runtime::Guest;

use crate::MIB;

/// Numbers that one can compute again.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// What the sectors from `first` on hold: numbers that tell the sector and the round.
fn content(first: u64, bytes: usize, round: u64) -> Vec<u8> {
    let sector = |n: u64| {
        let mut numbers = Numbers::new(n << 8 | round);
        (0..SECTOR / 8).flat_map(move |_| numbers.next().to_ne_bytes())
    };
    (first..first + (bytes / SECTOR) as u64)
        .flat_map(sector)
        .collect()
}

/// Longest piece, in sectors: more than one request takes.
const LONGEST: u64 = 2048;

/// The ranges of the first `sectors`, in pieces of many lengths; the same for the same round.
fn pieces(sectors: u64, unit: u64, round: u64) -> impl Iterator<Item = (u64, usize)> {
    let mut lengths = Numbers::new(round);
    let mut at = 0;
    core::iter::from_fn(move || {
        let most = (sectors - at).min(lengths.next() % LONGEST + 1);
        let count = most.next_multiple_of(unit).min(sectors - at);
        let first = at;
        at += count;
        (count > 0).then_some((first, count as usize * SECTOR))
    })
}

/// Writes the first `mib` MiB twice, in other pieces, flushes, and looks at every byte; gives up
/// the second half, and looks at the first.
pub fn run(disk: &mut Disk<Guest>, mib: u64) -> Result<(), Error> {
    let geometry = *disk.geometry().ok_or(Error::Disconnected)?;
    let unit = u64::from(geometry.sector_size) / SECTOR as u64;
    let sectors = (mib * MIB / SECTOR as u64).min(geometry.sectors);
    let mut wrong = 0;
    for round in [1, 2] {
        for (first, bytes) in pieces(sectors, unit, round) {
            disk.write(first, &content(first, bytes, round))?;
        }
        if geometry.flush != Flush::None {
            disk.flush()?;
        }
        wrong += differing(disk, sectors, unit, round)?;
    }
    let half = sectors / 2 / unit * unit;
    let discards = geometry.discard.is_some();
    if discards {
        disk.discard(half..sectors, false)?;
        wrong += differing(disk, half, unit, 2)?;
    }
    let flushes = geometry.flush != Flush::None;
    println!(
        "iobench: {mib} MiB checked, flush {flushes}, discard {discards}, {wrong} pieces wrong"
    );
    if wrong == 0 {
        Ok(())
    } else {
        Err(Error::Failed)
    }
}

/// How many pieces do not hold what they should.
fn differing(disk: &mut Disk<Guest>, sectors: u64, unit: u64, round: u64) -> Result<u64, Error> {
    let mut wrong = 0;
    // Other pieces than those written.
    for (first, bytes) in pieces(sectors, unit, round + 7) {
        let mut found = vec![0; bytes];
        disk.read(first, &mut found)?;
        wrong += u64::from(found != content(first, bytes, round));
    }
    Ok(wrong)
}
