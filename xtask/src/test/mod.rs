//! `test`: everything that must hold, from formatting to whole machines. Closes with
//! `N passed, M failed` on a line of its own, and fails when anything did.

mod boots;
mod bounds;
mod cpus;
mod devices;
mod domains;
pub mod guests;
mod host;
mod lints;
mod miri;
mod report;
mod sanitize;
mod screen;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::machine::Emulator;
use crate::run::Hypervisor;
use crate::setup::{self, Need};
use report::Report;

#[derive(clap::Args)]
pub struct Args {
    /// Only these parts, and all but `sanitize` and `bounds` when none is named
    #[arg(value_enum, value_name = "PART")]
    parts: Vec<Part>,
    /// A few direct boots instead of all, no Miri
    #[arg(long)]
    quick: bool,
    /// Without Miri (it needs a nightly toolchain)
    #[arg(long)]
    no_miri: bool,
    /// Miri over the rooms without `unsafe` too (an hour)
    #[arg(long)]
    all_of_miri: bool,
    /// What the machines boot instead of Oxen, to see what it makes of the same tests
    #[arg(long, value_enum)]
    on: Option<Hypervisor>,
    /// Every combination of machine, CPU model, memory and kernel (hours); with `--emulator bochs`
    /// every 64-bit CPU model
    #[arg(long)]
    every_machine: bool,
    /// The parts `guests` and `boots` on this emulator only; without it, on QEMU and a few machines
    /// of Bochs
    #[arg(long, value_enum)]
    emulator: Option<Emulator>,
    /// Seconds of the self-checking load
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    load_seconds: u64,
    #[command(flatten, next_help_heading = "The part `domains`")]
    domains: domains::Options,
}

/// A part of the tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Part {
    /// Format, clippy, rustdoc, the house's own rules
    Lints,
    /// Unit and property tests on the host
    Host,
    /// The same under Miri
    Miri,
    /// Drivers and toolstack under AddressSanitizer, on the host
    Sanitize,
    /// Tiny PV kernels, on Oxen and on real Xen
    Guests,
    /// A tiny PV kernel on each of 130 CPUs
    Cpus,
    /// For how long interrupts are off at most
    Bounds,
    /// Debian's kernels on many machines
    Boots,
    /// What a machine without a serial port shows
    Screen,
    /// Disks and network cards
    Devices,
    /// The self-checking load
    Load,
    /// Guests created by either toolstack on either hypervisor
    Domains,
}

impl Part {
    const fn works_on_bochs(self) -> bool {
        matches!(self, Self::Guests | Self::Boots)
    }
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        let by_default = match part {
            Part::Miri => !self.quick && !self.no_miri,
            // Another compilation of nearly everything.
            Part::Sanitize => false,
            Part::Bounds | Part::Screen | Part::Devices | Part::Load | Part::Domains => !self.quick,
            Part::Lints | Part::Host | Part::Guests | Part::Cpus | Part::Boots => true,
        };
        if self.parts.is_empty() {
            by_default
        } else {
            self.parts.contains(&part)
        }
    }

    fn wants_on(&self, emulator: Emulator) -> bool {
        match self.emulator {
            Some(wanted) => wanted == emulator,
            None => emulator == Emulator::Qemu || !self.quick,
        }
    }

    /// How many of Bochs' machines boot dom0: it takes minutes each.
    fn bochs_rows(&self) -> boots::OnBochs {
        match (self.emulator, self.every_machine) {
            (Some(Emulator::Bochs), true) => boots::OnBochs::All,
            (Some(Emulator::Bochs), false) => boots::OnBochs::Some,
            _ => boots::OnBochs::One,
        }
    }

    fn run(&self, part: Part, on: Hypervisor, report: &mut Report) {
        match part {
            Part::Lints => lints::run(report),
            Part::Host => host::tests(report),
            Part::Miri => miri::tests(report, self.all_of_miri),
            Part::Sanitize => sanitize::tests(report),
            Part::Guests => guests::run(report, |emulator| self.wants_on(emulator)),
            Part::Cpus if self.wants_on(Emulator::Qemu) => cpus::run(report, on),
            Part::Cpus => (),
            Part::Boots => {
                if self.wants_on(Emulator::Qemu) {
                    boots::run(report, on, self.quick, self.every_machine);
                }
                if self.wants_on(Emulator::Bochs) {
                    boots::on_bochs(report, on, self.bochs_rows());
                }
            }
            // Nobody else's letters are known.
            Part::Screen if on != Hypervisor::Oxen => {}
            Part::Screen => screen::run(report),
            Part::Bounds => bounds::run(report, self.domains.write_docs),
            Part::Devices => devices::run(report, on),
            Part::Load => boots::load(report, on, self.load_seconds),
            Part::Domains => domains::run(report, self.on, &self.domains),
        }
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if args.emulator == Some(Emulator::Bochs) {
        ensure!(
            !args.parts.is_empty() && args.parts.iter().all(|part| part.works_on_bochs()),
            "only `guests` and `boots` work on Bochs: `cargo xtask test guests boots --emulator bochs`"
        );
    }
    let mut report = Report::default();
    setup::ensure(&[
        Need::Target,
        Need::Lints,
        Need::Qemu,
        Need::Bochs,
        Need::Grub,
        Need::Uefi,
    ])?;
    let on = args.on.unwrap_or_default();
    for &part in Part::value_variants() {
        if args.wants(part) {
            let start = Instant::now();
            args.run(part, on, &mut report);
            report.took(part, start.elapsed());
        }
    }
    Ok(report.close())
}
