//! Debian's packages: downloaded with `apt-get download` and unpacked in the cache, never installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{paths, process};

/// Downloads and unpacks a package once; returns the folder that holds its files.
///
/// # Errors
/// When the machine is no Debian, the package is unknown or the download fails.
pub fn unpacked(package: &str) -> Result<PathBuf> {
    let dir = paths::cache_dir("packages")?.join(package);
    if dir.is_dir() {
        return Ok(dir);
    }
    if !process::has("apt-get") {
        bail!(
            "`{package}` comes from Debian's archive: run this on Debian 12, or pass --kernel and --initrd"
        );
    }
    eprintln!("xtask: downloading {package}");
    let scratch = paths::Scratch::new("package")?;
    // The archive may have moved on since the lists were read; then read them and try again.
    if download(package, scratch.path()).is_err() {
        update_lists()?;
        download(package, scratch.path())?;
    }
    let deb = only_deb(scratch.path())?;
    let unpacking = scratch.path().join("files");
    process::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&unpacking))?;
    match std::fs::rename(&unpacking, &dir) {
        Ok(()) => Ok(dir),
        // Another run was quicker.
        Err(_) if dir.is_dir() => Ok(dir),
        Err(error) => Err(error).with_context(|| format!("cannot write {}", dir.display())),
    }
}

/// The package a metapackage stands for today, remembered in the cache: `linux-image-amd64` is
/// `linux-image-6.1.0-56-amd64`.
///
/// # Errors
/// When the lists do not know it.
pub fn resolved(metapackage: &str, prefix: &str) -> Result<String> {
    let note = paths::cache_dir("packages")?.join(format!("{metapackage}.is"));
    if let Ok(known) = std::fs::read_to_string(&note) {
        return Ok(known);
    }
    let name = match depends(metapackage, prefix) {
        Ok(name) => name,
        Err(_) => {
            update_lists()?;
            depends(metapackage, prefix)?
        }
    };
    std::fs::write(&note, &name).with_context(|| format!("cannot write {}", note.display()))?;
    Ok(name)
}

fn depends(metapackage: &str, prefix: &str) -> Result<String> {
    let text = process::output(Command::new("apt-cache").args(["depends", metapackage])).context(
        "Debian's kernel packages are needed: run this on Debian 12, or pass --kernel and --initrd",
    )?;
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with(prefix))
        .map(str::to_owned)
        .with_context(|| format!("apt-cache knows no package behind {metapackage}"))
}

/// Reads the archive's lists anew; needs root.
///
/// # Errors
/// When it fails, or without root.
pub fn update_lists() -> Result<()> {
    if !is_root() {
        bail!("apt's lists are empty or old: run `apt-get update` as root");
    }
    eprintln!("xtask: apt-get update");
    process::output(Command::new("apt-get").args(["-q", "update"])).map(drop)
}

/// Whether this process may install packages.
pub fn is_root() -> bool {
    process::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

fn download(package: &str, into: &Path) -> Result<()> {
    process::output(
        Command::new("apt-get")
            .args(["-q", "-o", "APT::Sandbox::User=root", "download", package])
            .current_dir(into),
    )
    .map(drop)
}

fn only_deb(dir: &Path) -> Result<PathBuf> {
    let mut files = std::fs::read_dir(dir)?.filter_map(|entry| entry.ok().map(|e| e.path()));
    files
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .context("no package was downloaded")
}
