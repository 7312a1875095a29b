//! Unit and property tests on the host, and the same under Miri.

use std::process::Command;

use anyhow::{Context, Result};

use super::report::Report;
use crate::{paths, process};

/// Packages with logic that Miri can run.
const MIRI_PACKAGES: &[&str] = &["hv-core", "xen-abi", "oxen-boot", "pv-drivers"];

/// What only `--all-of-miri` runs: rooms without `unsafe` whose property tests take Miri
/// an hour. Undefined behaviour can only come out of the others.
const MIRI_SKIPS: &[&str] = &[
    "pv_mm::",
    "pv_emul::",
    "sched::",
    "hypercall::",
    "pv_build::",
    "domain::",
    "access::",
    "irq::table::",
    "mm::host_map::tables::",
];

/// Mutants of each fuzz target: a few seconds in all.
const FUZZ_RUNS: &str = "3000";

pub fn tests(report: &mut Report) {
    report.cargo_tests(
        "host tests",
        process::cargo().args(["test", "--workspace", "--no-fail-fast"]),
    );
    report.command(
        "fuzz targets, mutants of their seeds",
        process::cargo()
            .args(["run", "--quiet", "--package", "oxen-fuzz", "--"])
            .args(["--runs", FUZZ_RUNS]),
    );
}

pub fn miri(report: &mut Report, all: bool) {
    if let Err(why) = nightly() {
        report.test("Miri", || Err(why));
        return;
    }
    println!("      Miri: about ten minutes");
    let mut miri = rustup(&[
        "run",
        "nightly",
        "cargo",
        "miri",
        "test",
        "--lib",
        "--no-fail-fast",
    ]);
    for package in MIRI_PACKAGES {
        miri.args(["--package", package]);
    }
    miri.arg("--target-dir")
        .arg(paths::cargo_target().join("miri"));
    if all {
        miri.args(["--package", "pv-image"]);
    } else {
        miri.arg("--");
        for room in MIRI_SKIPS {
            miri.args(["--skip", room]);
        }
    }
    // Property tests ask for the time and the current folder; tests leak the tables that a
    // host has for good; and Miri's model of weak memory has no atomics of several widths
    // at one place, as shared pages have them.
    const FLAGS: &str = "-Zmiri-disable-isolation -Zmiri-ignore-leaks \
                         -Zmiri-disable-weak-memory-emulation";
    miri.env("MIRIFLAGS", FLAGS);
    report.cargo_tests("Miri", &mut miri);
}

/// Makes sure of a nightly toolchain with Miri.
pub fn nightly() -> Result<()> {
    let works = process::output(&mut rustup(&[
        "run",
        "nightly",
        "cargo",
        "miri",
        "--version",
    ]));
    if works.is_ok() {
        return Ok(());
    }
    eprintln!("xtask: rustup toolchain install nightly, with Miri");
    process::output(&mut rustup(&[
        "toolchain",
        "install",
        "nightly",
        "--profile",
        "minimal",
        "--component",
        "miri,rust-src",
    ]))
    .map(drop)
    .context("Miri needs a nightly toolchain (or use --no-miri)")
}

/// rustup, free of the toolchain that runs this program.
fn rustup(args: &[&str]) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(paths::root()).args(args);
    for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC"] {
        rustup.env_remove(name);
    }
    rustup
}
