//! How late a sleeper wakes: what a scheduler owes to who mostly sleeps.

use std::time::{Duration, Instant};

use crate::Failure;

/// How long each sleep is.
const SLEEP: Duration = Duration::from_millis(20);

/// Sleeps for so many seconds in all, and prints by how many microseconds the latest wake-up was late.
pub fn run(seconds: u64) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut latest = Duration::ZERO;
    while Instant::now() < until {
        let due = Instant::now() + SLEEP;
        std::thread::sleep(SLEEP);
        latest = latest.max(due.elapsed());
    }
    println!("latest: {} us", latest.as_micros());
    Ok(())
}
