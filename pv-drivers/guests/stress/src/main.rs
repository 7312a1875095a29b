//! Checks memory, grants and events, on every vCPU and between two copies of itself.
#![no_std]
#![no_main]

extern crate alloc;

mod alone;
mod between;
mod life;

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use pv_drivers::println;
use pv_drivers::runtime::{boot, peer, vcpu};

static ERRORS: AtomicU64 = AtomicU64::new(0);
static BUSY: AtomicU32 = AtomicU32::new(0);

/// Counts an error, and tells the first ones.
fn check(holds: bool, what: &str) {
    if !holds && ERRORS.fetch_add(1, Ordering::Relaxed) < 10 {
        println!("stress: vCPU {}: {what}", vcpu::current());
    }
}

fn main() {
    let rounds = boot::option("rounds").and_then(|word| word.parse().ok());
    let rounds: u32 = rounds.unwrap_or(50);
    let vcpus = vcpu::count();
    if boot::option("mode") == Some("life") {
        life::run(vcpus);
        return done();
    }
    println!("stress: {vcpus} vCPUs, {rounds} rounds");
    for vcpu in 1..vcpus {
        BUSY.fetch_add(1, Ordering::SeqCst);
        let started = vcpu::start(vcpu, move || {
            alone::run(rounds);
            BUSY.fetch_sub(1, Ordering::SeqCst);
        });
        check(started.is_ok(), "it does not start");
    }
    match boot::option("role") {
        None => alone::run(rounds),
        Some("serve") => check(between::serve(rounds).is_ok(), "no peer"),
        Some(_) => check(between::visit(rounds).is_ok(), "no peer"),
    }
    while BUSY.load(Ordering::SeqCst) > 0 {
        peer::pause(Duration::from_millis(5));
    }
    done();
}

fn done() {
    println!("stress: done, {} errors", ERRORS.load(Ordering::Relaxed));
}

pv_drivers::entry!(main);
