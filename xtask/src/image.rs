//! `image`: the bootable ISO, for BIOS and UEFI, through GRUB.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::run::{Hypervisor, Parts};
use crate::setup::{self, Need};
use crate::{paths, process};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    parts: Parts,
    /// Where to write it
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let stack = args.parts.stack(None)?;
    let file = match &args.output {
        Some(file) => file.clone(),
        None => paths::cache()?.join("oxen.iso"),
    };
    write(&stack, Firmware::Both, &file)?;
    let shown = paths::shown(&file);
    println!("{shown} ({} MiB)", file.metadata()?.len() >> 20);
    println!("To put it on a disk or USB stick (which loses all it holds), as root:");
    println!("    dd if={shown} of=/dev/sdX bs=4M conv=fsync status=progress");
    println!("dom0's shell is on the first serial line (115200 baud, 8n1).");
    Ok(ExitCode::SUCCESS)
}

/// What is booted: files and command lines.
pub struct Stack {
    /// What lies below the kernel.
    pub hypervisor: Hypervisor,
    /// The hypervisor's file as GRUB loads it.
    pub packed: Option<PathBuf>,
    /// The hypervisor's ELF file.
    pub elf: Option<PathBuf>,
    /// The hypervisor's command line.
    pub hv_args: String,
    /// dom0's kernel.
    pub kernel: PathBuf,
    /// dom0's command line.
    pub kernel_args: String,
    /// dom0's initramfs, if any.
    pub initrd: Option<PathBuf>,
    /// The disk with what guests are made of, if dom0 is to create some.
    pub guests: Option<PathBuf>,
}

/// Which firmware an ISO is for; one alone is quicker to make.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// The PC's old one.
    Bios,
    /// UEFI, 64 bit.
    Uefi,
    /// One ISO for both.
    Both,
}

/// Writes an ISO that boots the stack.
///
/// # Errors
/// When a file cannot be read or GRUB's tool fails.
pub fn write(stack: &Stack, firmware: Firmware, to: &Path) -> Result<()> {
    setup::ensure(&[Need::Grub])?;
    let scratch = paths::Scratch::new("iso")?;
    let boot = scratch.path().join("boot");
    std::fs::create_dir_all(boot.join("grub"))?;
    let link = |file: &Path, name: &str| -> Result<()> {
        std::fs::copy(file, boot.join(name))
            .with_context(|| format!("cannot read {}", file.display()))
            .map(drop)
    };
    link(&stack.kernel, "vmlinuz")?;
    if let Some(initrd) = &stack.initrd {
        link(initrd, "initrd.img")?;
    }
    if let Some(hypervisor) = &stack.packed {
        link(hypervisor, "hypervisor")?;
    }
    std::fs::write(boot.join("grub/grub.cfg"), menu(stack))?;
    let mut grub = Command::new("grub-mkrescue");
    match firmware {
        Firmware::Bios => drop(grub.args(["-d", "/usr/lib/grub/i386-pc"])),
        Firmware::Uefi => drop(grub.args(["-d", "/usr/lib/grub/x86_64-efi"])),
        Firmware::Both => {}
    }
    grub.args(["--locales=", "--fonts=", "--themes=", "-o"])
        .arg(to)
        .arg(scratch.path());
    process::output(&mut grub).map(drop)
}

/// GRUB's configuration: one entry, started at once, visible on screen and serial line. On EFI GRUB has
/// no driver for the screen that it could pass on, unless it is told to load one.
fn menu(stack: &Stack) -> String {
    let load = match stack.hypervisor {
        Hypervisor::None => {
            let initrd = if stack.initrd.is_some() {
                "    initrd /boot/initrd.img\n"
            } else {
                ""
            };
            format!("    linux /boot/vmlinuz {}\n{initrd}", stack.kernel_args)
        }
        Hypervisor::Oxen | Hypervisor::Xen => {
            let initrd = if stack.initrd.is_some() {
                "    module2 /boot/initrd.img\n"
            } else {
                ""
            };
            format!(
                "    multiboot2 /boot/hypervisor {}\n    module2 /boot/vmlinuz {}\n{initrd}",
                stack.hv_args, stack.kernel_args
            )
        }
    };
    format!(
        "serial --unit=0 --speed=115200\n\
         terminal_input console serial\n\
         terminal_output console serial\n\
         if [ $grub_platform = efi ]; then insmod all_video; fi\n\
         set timeout=0\n\
         menuentry \"{}\" {{\n{load}}}\n",
        stack.hypervisor.name()
    )
}
