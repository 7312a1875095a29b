//! Says hello, and who it is, and powers off: at once, or with `stay=yes` on its command line when the
//! toolstack asks.
#![no_std]
#![no_main]

use pv_drivers::println;
use pv_drivers::runtime::{boot, clock, frames, power, start_info, vcpu, wait};

fn main() {
    println!("hello: first line");
    let cycles = clock::tsc().wrapping_sub(boot::first_tsc());
    println!("hello: {cycles} cycles from its entry");
    let mib = start_info().nr_pages / 256;
    println!("hello: {} vCPUs, {mib} MiB", vcpu::count());
    let (used, _) = frames::usage();
    println!("hello: {} KiB in use at start", used * 4);
    println!("hello: {} s since 1970", clock::wall().as_secs());
    println!("hello: done");
    if boot::option("stay").is_some() {
        let Ok(requests) = power::Requests::listen() else {
            return;
        };
        loop {
            requests.obey();
            wait::any(u64::MAX);
        }
    }
}

pv_drivers::entry!(main);
