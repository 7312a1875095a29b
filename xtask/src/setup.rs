//! `setup`: what the other verbs need. Each of them calls [`ensure`] for its own needs, so nobody
//! has to run this verb; it is there to do all downloads at once.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::machine::bochs;
use crate::{dom0, packages, process, toolstack};

/// The target the hypervisor is compiled for.
pub const BARE_METAL: &str = "x86_64-unknown-none";

#[derive(clap::Args)]
pub struct Args {}

/// One thing a verb may need from outside the repository.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The bare-metal Rust target.
    Target,
    /// rustfmt and clippy.
    Lints,
    /// QEMU for x86-64.
    Qemu,
    /// Bochs, with its BIOS and a display that needs no screen.
    Bochs,
    /// GRUB's ISO tools.
    Grub,
    /// UEFI firmware for QEMU.
    Uefi,
    /// GDB.
    Gdb,
    /// What makes a file system in a file.
    Ext4,
}

pub fn run(_: &Args) -> Result<ExitCode> {
    ensure(&[
        Need::Target,
        Need::Lints,
        Need::Qemu,
        Need::Bochs,
        Need::Grub,
        Need::Uefi,
    ])?;
    for flavour in [dom0::Flavour::Generic, dom0::Flavour::Cloud] {
        dom0::kernel(flavour)?;
    }
    dom0::busybox()?;
    dom0::xen()?;
    toolstack::download()?;
    eprintln!("xtask: everything is in place");
    Ok(ExitCode::SUCCESS)
}

/// Makes sure of the given needs; silent when nothing is missing.
///
/// # Errors
/// When something is missing and cannot be installed; the message says what to install.
pub fn ensure(needs: &[Need]) -> Result<()> {
    if needs.contains(&Need::Target) {
        rust_target()?;
    }
    if needs.contains(&Need::Lints) {
        rust_component("rustfmt", "cargo-fmt")?;
        rust_component("clippy", "cargo-clippy")?;
    }
    let mut missing = Vec::new();
    for (need, present, debian) in tools() {
        if needs.contains(&need) && !present {
            missing.push(debian);
        }
    }
    missing.dedup();
    if missing.is_empty() {
        Ok(())
    } else {
        install(&missing)
    }
}

/// Need, whether it is there, and the Debian package that brings it.
fn tools() -> Vec<(Need, bool, &'static str)> {
    let file = |path: &str| std::path::Path::new(path).exists();
    vec![
        (
            Need::Qemu,
            process::has("qemu-system-x86_64"),
            "qemu-system-x86",
        ),
        (Need::Bochs, process::has("bochs"), "bochs"),
        (Need::Bochs, file(bochs::BIOS), "bochsbios"),
        (Need::Bochs, file(bochs::VGA_BIOS), "vgabios"),
        (Need::Bochs, file(bochs::DISPLAY), "bochs-sdl"),
        (Need::Grub, process::has("grub-mkrescue"), "grub-common"),
        (Need::Grub, file("/usr/lib/grub/i386-pc"), "grub-pc-bin"),
        (
            Need::Grub,
            file("/usr/lib/grub/x86_64-efi"),
            "grub-efi-amd64-bin",
        ),
        (Need::Grub, process::has("xorriso"), "xorriso"),
        (Need::Grub, process::has("mformat"), "mtools"),
        (Need::Uefi, file("/usr/share/ovmf/OVMF.fd"), "ovmf"),
        (Need::Gdb, process::has("gdb"), "gdb"),
        (Need::Ext4, process::has("mkfs.ext4"), "e2fsprogs"),
    ]
}

fn install(missing: &[&str]) -> Result<()> {
    let list = missing.join(" ");
    if !process::has("apt-get") {
        bail!("please install what Debian calls: {list}");
    }
    if !packages::is_root() {
        bail!("please run as root: apt-get install --no-install-recommends {list}");
    }
    let install = || {
        eprintln!("xtask: apt-get install {list}");
        process::output(
            Command::new("apt-get")
                .env("DEBIAN_FRONTEND", "noninteractive")
                .args(["-q", "-y", "--no-install-recommends", "install"])
                .args(missing),
        )
    };
    packages::update_lists()?;
    install().map(drop)
}

fn rust_target() -> Result<()> {
    let sysroot = process::output(
        Command::new("rustc")
            .args(["--print", "sysroot"])
            .current_dir(crate::paths::root()),
    )?;
    let library = std::path::Path::new(sysroot.trim())
        .join("lib/rustlib")
        .join(BARE_METAL);
    if library.is_dir() {
        return Ok(());
    }
    eprintln!("xtask: rustup target add {BARE_METAL}");
    rustup(&["target", "add", BARE_METAL])
        .with_context(|| format!("please install Rust's target {BARE_METAL}"))
}

fn rust_component(component: &str, program: &str) -> Result<()> {
    let works = process::output(
        Command::new(program)
            .arg("--version")
            .current_dir(crate::paths::root()),
    );
    if works.is_ok() {
        return Ok(());
    }
    eprintln!("xtask: rustup component add {component}");
    rustup(&["component", "add", component]).with_context(|| format!("please install {component}"))
}

fn rustup(args: &[&str]) -> Result<()> {
    process::output(
        Command::new("rustup")
            .args(args)
            .current_dir(crate::paths::root()),
    )
    .map(drop)
}
