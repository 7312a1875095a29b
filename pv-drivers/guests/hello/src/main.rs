//! Says hello, and who it is, and powers off.
#![no_std]
#![no_main]

use pv_drivers::println;
use pv_drivers::runtime::{clock, frames, start_info, vcpu};

fn main() {
    println!("hello: first line");
    let mib = start_info().nr_pages / 256;
    println!("hello: {} vCPUs, {mib} MiB", vcpu::count());
    let (used, _) = frames::usage();
    println!("hello: {} KiB in use at start", used * 4);
    println!("hello: {} s since 1970", clock::wall().as_secs());
    println!("hello: done");
}

pv_drivers::entry!(main);
