//! `initramfs`: dom0's userspace, a busybox with the drivers of one kernel package.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::dom0::{self, Flavour, Kernel};
use crate::modules::Modules;
use crate::toolstack::{self, Toolstack};
use crate::{build, paths, process};

#[derive(clap::Args)]
pub struct Args {
    /// Debian's kernel package to take the drivers from
    #[arg(long, value_enum, default_value = "generic")]
    flavour: Flavour,
    /// With the tools that create domains
    #[arg(long, value_enum, default_value = "none")]
    toolstack: Toolstack,
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

/// What dom0 needs to serve guests, and to hold their files.
const BACKEND_DRIVERS: &[&str] = &[
    "xen-blkback",
    "xen-netback",
    "loop",
    "bridge",
    "crc32c_generic",
    "ext4",
];

/// Drivers that are there for `modprobe` but not loaded at start.
const OTHER_DRIVERS: &[&str] = &["xen-blkback", "xen-netback", "loop", "bridge", "efivarfs"];

/// What dom0 needs for images by `qemu-nbd` and for cards in VLANs; a scenario's script loads them.
const DEVICE_KINDS: &[&str] = &["nbd", "8021q"];

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
    let initrd = build(args.flavour, &kernel, args.toolstack)?;
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

/// Writes the initramfs for a kernel, with a toolstack or without; returns its file.
///
/// # Errors
/// When a part cannot be had or read.
pub fn build(flavour: Flavour, kernel: &Kernel, toolstack: Toolstack) -> Result<PathBuf> {
    let mut archive = Archive::default();
    add_ground(&mut archive, include_bytes!("userspace/dom0-init.sh"))?;
    let loaded = [("devices", DEVICE_DRIVERS), ("xen", XEN_DRIVERS)];
    match toolstack {
        Toolstack::None => add_modules(&mut archive, kernel, &loaded, OTHER_DRIVERS)?,
        Toolstack::Xl | Toolstack::Ox => {
            let backends = ("backends", BACKEND_DRIVERS);
            add_modules(
                &mut archive,
                kernel,
                &[loaded[0], loaded[1], backends],
                OTHER_DRIVERS,
            )?;
            toolstack::add(&mut archive, toolstack)?;
        }
    }
    let name = match toolstack {
        Toolstack::None => format!("initrd-{}.img", flavour.name()),
        with => format!("initrd-{}-{}.img", flavour.name(), with.name()),
    };
    write(&paths::cache()?.join(name), &archive.finish())
}

/// What a dom0 with a toolstack has for disks and cards of a more elaborate kind, as one more archive:
/// programs, and modules that `/etc/drivers.kinds` lists.
///
/// # Errors
/// When a part cannot be had or read.
pub fn device_kinds(flavour: Flavour) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let kernel = dom0::kernel(flavour)?;
    add_modules(
        &mut archive,
        &kernel,
        &[("kinds", DEVICE_KINDS)],
        OTHER_DRIVERS,
    )?;
    toolstack::add_device_programs(&mut archive)?;
    Ok(archive.finish())
}

/// Adds what both dom0 and guests stand on: folders, `/init`, busybox, and the program that loads
/// and checks a machine.
///
/// # Errors
/// When a part cannot be had or read.
pub fn add_ground(archive: &mut Archive, init: &[u8]) -> Result<()> {
    for folder in FOLDERS {
        archive.directory(folder);
    }
    // The kernel opens it for /init before anything is mounted.
    archive.character_device("dev/console", 5, 1);
    archive.character_device("dev/null", 1, 3);
    archive.file("init", 0o755, init);
    archive.file("etc/passwd", 0o644, b"root::0:0:root:/root:/bin/sh\n");
    archive.file("etc/group", 0o644, b"root:x:0:\n");
    add_busybox(archive)?;
    archive.file("bin/dom0-load", 0o755, &std::fs::read(build::dom0_load()?)?);
    Ok(())
}

/// Writes an initramfs with more archives behind the given one, and more files: `(name, permissions,
/// content)`.
///
/// # Errors
/// When a file cannot be read or written.
pub fn extended(
    initrd: &Path,
    archives: &[Vec<u8>],
    files: &[(&str, u32, &[u8])],
    to: &Path,
) -> Result<()> {
    let mut bytes =
        std::fs::read(initrd).with_context(|| format!("cannot read {}", initrd.display()))?;
    for archive in archives {
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend(archive);
    }
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

/// Adds modules and `modules.dep` for `modprobe`. Those of `loaded` have lists by name,
/// `/etc/drivers.<name>`, in the order to load them in.
///
/// # Errors
/// When a module cannot be read.
pub fn add_modules(
    archive: &mut Archive,
    kernel: &Kernel,
    loaded: &[(&str, &[&str])],
    others: &[&str],
) -> Result<()> {
    let modules = Modules::in_folder(&kernel.modules)?;
    let folder = format!("lib/modules/{}", kernel.version);
    archive.directory(&folder);
    let mut all = others.to_vec();
    for (list, names) in loaded {
        let order = modules.closure(names)?;
        let lines: String = order
            .iter()
            .map(|m| format!("/{folder}/{}.ko\n", m.name))
            .collect();
        archive.file(&format!("etc/drivers.{list}"), 0o644, lines.as_bytes());
        all.extend(*names);
    }
    let mut dependencies = String::new();
    for module in modules.closure(&all)? {
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
