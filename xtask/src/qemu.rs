//! The machine: QEMU's command line for what is to be booted.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::image::{self, Firmware, Stack};
use crate::setup::{self, Need};
use crate::{guest, paths, process};

/// The machine's parts, as the command line has them.
#[derive(clap::Args, Clone)]
pub struct Machine {
    /// Number of CPUs
    #[arg(long, default_value_t = 2)]
    pub smp: u32,
    /// Memory, in QEMU's spelling (`512M`, `4G`)
    #[arg(long, default_value = "2G")]
    pub memory: String,
    /// QEMU's CPU model
    #[arg(long, default_value = "Haswell-noTSX")]
    pub cpu: String,
    /// QEMU's machine type (`pc`, `q35`)
    #[arg(long, default_value = "q35")]
    pub machine: String,
    /// A disk image: FILE, or FILE,virtio FILE,ahci FILE,nvme (repeatable)
    #[arg(long, value_name = "FILE[,BUS]")]
    pub disk: Vec<String>,
    /// A network card on QEMU's user-mode network: `virtio` or `e1000`
    #[arg(long, value_name = "CARD", num_args = 0..=1, default_missing_value = "virtio")]
    pub nic: Option<String>,
    /// UEFI firmware instead of BIOS
    #[arg(long)]
    pub uefi: bool,
    /// QEMU's own loader instead of GRUB: ten seconds quicker
    #[arg(long)]
    pub direct: bool,
    /// Let the guest's clock count instructions (repeatable timing; one host thread)
    #[arg(long)]
    pub icount: bool,
    /// Wait for GDB on TCP port 1234
    #[arg(long)]
    pub gdb: bool,
    /// The QEMU to use instead of the newest installed
    #[arg(long, value_name = "PATH", env = "OXEN_QEMU")]
    pub qemu: Option<PathBuf>,
    /// One more argument for QEMU (repeatable)
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub qemu_arg: Vec<String>,
}

impl Default for Machine {
    /// The machine `cargo xtask run` boots when nothing else is asked for.
    fn default() -> Self {
        Self {
            smp: 2,
            memory: "2G".into(),
            cpu: "Haswell-noTSX".into(),
            machine: "q35".into(),
            disk: Vec::new(),
            nic: None,
            uefi: false,
            direct: false,
            icount: false,
            gdb: false,
            qemu: std::env::var_os("OXEN_QEMU").map(PathBuf::from),
            qemu_arg: Vec::new(),
        }
    }
}

impl Machine {
    /// A command that boots the stack on this machine, without its streams. Files it needs are
    /// written to `scratch`, which must outlive the machine.
    ///
    /// # Errors
    /// When a part is missing or unknown.
    pub fn command(&self, stack: &Stack, scratch: &Path) -> Result<Command> {
        setup::ensure(&[Need::Qemu])?;
        let mut qemu = Command::new(match &self.qemu {
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
        qemu.args(["-machine", &self.machine, "-cpu", &self.cpu]);
        qemu.args(["-m", &self.memory, "-smp", &self.smp.to_string()]);
        qemu.args(["-vga", "std"]);
        for (number, disk) in self.disk.iter().enumerate() {
            add_disk(&mut qemu, number, disk)?;
        }
        if let Some(guests) = &stack.guests {
            add_guests_disk(&mut qemu, guests);
        }
        if let Some(card) = &self.nic {
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
        if self.icount {
            qemu.args(["-icount", "shift=0,sleep=off"]);
        }
        if self.gdb {
            qemu.args(["-gdb", "tcp::1234", "-S"]);
        }
        if self.uefi {
            setup::ensure(&[Need::Uefi])?;
            qemu.args(["-bios", "/usr/share/ovmf/OVMF.fd"]);
        }
        if self.direct {
            add_direct(&mut qemu, stack, scratch)?;
        } else {
            let firmware = if self.uefi {
                Firmware::Uefi
            } else {
                Firmware::Bios
            };
            image::write(stack, firmware, &scratch.join("boot.iso"))?;
            qemu.args(["-cdrom", "boot.iso", "-boot", "d"]);
        }
        qemu.args(&self.qemu_arg);
        Ok(qemu)
    }
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

/// Starts an interactive machine on this terminal and waits for its end.
///
/// # Errors
/// When QEMU cannot start or ends with a failure.
pub fn interactive(mut qemu: Command) -> Result<()> {
    qemu.args(["-display", "none", "-serial", "mon:stdio"]);
    let mut child = qemu
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start QEMU")?;
    crate::serial::filter_warnings(child.stderr.take());
    let status = child.wait()?;
    if !status.success() {
        bail!("QEMU ended with {status}");
    }
    Ok(())
}

/// A folder for the console logs of headless machines.
///
/// # Errors
/// When it cannot be created.
pub fn logs() -> Result<PathBuf> {
    paths::cache_dir("logs")
}
