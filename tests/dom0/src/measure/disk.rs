//! A disk, past the page cache.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use super::{MIB, row};
use crate::random::Random;
use crate::sys::Transfers;
use crate::{Failure, demand, number};

/// What is done: `read:KIB:DEPTH`, `write:KIB:DEPTH` or `random:KIB:DEPTH` (reads anywhere), with
/// requests of so many KiB, so many at once.
struct Work<'a> {
    kind: &'a str,
    kib: u64,
    depth: usize,
}

impl<'a> Work<'a> {
    fn parse(word: &'a str) -> Result<Self, Failure> {
        let parts: Vec<&str> = word.split(':').collect();
        let [kind @ ("read" | "write" | "random"), kib, depth] = parts[..] else {
            return Err(format!("`{word}` is no work for a disk"));
        };
        Ok(Self {
            kind,
            kib: number(kib)?.max(4),
            depth: number(depth)?.clamp(1, 256) as usize,
        })
    }

    fn name(&self) -> String {
        let Self { kind, kib, depth } = self;
        let kind = match *kind {
            "random" => "random read",
            kind => kind,
        };
        format!("{kind}, {kib} KiB, {depth} at once")
    }
}

/// Does each work on the first `mib` MiB of a device, and prints a row of each.
pub fn run(device: &str, mib: u64, works: &[&str]) -> Result<(), Failure> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_DIRECT)
        .open(device)
        .map_err(|error| format!("cannot open {device}: {error}"))?;
    for word in works {
        let work = Work::parse(word)?;
        // The first time is another.
        transfer(&file, mib, &work)?;
        let start = Instant::now();
        let requests = transfer(&file, mib, &work)?;
        match work.kind {
            "random" => row(&format!("{}, each", work.name()), start, requests),
            _ => row(&work.name(), start, mib),
        }
    }
    Ok(())
}

/// Moves `mib` MiB in all; returns the number of requests.
fn transfer(file: &File, mib: u64, work: &Work<'_>) -> Result<u64, Failure> {
    let bytes = work.kib * 1024;
    let count = mib * MIB / bytes;
    let mut random = Random::new(work.kib);
    let mut offset = |n: u64| match work.kind {
        "random" => random.below(count) * bytes,
        _ => n * bytes,
    };
    let memory = usize::try_from(bytes).map_err(|error| error.to_string())?;
    let write = work.kind == "write";
    let mut transfers =
        Transfers::new(file.as_raw_fd(), write, memory, work.depth).ok_or("no asynchronous I/O")?;
    let mut begun = 0;
    let mut ended = 0;
    let mut free: Vec<usize> = (0..work.depth).collect();
    while ended < count {
        let mut next = Vec::new();
        while begun < count
            && let Some(slot) = free.pop()
        {
            next.push((slot, offset(begun)));
            begun += 1;
        }
        demand(next.is_empty() || transfers.begin(&next), || {
            "a request was not begun".into()
        })?;
        free = transfers.ended().ok_or("a request failed")?;
        ended += free.len() as u64;
    }
    Ok(count)
}
