//! Unit and property tests under Miri: no undefined behaviour on any path they take.
//!
//! Miri runs on one thread. The tests are therefore dealt out to as many processes as the machine
//! has CPUs, by name, so that a slow room's tests come to all of them.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread::available_parallelism;

use anyhow::{Context, Result, ensure};

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
    "arch::speculation::",
    "console::screen::",
    "irq::table::",
    "mm::host_map::tables::",
    "block::tests::",
    "net::tests::",
    "p9::tests::",
    "xenstore::tests::",
];

/// Property tests ask for the time and the current folder; tests leak the tables that a host has
/// for good; and Miri's model of weak memory has no atomics of several widths at one place, as
/// shared pages have them.
const FLAGS: &str = "-Zmiri-disable-isolation -Zmiri-ignore-leaks \
                     -Zmiri-disable-weak-memory-emulation";

pub fn tests(report: &mut Report, all: bool) {
    let shares = match nightly().and_then(|()| shares(all)) {
        Ok(shares) => shares,
        Err(why) => return report.test("Miri", || Err(why)),
    };
    println!("      Miri: about ten minutes on two CPUs");
    report.cargo_tests(
        "Miri",
        shares.iter().map(|share| {
            let mut miri = miri(all);
            miri.args(["--", "--exact"]).args(share);
            miri
        }),
    );
}

/// The names of all tests to run, dealt out to as many processes as there are CPUs.
fn shares(all: bool) -> Result<Vec<Vec<String>>> {
    let mut list = miri(all);
    list.args(["--", "--list", "--format", "terse"]);
    if !all {
        for room in MIRI_SKIPS {
            list.args(["--skip", room]);
        }
    }
    let list = process::output(&mut list).context("the tests do not build for Miri")?;
    let names: BTreeSet<&str> = list
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .collect();
    ensure!(!names.is_empty(), "no test to run under Miri");
    let processes = available_parallelism().map_or(1, usize::from);
    let mut shares = vec![Vec::new(); processes];
    for (name, share) in names.iter().zip((0..processes).cycle()) {
        shares[share].push((*name).to_owned());
    }
    shares.retain(|share| !share.is_empty());
    Ok(shares)
}

/// `cargo miri test` of the packages, the test binary's own arguments still to come.
fn miri(all: bool) -> Command {
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
    if all {
        miri.args(["--package", "pv-image"]);
    }
    miri.arg("--target-dir")
        .arg(paths::cargo_target().join("miri"))
        .env("MIRIFLAGS", FLAGS);
    miri
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
pub fn rustup(args: &[&str]) -> Command {
    let mut rustup = Command::new("rustup");
    rustup.current_dir(paths::root()).args(args);
    for name in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC"] {
        rustup.env_remove(name);
    }
    rustup
}
