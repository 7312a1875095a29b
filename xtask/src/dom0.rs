//! The parts of a machine that come from Debian: dom0's kernel, busybox, and real Xen to compare with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::{packages, paths, process};

/// Which of Debian's kernel packages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Flavour {
    /// `linux-image-amd64`
    #[default]
    Generic,
    /// `linux-image-cloud-amd64`
    Cloud,
}

impl Flavour {
    /// Name in file names and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Cloud => "cloud",
        }
    }

    fn metapackage(self) -> &'static str {
        match self {
            Self::Generic => "linux-image-amd64",
            Self::Cloud => "linux-image-cloud-amd64",
        }
    }
}

/// A kernel package, unpacked.
pub struct Kernel {
    /// The bzImage.
    pub vmlinuz: PathBuf,
    /// The folder `lib/modules/<version>`.
    pub modules: PathBuf,
    /// The kernel's version, as in file names.
    pub version: String,
}

/// Debian's kernel of today, from the cache or the archive.
///
/// # Errors
/// When it cannot be had.
pub fn kernel(flavour: Flavour) -> Result<Kernel> {
    let package = packages::resolved(flavour.metapackage(), "linux-image-")?;
    let files = packages::unpacked(&package)?;
    let version = package.trim_start_matches("linux-image-").to_owned();
    Ok(Kernel {
        vmlinuz: files.join("boot").join(format!("vmlinuz-{version}")),
        modules: files.join("lib/modules").join(&version),
        version,
    })
}

/// A static busybox.
///
/// # Errors
/// When it cannot be had.
pub fn busybox() -> Result<PathBuf> {
    Ok(packages::unpacked("busybox-static")?.join("bin/busybox"))
}

/// Real Xen: the file as packaged (gzip) and the ELF file in it.
pub struct Xen {
    /// `xen-4.17-amd64.gz`, which GRUB reads as it is.
    pub packed: PathBuf,
    /// The ELF file, for QEMU's own loader.
    pub elf: PathBuf,
}

/// Debian's Xen 4.17.
///
/// # Errors
/// When it cannot be had.
pub fn xen() -> Result<Xen> {
    let packed = packages::unpacked("xen-hypervisor-4.17-amd64")?.join("boot/xen-4.17-amd64.gz");
    let elf = paths::cache()?.join("xen-4.17.elf");
    if !process::is_fresh(&elf, &packed) {
        unzip(&packed, &elf)?;
    }
    Ok(Xen { packed, elf })
}

fn unzip(packed: &Path, to: &Path) -> Result<()> {
    let output = Command::new("gzip")
        .arg("-dc")
        .arg(packed)
        .output()
        .context("cannot start gzip")?;
    anyhow::ensure!(
        output.status.success(),
        "cannot unpack {}",
        packed.display()
    );
    // Written under another name first, so that a parallel run never sees half of it.
    let part = to.with_extension(format!("part{}", std::process::id()));
    std::fs::write(&part, &output.stdout)?;
    std::fs::rename(&part, to).with_context(|| format!("cannot write {}", to.display()))
}
