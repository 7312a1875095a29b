//! The Linux guest that dom0 creates: Debian's kernel, packed and unpacked, and an initramfs of its
//! own, on a disk that dom0 mounts at `/guests` and where guests' disks are made. The example guests
//! of pv-drivers are there too.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use pv_image::KernelFile;

use crate::cpio::Archive;
use crate::dom0::{self, Flavour, Kernel};
use crate::setup::{self, Need};
use crate::{build, initramfs, paths, process, test, tutorial};

/// Serial number of the disk, by which dom0 knows it; also its label.
pub const SERIAL: &str = "guests";

/// Size of the disk in MiB, nearly all of it a hole.
const DISK_MIB: u64 = 3072;

/// Drivers of a guest.
const DRIVERS: &[&str] = &["xen-blkfront", "xen-netfront", "ext4", "crc32c_generic"];

/// Writes the disk; returns its file. It is never changed by a machine: QEMU keeps what is written
/// elsewhere, and forgets it.
///
/// # Errors
/// When a part cannot be had.
pub fn disk() -> Result<PathBuf> {
    let kernel = dom0::kernel(Flavour::Generic)?;
    let scratch = paths::Scratch::new("guests")?;
    let folder = scratch.path().join("files");
    std::fs::create_dir(&folder)?;
    let cache = paths::cache()?;
    let vmlinux = vmlinux(&kernel)?;
    let initrd = initramfs(&kernel)?;
    let fuzz = std::fs::read(test::guests::kernel("pv-fuzz")?)?;
    let examples = examples()?;
    let mut content = [&initrd[..], &fuzz].concat();
    for (name, bytes) in &examples {
        content.extend_from_slice(name.as_bytes());
        content.extend_from_slice(bytes);
    }
    let disk = cache.join("guests.img");
    let stamp = cache.join("guests.stamp");
    let is_made = process::is_fresh(&disk, &vmlinux)
        && std::fs::read(&stamp).is_ok_and(|made_of| made_of == content);
    if is_made {
        return Ok(disk);
    }
    std::fs::copy(&kernel.vmlinuz, folder.join("vmlinuz"))?;
    std::fs::copy(&vmlinux, folder.join("vmlinux"))?;
    std::fs::write(folder.join("initrd.img"), &initrd)?;
    std::fs::write(folder.join("pv-fuzz"), &fuzz)?;
    for (name, bytes) in &examples {
        std::fs::write(folder.join(name), bytes)?;
    }
    let part = scratch.path().join("disk");
    std::fs::File::create(&part)?.set_len(DISK_MIB << 20)?;
    setup::ensure(&[Need::Ext4])?;
    let tool = process::find_all("mkfs.ext4")
        .pop()
        .context("no mkfs.ext4")?;
    process::output(
        Command::new(tool)
            .args([
                "-q",
                "-F",
                "-m",
                "0",
                "-O",
                "^has_journal",
                "-L",
                SERIAL,
                "-d",
            ])
            .arg(&folder)
            .arg(&part),
    )?;
    std::fs::rename(&part, &disk).with_context(|| format!("cannot write {}", disk.display()))?;
    std::fs::write(&stamp, &content)?;
    Ok(disk)
}

/// The example guests' kernels and configurations, by their files' names.
fn examples() -> Result<Vec<(String, Vec<u8>)>> {
    let kernels = build::example_guests()?;
    let mut files = Vec::new();
    for name in build::EXAMPLE_GUESTS {
        let config = format!("{name}.cfg");
        let source = paths::root().join("pv-drivers/guests").join(name);
        for (file, name) in [
            (kernels.join(name), (*name).to_owned()),
            (source.join(&config), config),
        ] {
            let bytes =
                std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            files.push((name, bytes));
        }
    }
    let kernel = std::fs::read(tutorial::kernel()?)?;
    files.push((tutorial::NAME.to_owned(), kernel));
    let config = format!("{}.cfg", tutorial::NAME);
    files.push((config, tutorial::config().into_bytes()));
    Ok(files)
}

/// The ELF file in Debian's bzImage: creating a domain from it spares an emulated machine the ten
/// seconds of unpacking.
///
/// # Errors
/// When it cannot be unpacked or written.
pub fn vmlinux(kernel: &Kernel) -> Result<PathBuf> {
    let file = paths::cache()?.join(format!("vmlinux-{}", kernel.version));
    if process::is_fresh(&file, &kernel.vmlinuz) {
        return Ok(file);
    }
    let packed = std::fs::read(&kernel.vmlinuz)
        .with_context(|| format!("cannot read {}", kernel.vmlinuz.display()))?;
    let unpacked =
        unpack(&packed).map_err(|why| anyhow::anyhow!("{}: {why}", kernel.vmlinuz.display()))?;
    initramfs::write(&file, &unpacked)
}

fn unpack(file: &[u8]) -> Result<Vec<u8>, pv_image::Error> {
    match KernelFile::open(file)? {
        KernelFile::Plain(elf) => Ok(elf.to_vec()),
        KernelFile::Packed(packed) => {
            let mut elf = vec![0; packed.unpacked_size()];
            packed.unpack(&mut elf)?;
            Ok(elf)
        }
    }
}

/// The guest's userspace: busybox, its drivers, and the program that loads and checks devices.
fn initramfs(kernel: &Kernel) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    initramfs::add_ground(&mut archive, include_bytes!("userspace/guest-init.sh"))?;
    archive.file("bin/busy", 0o755, include_bytes!("userspace/guest-busy.sh"));
    // What the kernel calls when the toolstack asks for an end: /init is no init of busybox's.
    for end in ["poweroff", "reboot"] {
        let script = format!("#!/bin/sh\nsync\nexec busybox {end} -f\n");
        archive.file(&format!("bin/{end}"), 0o755, script.as_bytes());
    }
    initramfs::add_modules(&mut archive, kernel, &[("guest", DRIVERS)], &[])?;
    Ok(archive.finish())
}
