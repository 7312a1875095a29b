//! Prints how many cycles single operations take, a `row NAME|CYCLES` each.
#![no_std]
#![no_main]

mod alone;
mod between;

use pv_drivers::println;
use pv_drivers::runtime::{boot, clock};

/// Rounds that a median is taken of.
const ROUNDS: usize = 15;

/// Prints the median time of `work`, which does an operation `count` times.
fn row(name: &str, count: u64, mut work: impl FnMut()) {
    // The first time is another.
    work();
    let mut times = [(); ROUNDS].map(|()| {
        let start = clock::tsc();
        work();
        clock::tsc().wrapping_sub(start)
    });
    times.sort_unstable();
    println!("row {name}|{}", times[ROUNDS / 2] / count);
}

fn main() {
    let done = match boot::option("role") {
        None => alone::run().map_err(|why| println!("microbench: {why}")),
        Some("serve") => between::serve().map_err(|why| println!("microbench: {why}")),
        Some(_) => between::visit().map_err(|why| println!("microbench: {why}")),
    };
    if done.is_ok() {
        println!("microbench: done");
    }
}

pv_drivers::entry!(main);
