//! Writes a disk full of numbers, forgets them, and reads them back.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::time::Instant;

use crate::random::Random;
use crate::{Failure, demand, sys};

const CHUNK: usize = 1 << 20;

/// Writes and checks the first `mib` MiB of a device.
pub fn run(device: &str, mib: u64) -> Result<(), Failure> {
    let io = |what: &'static str| move |error| format!("{what} {device}: {error}");
    let start = Instant::now();
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(device)
        .map_err(io("cannot open"))?;
    let mut chunk = vec![0; CHUNK];
    let mut numbers = Random::new(mib);
    for _ in 0..mib {
        numbers.fill(&mut chunk);
        file.write_all(&chunk).map_err(io("cannot write"))?;
    }
    file.sync_all().map_err(io("cannot flush"))?;
    demand(sys::forget_cached(file.as_raw_fd()), || {
        "cannot drop the cache".into()
    })?;
    file.seek(SeekFrom::Start(0))
        .map_err(io("cannot seek in"))?;
    let mut expected = Random::new(mib);
    for at in 0..mib {
        file.read_exact(&mut chunk).map_err(io("cannot read"))?;
        demand(expected.matches(&chunk), || {
            format!("{device}: wrong data in MiB {at}")
        })?;
    }
    println!(
        "{device}: {mib} MiB written and read back in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
