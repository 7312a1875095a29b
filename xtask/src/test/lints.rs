//! What can be said of the code without running it.

use super::report::Report;
use crate::{build, process, setup};

/// Packages that are also (or only) compiled for bare metal.
pub const BARE_PACKAGES: &[&str] = &["oxen-boot", "hv-core", "xen-abi", "pv-image", "pv-drivers"];

/// What guests may ask of `pv-drivers` beside the rest.
const DRIVER_FEATURES: &[&str] = &["smoltcp", "log", "random", "embedded-io"];

/// The tiny kernels have no heap. Checked alone: beside the others, what they share with them
/// would be built with the others' features, and ask for one.
const GUESTS: &str = "test-guests";

pub fn run(report: &mut Report) {
    report.command("format", process::cargo().args(["fmt", "--all", "--check"]));
    report.command(
        "clippy, host",
        process::cargo()
            .args(["clippy", "--quiet", "--workspace", "--all-targets"])
            .args(DENY),
    );
    let mut bare = process::cargo();
    bare.args(["clippy", "--quiet", "--target", setup::BARE_METAL]);
    for package in BARE_PACKAGES {
        bare.args(["--package", package]);
    }
    for feature in DRIVER_FEATURES {
        bare.args(["--features", &format!("pv-drivers/{feature}")]);
    }
    report.command("clippy, bare metal", bare.args(DENY));
    report.command(
        "clippy, tiny kernels",
        process::cargo()
            .args(["clippy", "--quiet", "--target", setup::BARE_METAL])
            .args(["--package", GUESTS])
            .args(DENY),
    );
    let mut examples = process::cargo();
    examples.args(["clippy", "--quiet"]);
    build::example_packages(&mut examples);
    report.command("clippy, example guests", examples.args(DENY));
    report.command(
        "rustdoc",
        process::cargo()
            .args([
                "doc",
                "--quiet",
                "--workspace",
                "--no-deps",
                "--document-private-items",
            ])
            .env(
                "RUSTDOCFLAGS",
                "-D warnings -A rustdoc::private_intra_doc_links",
            ),
    );
    report.test("house rules", crate::tidy::check);
    report.test("indirect branches", crate::spectre::check);
}

const DENY: &[&str] = &["--", "-D", "warnings"];
