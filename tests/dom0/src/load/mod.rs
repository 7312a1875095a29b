//! A load that checks itself: every role is a process (or one per CPU) that works until its time is
//! over and compares all it sees with what it must be.

mod clocks;
mod mappings;
mod memory;
mod processes;
mod signals;

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::Failure;

/// One kind of work: its name, whether it runs once per CPU, and its function.
type Role = (&'static str, bool, fn(Work) -> Result<u64, Failure>);

const ROLES: &[Role] = &[
    ("fork", true, processes::fork),
    ("exec", true, processes::exec),
    ("memory", false, memory::run),
    ("mappings", false, mappings::run),
    ("signals", false, signals::run),
    ("clocks", false, clocks::run),
];

/// What a role is to do.
#[derive(Clone, Copy)]
pub struct Work {
    /// When to end.
    pub until: Instant,
    /// How much of the free memory to use, in percent.
    pub percent: u64,
}

impl Work {
    /// Whether there is time left.
    pub fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }
}

/// Number of CPUs online.
pub fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Runs every role for a number of seconds, `percent` of the free memory in use.
///
/// # Errors
/// When a check failed, in any role.
pub fn run(seconds: u64, percent: u64) -> Result<(), Failure> {
    let start = Instant::now();
    let mut children = Vec::new();
    for (name, per_cpu, _) in ROLES {
        for _ in 0..if *per_cpu { cpus() } else { 1 } {
            children.push((*name, spawn(name, seconds, percent)?));
        }
    }
    let mut failed = Vec::new();
    for (name, mut child) in children {
        let status = child.wait().map_err(|error| error.to_string())?;
        if !status.success() {
            failed.push(format!("{name}: {status}"));
        }
    }
    let took = start.elapsed().as_secs();
    // A minute's grace: machines under emulation are slow to end what they started.
    if took > seconds + 60 {
        failed.push(format!("took {took} s instead of {seconds} s"));
    }
    if failed.is_empty() {
        println!("load: {took} s on {} CPUs, every check right", cpus());
        Ok(())
    } else {
        Err(failed.join("; "))
    }
}

fn spawn(role: &str, seconds: u64, percent: u64) -> Result<Child, Failure> {
    Command::new("/proc/self/exe")
        .args(["role", role, &seconds.to_string(), &percent.to_string()])
        .spawn()
        .map_err(|error| format!("cannot start {role}: {error}"))
}

/// Runs one role in this process.
///
/// # Errors
/// When a check failed.
pub fn role(name: &str, seconds: u64, percent: u64) -> Result<(), Failure> {
    let work = Work {
        until: Instant::now() + Duration::from_secs(seconds),
        percent,
    };
    let (_, _, function) = ROLES
        .iter()
        .find(|role| role.0 == name)
        .ok_or_else(|| format!("no role {name}"))?;
    let rounds = function(work).map_err(|what| format!("{name}: {what}"))?;
    println!("load: {name}: {rounds} rounds");
    if rounds == 0 {
        Err(format!("{name}: not one round in {seconds} s"))
    } else {
        Ok(())
    }
}
