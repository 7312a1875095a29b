//! `bench`: Oxen beside Debian's real Xen and bare Linux, in one run: the same kernel, initramfs,
//! boot loader and QEMU. A row where Oxen is behind says so.

mod beside;
mod devices;
mod domains;
mod linux;
mod memory;
mod microbench;
mod operations;
mod shares;
mod size;
mod start;
mod table;
mod time;

use std::process::ExitCode;

pub use table::grouped;

use anyhow::{Context, Result};

use crate::machine::Machine;
use crate::run::{self, Hypervisor, Parts};
use crate::serial::Outcome;

#[derive(clap::Args)]
pub struct Args {
    /// Only these parts, and all of them when none is named
    #[arg(value_enum, value_name = "PART")]
    parts: Vec<Part>,
    /// Boots of each kind that a median is taken of
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// QEMU's CPU model
    #[arg(long, default_value = "Haswell-noTSX")]
    cpu: String,
}

/// A part of the benchmark.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Part {
    /// The hypervisor's file
    Size,
    /// Memory the hypervisor keeps for itself
    Memory,
    /// Power-on to dom0's init
    Time,
    /// Executed instructions of single operations
    Operations,
    /// Executed instructions of single operations of a guest
    Microbench,
    /// Executed instructions of a guest in Rust to its first words, beside a Linux guest
    Start,
    /// Disk and card of a guest in Rust, beside those of a Linux guest
    Devices,
    /// Guests: their making and end, devices, save and restore
    Domains,
    /// Guests that share a CPU: weights, caps, wake-ups
    Shares,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let wants = |part| args.parts.is_empty() || args.parts.contains(&part);
    if wants(Part::Size) {
        size::run()?;
    }
    if wants(Part::Memory) {
        memory::run(&args.cpu)?;
    }
    if wants(Part::Operations) {
        operations::run(&args.cpu)?;
    }
    if wants(Part::Microbench) {
        microbench::run(&args.cpu)?;
    }
    if wants(Part::Start) {
        start::run(&args.cpu)?;
    }
    if wants(Part::Devices) {
        devices::run(&args.cpu)?;
    }
    if wants(Part::Domains) {
        domains::run(&args.cpu)?;
    }
    if wants(Part::Shares) {
        shares::run(&args.cpu)?;
    }
    if wants(Part::Time) {
        time::run(&args.cpu, args.runs)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The benchmark's machine: one CPU, so that nothing depends on QEMU's threads.
fn machine(cpu: &str) -> Machine {
    Machine {
        smp: 1,
        cpu: Some(cpu.into()),
        direct: true,
        ..Machine::default()
    }
}

/// Speculation mitigations, the same on every side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mitigations {
    /// What kernel and hypervisor choose for this CPU.
    Default,
    /// None, in kernel and hypervisor.
    Off,
}

impl Mitigations {
    fn parts(self, hypervisor: Hypervisor) -> Parts {
        let (append, hv_append) = match self {
            Self::Default => ("", ""),
            Self::Off => ("mitigations=off", "xpti=0 spec-ctrl=no"),
        };
        Parts {
            hypervisor,
            append: append.into(),
            hv_append: hv_append.into(),
            ..Parts::default()
        }
    }
}

/// Boots and runs a script that must end with status 0.
fn scripted(parts: &Parts, machine: &Machine, script: &str, name: &str) -> Result<Outcome> {
    let timeout = std::time::Duration::from_secs(3600);
    let outcome = run::headless(
        parts,
        machine,
        Some(script.as_bytes()),
        timeout,
        name,
        |_| (),
    )?;
    let log = crate::paths::shown(&outcome.log);
    let (status, name) = (outcome.status, parts.hypervisor.name());
    anyhow::ensure!(
        status == Some(0),
        "{name}: the script ended with {status:?} ({log})"
    );
    Ok(outcome)
}

/// The number behind a word that starts a line of the script's output.
fn number(outcome: &Outcome, word: &str) -> Option<u64> {
    let prefix = format!("{word} ");
    let line = outcome
        .script
        .iter()
        .find_map(|line| line.strip_prefix(&prefix))?;
    line.trim().parse().ok()
}

/// The same, where it must be there.
fn needed(outcome: &Outcome, word: &str) -> Result<u64> {
    number(outcome, word)
        .with_context(|| format!("no `{word}` in {}", crate::paths::shown(&outcome.log)))
}
