//! The host build under AddressSanitizer, with malice against the drivers: no access out of bounds
//! or after the end, also where Miri is too slow to get to.

use super::miri::{nightly, rustup};
use super::report::Report;
use crate::paths;

/// Tests that touch memory others write, by package and kind.
const TESTS: &[&[&str]] = &[
    &["--package", "pv-drivers", "--lib"],
    &["--package", "dom0-tools", "--lib"],
    &["--package", "oxen-fuzz", "--test", "devices"],
];

/// What the sanitizer works for, named so that its flags are not for build scripts.
const HOST: &str = "x86_64-unknown-linux-gnu";

pub fn tests(report: &mut Report) {
    if let Err(why) = nightly() {
        return report.test("AddressSanitizer", || Err(why));
    }
    let runs = TESTS.iter().map(|tests| {
        let mut cargo = rustup(&["run", "nightly", "cargo", "test", "--no-fail-fast"]);
        cargo
            .args(*tests)
            .args(["--target", HOST])
            .arg("--target-dir")
            .arg(paths::cargo_target().join("sanitizer"))
            .env("RUSTFLAGS", "-Zsanitizer=address")
            // Tests leak what a host has for good.
            .env("ASAN_OPTIONS", "detect_leaks=0");
        cargo
    });
    report.cargo_tests("AddressSanitizer", runs);
}
