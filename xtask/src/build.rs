//! `build`: the hypervisor, compiled and checked for size.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use object::{Object, ObjectSegment};

use crate::setup::{self, Need};
use crate::{initramfs, paths, process, symbols};

#[derive(clap::Args)]
pub struct Args {
    /// With debug assertions and checks of overflow
    #[arg(long)]
    debug: bool,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let file = hypervisor(if args.debug {
        Build::Checked
    } else {
        Build::Released
    })?;
    println!(
        "{} ({} KiB)",
        paths::shown(&file),
        file.metadata()?.len() / 1024
    );
    Ok(ExitCode::SUCCESS)
}

/// Which hypervisor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Build {
    /// What users get.
    #[default]
    Released,
    /// With debug assertions and checks of overflow.
    Checked,
    /// Tells for how long it kept interrupts off (the feature `bounds`).
    Measured,
}

impl Build {
    /// Its profile, a section of `Cargo.toml`.
    fn profile(self) -> &'static str {
        match self {
            Self::Released => "release",
            Self::Checked => "checked",
            Self::Measured => "measured",
        }
    }
}

/// Compiles the hypervisor; returns the bootable file.
///
/// # Errors
/// When it does not compile.
pub fn hypervisor(build: Build) -> Result<PathBuf> {
    setup::ensure(&[Need::Target])?;
    let profile = build.profile();
    let mut cargo = process::cargo();
    cargo
        .args(["build", "--quiet", "--profile", profile])
        .args(["--package", "oxen-boot", "--bin", "oxen"])
        .args(["--target", setup::BARE_METAL]);
    if build == Build::Measured {
        cargo.args(["--features", "oxen-boot/bounds"]);
    }
    process::run(&mut cargo)?;
    let built = paths::cargo_target()
        .join(setup::BARE_METAL)
        .join(profile)
        .join("oxen");
    let cache = paths::cache()?;
    let linked =
        std::fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let image = symbols::finish(&linked).with_context(|| built.display().to_string())?;
    ensure!(
        build != Build::Released || image.len() <= MOST_BYTES,
        "the hypervisor has {} bytes, more than {MOST_BYTES}",
        image.len()
    );
    // With all its symbols, for GDB.
    initramfs::write(&cache.join("oxen.debug"), &linked)?;
    initramfs::write(&cache.join("oxen.elf"), &image)
}

/// Largest file, without debug information.
const MOST_BYTES: usize = 1 << 20;

/// Compiles the program that loads and checks dom0 and guests; returns its file.
///
/// # Errors
/// When it does not compile.
pub fn dom0_load() -> Result<PathBuf> {
    Ok(linked_statically("dom0-load")?.join("dom0-load"))
}

/// Compiles our toolstack; returns the files of `ox` and `oxd`.
///
/// # Errors
/// When it does not compile.
pub fn toolstack() -> Result<[PathBuf; 2]> {
    let folder = linked_statically("dom0-tools")?;
    Ok(["ox", "oxd"].map(|name| folder.join(name)))
}

/// The example guests: folders of `pv-drivers/guests`.
pub const EXAMPLE_GUESTS: &[&str] = &[
    "driver",
    "echo",
    "hello",
    "iobench",
    "kv",
    "microbench",
    "stress",
];

/// Compiles the example guests; returns the folder of their kernels.
///
/// # Errors
/// When one does not compile.
pub fn example_guests() -> Result<PathBuf> {
    setup::ensure(&[Need::Target])?;
    let mut cargo = process::cargo();
    cargo.args(["build", "--quiet", "--release"]);
    example_packages(&mut cargo);
    process::run(&mut cargo)?;
    let folder = paths::cargo_target()
        .join(setup::BARE_METAL)
        .join("release");
    for name in EXAMPLE_GUESTS {
        let file = folder.join(name);
        let bytes = std::fs::read(&file)?;
        let image = memory_image(&bytes).with_context(|| file.display().to_string())?;
        ensure!(
            image <= MOST_IMAGE,
            "the memory image of {name} has {image} bytes, more than {MOST_IMAGE}"
        );
    }
    Ok(folder)
}

/// Largest memory image of an example guest, in bytes.
const MOST_IMAGE: u64 = 1 << 20;

/// Bytes from the first to the last that an ELF file puts into memory.
fn memory_image(elf: &[u8]) -> Result<u64> {
    let file = object::File::parse(elf).context("not an ELF file")?;
    let start = file.segments().map(|segment| segment.address()).min();
    let end = file
        .segments()
        .filter_map(|segment| segment.address().checked_add(segment.size()))
        .max();
    let bytes = end
        .zip(start)
        .and_then(|(end, start)| end.checked_sub(start));
    bytes.context("it has nothing to load")
}

/// Names the example guests' packages, and makes Cargo compile them: nobody else wants them.
pub fn example_packages(cargo: &mut Command) {
    cargo.args(["--target", setup::BARE_METAL]);
    for name in EXAMPLE_GUESTS {
        cargo.args(["--package", &format!("guest-{name}")]);
        cargo.args(["--features", &format!("guest-{name}/bare-metal")]);
    }
}

/// What dom0's programs run on.
const DOM0_TARGET: &str = "x86_64-unknown-linux-gnu";

/// Compiles a package for dom0's initramfs, which holds no libraries; returns the folder of its
/// programs.
fn linked_statically(package: &str) -> Result<PathBuf> {
    // A target folder of its own, so that other flags do not make Cargo compile all anew.
    let target = paths::cache()?.join(package);
    let mut cargo = process::cargo();
    cargo
        .args([
            "build",
            "--quiet",
            "--release",
            "--bins",
            "--package",
            package,
        ])
        .arg("--target-dir")
        .arg(&target)
        // Named, so that the flags below are not for macros, which are loaded by the compiler.
        .args(["--target", DOM0_TARGET])
        .args(["--config", "profile.release.strip=true"])
        // These programs are tried more often than they are measured.
        .args(["--config", "profile.release.lto=false"])
        .args(["--config", "profile.release.codegen-units=16"])
        .env(
            "RUSTFLAGS",
            "-C target-feature=+crt-static -C relocation-model=static",
        );
    process::run(&mut cargo)?;
    Ok(target.join(DOM0_TARGET).join("release"))
}
