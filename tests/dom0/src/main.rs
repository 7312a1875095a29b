//! One static program for dom0's initramfs: micro-benchmarks, a self-checking load, device tests.
//!
//! It knows nothing of hypervisors but the one ioctl that makes a null hypercall, so it runs the
//! same on bare Linux, and what it finds there is what it must find in dom0.

mod bench;
mod disk;
mod domain;
mod lateness;
mod load;
mod measure;
mod memory;
mod net;
mod notify;
mod random;
mod sys;
mod wait;

use std::process::ExitCode;

const USAGE: &str = "usage: dom0-load bench
       dom0-load memory
       dom0-load load SECONDS [MEMORY-PERCENT]
       dom0-load disk DEVICE MIB
       dom0-load tcp ADDRESS:PORT MIB
       dom0-load serve ADDRESS:PORT
       dom0-load measure-disk DEVICE MIB KIND:KIB:DEPTH...
       dom0-load measure-tcp ADDRESS MIB KIND...
       dom0-load measure-serve ADDRESS
       dom0-load cpu-time DOMAIN
       dom0-load lateness SECONDS
       dom0-load sit
       dom0-load await FILE TEXT SECONDS
       dom0-load await-ready SOCKET SECONDS";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["bench"] => bench::run(),
        ["memory"] => memory::run(),
        ["load", seconds] => number(seconds).and_then(|s| load::run(s, 80)),
        ["load", seconds, percent] => number(seconds).and_then(|s| load::run(s, number(percent)?)),
        ["disk", device, mib] => number(mib).and_then(|mib| disk::run(device, mib)),
        ["tcp", address, mib] => number(mib).and_then(|mib| net::run(address, mib)),
        ["serve", address] => net::serve(address),
        ["measure-disk", device, mib, works @ ..] => {
            number(mib).and_then(|mib| measure::disk::run(device, mib, works))
        }
        ["measure-tcp", address, mib, works @ ..] => {
            number(mib).and_then(|mib| measure::net::run(address, mib, works))
        }
        ["measure-serve", address] => measure::net::serve(address),
        ["cpu-time", domain] => number(domain).and_then(domain::spent),
        ["lateness", seconds] => number(seconds).and_then(lateness::run),
        ["sit"] => domain::sit(),
        ["await", file, text, seconds] => number(seconds).and_then(|s| wait::run(file, text, s)),
        ["await-ready", socket, seconds] => number(seconds).and_then(|s| notify::run(socket, s)),
        // Roles of `bench` and `load`, started by themselves.
        ["exit", code] => {
            return number(code).map_or(ExitCode::FAILURE, |code| ExitCode::from(code as u8));
        }
        ["role", role, seconds, percent] => {
            number(seconds).and_then(|s| load::role(role, s, number(percent)?))
        }
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("dom0-load: {what}");
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, in words.
type Failure = String;

fn number(word: &str) -> Result<u64, Failure> {
    word.parse().map_err(|_| format!("`{word}` is no number"))
}

/// Fails unless a check holds.
fn demand(holds: bool, what: impl FnOnce() -> String) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(what()) }
}
