//! Threads of one process that map, fill, protect and unmap memory: every unmapping must reach the
//! TLBs of the other CPUs.

use crate::random::Random;
use crate::sys::{Mapping, PAGE};
use crate::{Failure, demand};

use super::{Work, cpus};

/// Largest mapping, in pages.
const PAGES: u64 = 256;

pub fn run(work: Work) -> Result<u64, Failure> {
    let threads: Vec<_> = (0..cpus() as u64 + 1)
        .map(|seed| std::thread::spawn(move || thread(work, seed)))
        .collect();
    let mut rounds = 0;
    for thread in threads {
        rounds += thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(rounds)
}

fn thread(work: Work, seed: u64) -> Result<u64, Failure> {
    let mut random = Random::new(seed);
    let mut rounds = 0;
    while work.goes_on() {
        let pages = usize::try_from(1 + random.below(PAGES)).map_err(|e| e.to_string())?;
        let mut mapping = Mapping::new(pages * PAGE).ok_or("cannot map")?;
        // A page that comes with data in it is another thread's, or another process's.
        demand(
            mapping.bytes().chunks_exact(PAGE).all(|page| page[0] == 0),
            || "fresh memory is not zero".into(),
        )?;
        let contents = random.next();
        Random::new(contents).fill(mapping.bytes());
        demand(mapping.protect_pair(), || "cannot protect".into())?;
        demand(Random::new(contents).matches(mapping.bytes()), || {
            "memory has changed".into()
        })?;
        rounds += 1;
    }
    Ok(rounds)
}
