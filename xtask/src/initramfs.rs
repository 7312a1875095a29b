//! `initramfs`: dom0's userspace, a busybox with the drivers of one kernel package.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::dom0::{self, Flavour, Kernel};
use crate::modules::Modules;
use crate::{build, paths, process};

#[derive(clap::Args)]
pub struct Args {
    /// Debian's kernel package to take the drivers from
    #[arg(long, value_enum, default_value = "generic")]
    flavour: Flavour,
}

/// Drivers of the devices QEMU offers.
const DEVICE_DRIVERS: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "virtio_net",
    "ahci",
    "ata_piix",
    "sd_mod",
    "nvme",
    "e1000",
];

/// What dom0 needs to serve as a control domain.
const XEN_DRIVERS: &[&str] = &[
    "xen-privcmd",
    "xenfs",
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
];

/// Drivers that are there for `modprobe` but not loaded at start.
const OTHER_DRIVERS: &[&str] = &["xen-blkback", "xen-netback", "loop", "bridge"];

const FOLDERS: &[&str] = &[
    "bin",
    "dev",
    "etc",
    "lib",
    "lib/modules",
    "mnt",
    "proc",
    "root",
    "run",
    "sys",
    "tmp",
];

pub fn run(args: &Args) -> Result<ExitCode> {
    let kernel = dom0::kernel(args.flavour)?;
    let initrd = build(args.flavour, &kernel)?;
    let cache = paths::cache()?;
    // Also under plain names, for those who start QEMU by hand.
    std::fs::copy(&kernel.vmlinuz, cache.join("vmlinuz"))?;
    std::fs::copy(&initrd, cache.join("initrd.img"))?;
    println!("kernel    {}", paths::shown(&kernel.vmlinuz));
    println!(
        "initramfs {} ({} KiB)",
        paths::shown(&initrd),
        initrd.metadata()?.len() / 1024
    );
    println!(
        "both also as {}",
        paths::shown(&cache.join("{vmlinuz,initrd.img}"))
    );
    Ok(ExitCode::SUCCESS)
}

/// Writes the initramfs for a kernel; returns its file.
///
/// # Errors
/// When a part cannot be had or read.
pub fn build(flavour: Flavour, kernel: &Kernel) -> Result<PathBuf> {
    let mut archive = Archive::default();
    for folder in FOLDERS {
        archive.directory(folder);
    }
    // The kernel opens it for /init before anything is mounted.
    archive.character_device("dev/console", 5, 1);
    archive.character_device("dev/null", 1, 3);
    archive.file("init", 0o755, include_bytes!("init.sh"));
    archive.file("etc/passwd", 0o644, b"root::0:0:root:/root:/bin/sh\n");
    archive.file("etc/group", 0o644, b"root:x:0:\n");
    add_busybox(&mut archive)?;
    archive.file("bin/dom0-load", 0o755, &std::fs::read(build::dom0_load()?)?);
    add_modules(&mut archive, kernel)?;
    write(
        &paths::cache()?.join(format!("initrd-{}.img", flavour.name())),
        &archive.finish(),
    )
}

/// Writes an initramfs with more files behind the given one: `(name, permissions, content)`.
///
/// # Errors
/// When a file cannot be read or written.
pub fn extended(initrd: &Path, files: &[(&str, u32, Vec<u8>)], to: &Path) -> Result<()> {
    let mut bytes =
        std::fs::read(initrd).with_context(|| format!("cannot read {}", initrd.display()))?;
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    let mut archive = Archive::default();
    for (name, permissions, content) in files {
        archive.file(name, *permissions, content);
    }
    bytes.extend(archive.finish());
    write(to, &bytes).map(drop)
}

fn add_busybox(archive: &mut Archive) -> Result<()> {
    let busybox = dom0::busybox()?;
    archive.file("bin/busybox", 0o755, &std::fs::read(&busybox)?);
    let applets = process::output(Command::new(&busybox).arg("--list"))?;
    for applet in applets.lines().filter(|name| *name != "busybox") {
        archive.symlink(&format!("bin/{applet}"), "busybox");
    }
    archive.symlink("sbin", "bin");
    Ok(())
}

/// Adds the modules, the order to load them in, and `modules.dep` for `modprobe`.
fn add_modules(archive: &mut Archive, kernel: &Kernel) -> Result<()> {
    let modules = Modules::in_folder(&kernel.modules)?;
    let folder = format!("lib/modules/{}", kernel.version);
    archive.directory(&folder);
    for (list, names) in [("devices", DEVICE_DRIVERS), ("xen", XEN_DRIVERS)] {
        let order = modules.closure(names)?;
        let lines: String = order
            .iter()
            .map(|m| format!("/{folder}/{}.ko\n", m.name))
            .collect();
        archive.file(&format!("etc/drivers.{list}"), 0o644, lines.as_bytes());
    }
    let mut dependencies = String::new();
    for module in modules.closure(&[DEVICE_DRIVERS, XEN_DRIVERS, OTHER_DRIVERS].concat())? {
        archive.file(
            &format!("{folder}/{}.ko", module.name),
            0o644,
            &std::fs::read(&module.file)?,
        );
        let needs: String = module
            .needs
            .iter()
            .map(|need| format!(" {need}.ko"))
            .collect();
        dependencies.push_str(&format!("{}.ko:{needs}\n", module.name));
    }
    archive.file(
        &format!("{folder}/modules.dep"),
        0o644,
        dependencies.as_bytes(),
    );
    Ok(())
}

/// Replaces a file at once, so that a parallel run never reads half of it; returns its path.
///
/// # Errors
/// When it cannot be written.
pub fn write(file: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let part = file.with_extension(format!("part{}", std::process::id()));
    std::fs::write(&part, bytes)
        .and_then(|()| std::fs::rename(&part, file))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file.to_path_buf())
}
