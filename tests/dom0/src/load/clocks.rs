//! Timers and clocks: no sleep ends early or very late, and time goes forward across CPUs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::random::Random;
use crate::{Failure, demand, sys};

use super::{Work, cpus};

/// A sleep later than this is a lost timer, even on a machine under load in emulation.
const LATEST: Duration = Duration::from_secs(20);

pub fn run(work: Work) -> Result<u64, Failure> {
    let start = Instant::now();
    let newest = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..cpus())
        .map(|cpu| {
            let newest = Arc::clone(&newest);
            std::thread::spawn(move || thread(work, cpu, start, &newest))
        })
        .collect();
    let mut rounds = 0;
    for thread in threads {
        rounds += thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(rounds)
}

fn thread(work: Work, cpu: usize, start: Instant, newest: &AtomicU64) -> Result<u64, Failure> {
    demand(sys::pin_to(cpu), || format!("cannot run on CPU {cpu}"))?;
    let mut random = Random::new(cpu as u64);
    let mut rounds = 0;
    while work.goes_on() {
        for _ in 0..100 {
            // What another CPU has seen before must not lie in this CPU's future.
            let seen = newest.load(Ordering::SeqCst);
            let now = start.elapsed().as_nanos() as u64;
            demand(now >= seen, || {
                format!("CPU {cpu}'s clock is {} ns behind", seen - now)
            })?;
            newest.fetch_max(now, Ordering::SeqCst);
        }
        let asked = Duration::from_micros(random.below(5000));
        let before = Instant::now();
        std::thread::sleep(asked);
        let slept = before.elapsed();
        demand(slept >= asked, || {
            format!("slept {slept:?} instead of {asked:?}")
        })?;
        demand(slept < asked + LATEST, || {
            format!("a timer of {asked:?} took {slept:?}")
        })?;
        rounds += 1;
    }
    Ok(rounds)
}
