//! Requests to a disk, many at once.

use alloc::vec;
use core::fmt;
use core::time::Duration;

use pv_drivers::block::{Disk, Error, Operation, Options, SECTOR};
use pv_drivers::device::Clock;
use pv_drivers::println;
use pv_drivers::runtime::{Guest, clock};

use crate::{MIB, check, row};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    /// Reads anywhere.
    Random,
}

/// Requests of so many KiB, so many at once.
#[derive(Clone, Copy)]
struct Work {
    kind: Kind,
    kib: usize,
    depth: usize,
}

impl Work {
    /// `read:KIB:DEPTH`, `write:KIB:DEPTH` or `random:KIB:DEPTH`.
    fn parse(word: &str) -> Option<Self> {
        let mut parts = word.split(':');
        let kind = match parts.next()? {
            "read" => Kind::Read,
            "write" => Kind::Write,
            "random" => Kind::Random,
            _ => return None,
        };
        let kib = parts.next()?.parse().ok()?;
        let depth = parts.next()?.parse().ok()?;
        let sane = (1..=1024).contains(&kib) && (1..=32).contains(&depth);
        sane.then_some(Self { kind, kib, depth })
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, kib, depth } = self;
        let (kind, each) = match kind {
            Kind::Read => ("read", ""),
            Kind::Write => ("write", ""),
            Kind::Random => ("random read", ", each"),
        };
        write!(f, "{kind}, {kib} KiB, {depth} at once{each}")
    }
}

/// Does each work on the first MiB of the disk, and prints a row of each.
pub fn run(mib: u64, works: &str) -> Result<(), Error> {
    let mut disk = Disk::open(Guest, "device/vbd/51712", Options::default())?;
    disk.connect()?;
    for word in works.split(',') {
        if word == "check" {
            check::run(&mut disk, mib)?;
            continue;
        }
        let Some(work) = Work::parse(word) else {
            println!("iobench: `{word}` is no work for a disk");
            continue;
        };
        // The first time is another.
        transfer(&mut disk, mib, work)?;
        let start = clock::now();
        let requests = transfer(&mut disk, mib, work)?;
        let count = if work.kind == Kind::Random {
            requests
        } else {
            mib
        };
        row(&work, start, count);
    }
    Ok(())
}

/// Moves so many MiB in all, between the disk and the guest's own memory; returns the number of
/// requests.
fn transfer(disk: &mut Disk<Guest>, mib: u64, work: Work) -> Result<u64, Error> {
    let bytes = work.kib * 1024;
    let count = mib * MIB / bytes as u64;
    let mut memory = vec![0x5a; bytes];
    let mut numbers = check::Numbers::new(work.kib as u64);
    let (mut begun, mut ended) = (0, 0);
    while ended < count {
        while begun < count && disk.outstanding() < work.depth {
            let place = if work.kind == Kind::Random {
                numbers.next() % count
            } else {
                begun
            };
            let sector = place * (bytes / SECTOR) as u64;
            let mut buffer = disk.buffer(0, bytes)?;
            let operation = if work.kind == Kind::Write {
                buffer.write(0, &memory);
                Operation::Write { sector, buffer }
            } else {
                Operation::Read { sector, buffer }
            };
            disk.submit(0, operation).map_err(|why| why.error)?;
            begun += 1;
        }
        disk.push();
        disk.poll()?;
        let before = ended;
        while let Some(completion) = disk.completed() {
            completion.result?;
            ended += 1;
            if let Some(buffer) = completion.buffer {
                if work.kind != Kind::Write {
                    buffer.read(0, &mut memory);
                }
                disk.recycle(0, buffer);
            }
        }
        if ended == before && !disk.arm()? {
            Guest.wait(Guest.now() + Duration::from_secs(30));
        }
    }
    Ok(count)
}
