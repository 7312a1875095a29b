//! The machine: what it is made of, and the emulator that plays it.
//!
//! Each emulator has a file with one function that makes a command out of a [`Machine`]; what it
//! cannot do it refuses by name.

pub mod bochs;
mod qemu;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

use crate::image::Stack;
use crate::{paths, process, serial};

/// Who plays the machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Emulator {
    /// QEMU without KVM: the quick one, with many devices
    #[default]
    Qemu,
    /// Bochs: slower and stricter, with CPU features that QEMU lacks
    Bochs,
}

/// Where the machine's serial line goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Console {
    /// To and from this terminal.
    Terminal,
    /// To the command's standard output.
    Output,
    /// Nowhere: the machine has none, and is looked at.
    None,
}

/// The machine's parts, as the command line has them.
#[derive(clap::Args, Clone)]
pub struct Machine {
    /// Who plays the machine
    #[arg(long, value_enum, default_value = "qemu")]
    pub emulator: Emulator,
    /// Number of CPUs
    #[arg(long, default_value_t = 2)]
    pub smp: u32,
    /// Memory: `512M`, `4G`
    #[arg(long, default_value = "2G")]
    pub memory: String,
    /// The emulator's CPU model [default: Haswell-noTSX; with Bochs corei7_haswell_4770]
    #[arg(long)]
    pub cpu: Option<String>,
    /// QEMU's machine type (`pc`, `q35`) [default: q35]
    #[arg(long)]
    pub machine: Option<String>,
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
            emulator: Emulator::default(),
            smp: 2,
            memory: "2G".into(),
            cpu: None,
            machine: None,
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
    /// A command that boots the stack on this machine. Files it needs are written to `scratch`,
    /// which must outlive the machine.
    ///
    /// # Errors
    /// When a part is missing or unknown, or the emulator cannot do what is asked for.
    pub fn command(&self, stack: &Stack, scratch: &Path, console: Console) -> Result<Command> {
        match self.emulator {
            Emulator::Qemu => qemu::command(self, stack, scratch, console),
            Emulator::Bochs => bochs::command(self, stack, scratch, console),
        }
    }

    /// Whether a machine whose emulator has ended powered itself off, as it should.
    pub fn powered_off(&self, status: ExitStatus, scratch: &Path) -> bool {
        match self.emulator {
            Emulator::Qemu => status.success(),
            Emulator::Bochs => bochs::powered_off(scratch),
        }
    }
}

/// Starts an interactive machine on this terminal and waits for its end.
///
/// # Errors
/// When the emulator cannot start or ends with a failure.
pub fn interactive(machine: &Machine, stack: &Stack, scratch: &Path) -> Result<()> {
    let mut command = machine.command(stack, scratch, Console::Terminal)?;
    let way_out = match machine.emulator {
        Emulator::Qemu => "Ctrl-A X ends it",
        Emulator::Bochs => "`poweroff -f` in dom0 ends it",
    };
    eprintln!("xtask: starting the machine ({way_out})");
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", process::shown(&command)))?;
    serial::filter_warnings(child.stderr.take());
    let status = child.wait()?;
    if !machine.powered_off(status, scratch) {
        bail!("the emulator ended with {status}");
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
