//! Memory pressure: fills a share of the free memory with numbers, checks it, gives back half, again.

use std::collections::VecDeque;

use crate::random::Random;
use crate::sys::Mapping;
use crate::{Failure, demand};

use super::Work;

const CHUNK: usize = 4 << 20;

pub fn run(work: Work) -> Result<u64, Failure> {
    let mut held: VecDeque<(u64, Mapping)> = VecDeque::new();
    let mut next = 0;
    let mut rounds = 0;
    while work.goes_on() {
        while work.goes_on() && available()? > reserve(work.percent)? {
            let mut chunk = Mapping::new(CHUNK).ok_or("no memory though some is available")?;
            Random::new(next).fill(chunk.bytes());
            held.push_back((next, chunk));
            next += 1;
        }
        let keep = held.len() / 2;
        while held.len() > keep
            && let Some((seed, mut chunk)) = held.pop_front()
        {
            demand(Random::new(seed).matches(chunk.bytes()), || {
                format!("chunk {seed} has changed")
            })?;
        }
        rounds += 1;
    }
    for (seed, mut chunk) in held {
        demand(Random::new(seed).matches(chunk.bytes()), || {
            format!("chunk {seed} has changed")
        })?;
    }
    Ok(rounds)
}

/// Memory to leave free, in bytes.
fn reserve(percent: u64) -> Result<u64, Failure> {
    Ok(meminfo("MemTotal:")? / 100 * 100_u64.saturating_sub(percent))
}

fn available() -> Result<u64, Failure> {
    meminfo("MemAvailable:")
}

/// A line of `/proc/meminfo`, in bytes.
fn meminfo(key: &str) -> Result<u64, Failure> {
    let text = std::fs::read_to_string("/proc/meminfo").map_err(|error| error.to_string())?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .ok_or("no such line")?;
    let kib = line.split_whitespace().next().unwrap_or_default();
    crate::number(kib).map(|kib| kib * 1024)
}
