//! `test`: everything that must hold, from formatting to whole machines. Closes with
//! `N passed, M failed` on a line of its own, and fails when anything did.

mod boots;
mod devices;
mod domains;
pub mod guests;
mod host;
mod lints;
mod miri;
mod report;
mod sanitize;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;

use crate::run::Hypervisor;
use crate::setup::{self, Need};
use report::Report;

#[derive(clap::Args)]
pub struct Args {
    /// Only these parts, and all but `sanitize` when none is named
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
    /// Every combination of machine, CPU model, memory and kernel (hours)
    #[arg(long)]
    every_machine: bool,
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
    /// Debian's kernels on many machines
    Boots,
    /// Disks and network cards
    Devices,
    /// The self-checking load
    Load,
    /// Guests created by either toolstack on either hypervisor
    Domains,
}

impl Args {
    fn wants(&self, part: Part) -> bool {
        let by_default = match part {
            Part::Miri => !self.quick && !self.no_miri,
            // Another compilation of nearly everything.
            Part::Sanitize => false,
            Part::Devices | Part::Load | Part::Domains => !self.quick,
            Part::Lints | Part::Host | Part::Guests | Part::Boots => true,
        };
        if self.parts.is_empty() {
            by_default
        } else {
            self.parts.contains(&part)
        }
    }

    fn run(&self, part: Part, on: Hypervisor, report: &mut Report) {
        match part {
            Part::Lints => lints::run(report),
            Part::Host => host::tests(report),
            Part::Miri => miri::tests(report, self.all_of_miri),
            Part::Sanitize => sanitize::tests(report),
            Part::Guests => guests::run(report),
            Part::Boots => boots::run(report, on, self.quick, self.every_machine),
            Part::Devices => devices::run(report, on),
            Part::Load => boots::load(report, on, self.load_seconds),
            Part::Domains => domains::run(report, self.on, &self.domains),
        }
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut report = Report::default();
    setup::ensure(&[
        Need::Target,
        Need::Lints,
        Need::Qemu,
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
