//! Prints what its disk and its card can do, a `row NAME|NANOSECONDS` each.
#![no_std]
#![no_main]

extern crate alloc;

mod check;
mod disk;
mod net;

use core::fmt::Display;

use pv_drivers::println;
use pv_drivers::runtime::{boot, clock};

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// Prints a row of what took since `start` for `count` things.
fn row(name: &dyn Display, start: u64, count: u64) {
    println!(
        "row {name}|{}",
        clock::now().saturating_sub(start) / count.max(1)
    );
}

/// The number behind a word of the command line.
fn number(name: &str, otherwise: u64) -> u64 {
    let number = boot::option(name).and_then(|word| word.parse().ok());
    number.unwrap_or(otherwise)
}

fn main() {
    let mib = number("mib", 16).max(1);
    let disk = boot::option("disk").map_or(Ok(()), |works| disk::run(mib, works));
    let tcp = boot::option("tcp").map_or(Ok(()), |works| net::run(mib, works));
    if let Err(why) = &disk {
        println!("iobench: the disk: {why}");
    }
    if let Err(why) = &tcp {
        println!("iobench: the card: {why}");
    }
    if disk.is_ok() && tcp.is_ok() {
        println!("iobench: done");
    }
}

pv_drivers::entry!(main);
