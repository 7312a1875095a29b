//! QEMU's command line for what is to be booted.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::image::{self, Firmware, Stack};
use crate::setup::{self, Need};
use crate::{guest, process};

use super::{Console, Machine};

/// CPU model when none is named.
const CPU: &str = "Haswell-noTSX";

/// A command that boots the stack; see [`Machine::command`].
///
/// # Errors
/// When a part is missing or unknown.
pub fn command(
    machine: &Machine,
    stack: &Stack,
    scratch: &Path,
    console: Console,
) -> Result<Command> {
    setup::ensure(&[Need::Qemu])?;
    let mut qemu = Command::new(match &machine.qemu {
        Some(path) => path.clone(),
        None => newest()?,
    });
    qemu.current_dir(scratch);
    qemu.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-accel",
        "tcg",
    ]);
    let kind = machine.machine.as_deref().unwrap_or("q35");
    let cpu = machine.cpu.as_deref().unwrap_or(CPU);
    qemu.args(["-machine", kind, "-cpu", cpu]);
    qemu.args(["-m", &machine.memory, "-smp", &machine.smp.to_string()]);
    qemu.args(["-vga", "std", "-display", "none"]);
    match console {
        Console::Terminal => qemu.args(["-serial", "mon:stdio"]),
        // The monitor is to ask a machine that hangs.
        Console::Output => qemu.args([
            "-serial",
            "stdio",
            "-monitor",
            "unix:monitor,server=on,wait=off",
        ]),
        Console::None => qemu.args([
            "-serial",
            "null",
            "-monitor",
            "unix:monitor,server=on,wait=off",
        ]),
    };
    add_devices(&mut qemu, machine, stack)?;
    if machine.icount {
        qemu.args(["-icount", "shift=0,sleep=off"]);
    }
    if machine.gdb {
        qemu.args(["-gdb", "tcp::1234", "-S"]);
    }
    add_firmware(&mut qemu, machine, stack, scratch)?;
    qemu.args(&machine.qemu_arg);
    Ok(qemu)
}

/// Disks and the network card.
fn add_devices(qemu: &mut Command, machine: &Machine, stack: &Stack) -> Result<()> {
    for (number, disk) in machine.disk.iter().enumerate() {
        add_disk(qemu, number, disk)?;
    }
    if let Some(guests) = &stack.guests {
        add_guests_disk(qemu, guests);
    }
    if let Some(card) = &machine.nic {
        let model = match card.as_str() {
            "virtio" => "virtio-net-pci",
            "e1000" => "e1000",
            other => bail!("unknown network card `{other}` (virtio, e1000)"),
        };
        qemu.args([
            "-netdev",
            "user,id=net0",
            "-device",
            &format!("{model},netdev=net0,romfile="),
        ]);
    }
    Ok(())
}

/// What loads the stack: BIOS or UEFI and GRUB, or QEMU itself.
fn add_firmware(
    qemu: &mut Command,
    machine: &Machine,
    stack: &Stack,
    scratch: &Path,
) -> Result<()> {
    let mut firmware = Firmware::Bios;
    if machine.uefi {
        setup::ensure(&[Need::Uefi])?;
        qemu.args(["-bios", "/usr/share/ovmf/OVMF.fd"]);
        firmware = Firmware::Uefi;
    }
    if machine.direct {
        return add_direct(qemu, stack, scratch);
    }
    image::write(stack, firmware, &scratch.join("boot.iso"))?;
    qemu.args(["-cdrom", "boot.iso", "-boot", "d"]);
    Ok(())
}

/// Boots by QEMU's own loader. It splits the list of modules at commas and each module's name from
/// its arguments at the first space, so the files get plain names in the scratch folder.
fn add_direct(qemu: &mut Command, stack: &Stack, scratch: &Path) -> Result<()> {
    let place = |file: &Path, name: &str| -> Result<()> {
        std::fs::copy(file, scratch.join(name))
            .with_context(|| format!("cannot read {}", file.display()))
            .map(drop)
    };
    place(&stack.kernel, "vmlinuz")?;
    if let Some(initrd) = &stack.initrd {
        place(initrd, "initrd.img")?;
    }
    if let Some(elf) = &stack.elf {
        place(elf, "hypervisor")?;
        let mut modules = format!("vmlinuz {}", stack.kernel_args).replace(',', ",,");
        if stack.initrd.is_some() {
            modules.push_str(",initrd.img");
        }
        qemu.args([
            "-kernel",
            "hypervisor",
            "-append",
            &stack.hv_args,
            "-initrd",
            &modules,
        ]);
    } else {
        qemu.args(["-kernel", "vmlinuz", "-append", &stack.kernel_args]);
        if stack.initrd.is_some() {
            qemu.args(["-initrd", "initrd.img"]);
        }
    }
    Ok(())
}

fn add_disk(qemu: &mut Command, number: usize, disk: &str) -> Result<()> {
    let (file, bus) = disk.rsplit_once(',').unwrap_or((disk, "virtio"));
    let file = std::path::absolute(file)?;
    let drive = format!(
        "file={},if=none,id=disk{number},format=raw",
        file.display().to_string().replace(',', ",,")
    );
    qemu.args(["-drive", &drive]);
    let devices = match bus {
        "virtio" => vec![format!("virtio-blk-pci,drive=disk{number}")],
        "nvme" => vec![format!("nvme,drive=disk{number},serial=oxen{number}")],
        "ahci" => vec![
            format!("ich9-ahci,id=ahci{number}"),
            format!("ide-hd,drive=disk{number},bus=ahci{number}.0"),
        ],
        other => bail!("unknown disk bus `{other}` (virtio, ahci, nvme)"),
    };
    for device in devices {
        qemu.args(["-device", &device]);
    }
    Ok(())
}

/// The disk dom0 knows by its serial number. What is written to it is forgotten.
fn add_guests_disk(qemu: &mut Command, file: &Path) {
    let drive = format!(
        "file={},if=none,id=guests,format=raw,snapshot=on",
        file.display().to_string().replace(',', ",,")
    );
    let device = format!("virtio-blk-pci,drive=guests,serial={}", guest::SERIAL);
    qemu.args(["-drive", &drive, "-device", &device]);
}

/// The newest QEMU installed.
fn newest() -> Result<PathBuf> {
    let mut found = process::find_all("qemu-system-x86_64");
    if found.len() > 1 {
        found.sort_by_cached_key(|path| version(path));
    }
    found.pop().context("no qemu-system-x86_64 found")
}

/// `QEMU emulator version 7.2.22 (Debian ...)` as numbers.
fn version(qemu: &Path) -> Vec<u32> {
    let text = process::output(Command::new(qemu).arg("--version")).unwrap_or_default();
    let number = text.split_whitespace().nth(3).unwrap_or_default();
    number
        .split('.')
        .filter_map(|part| part.parse().ok())
        .collect()
}
