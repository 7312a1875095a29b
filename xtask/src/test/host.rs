//! Unit and property tests on the host.

use super::report::Report;
use crate::process;

/// Mutants of each fuzz target: a few seconds in all.
const FUZZ_RUNS: &str = "3000";

pub fn tests(report: &mut Report) {
    let mut tests = process::cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]);
    report.cargo_tests("host tests", [tests]);
    report.command(
        "fuzz targets, mutants of their seeds",
        process::cargo()
            .args(["run", "--quiet", "--package", "oxen-fuzz", "--"])
            .args(["--runs", FUZZ_RUNS]),
    );
}
