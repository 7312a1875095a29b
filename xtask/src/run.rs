//! `run`: the machine in an emulator, with a dom0 shell on the serial console, or a script.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::build::{self, Build};
use crate::dom0::{self, Flavour};
use crate::image::Stack;
use crate::machine::{self, Console, Machine};
use crate::serial::{self, Event, Outcome};
use crate::toolstack::Toolstack;
use crate::{guest, initramfs, paths};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    parts: Parts,
    #[command(flatten)]
    machine: Machine,
    /// Without a terminal: shows the console, or the script's output
    #[arg(long)]
    headless: bool,
    /// A shell script to run in dom0; its exit status becomes ours
    #[arg(long, value_name = "FILE", requires = "headless")]
    script: Option<PathBuf>,
    /// With --script, show the whole console
    #[arg(long, short)]
    verbose: bool,
    /// Seconds a headless machine may take; silence is failure
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
}

/// What is booted.
#[derive(clap::Args, Clone, Default)]
pub struct Parts {
    /// What lies below the kernel
    #[arg(long, value_enum, default_value = "oxen")]
    pub hypervisor: Hypervisor,
    /// dom0's kernel instead of Debian's
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// dom0's initramfs instead of ours
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,
    /// Which of Debian's kernels
    #[arg(long, value_enum, default_value = "generic")]
    pub flavour: Flavour,
    /// Tools with which dom0 creates domains, a disk with a guest's parts at `/guests`. Without this,
    /// an interactive machine of Debian's generic kernel has `ox`, and any other has none
    #[arg(long, value_enum)]
    pub toolstack: Option<Toolstack>,
    /// More of dom0's command line
    #[arg(
        long,
        value_name = "ARGS",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub append: String,
    /// More of the hypervisor's command line
    #[arg(
        long,
        value_name = "ARGS",
        default_value = "",
        allow_hyphen_values = true
    )]
    pub hv_append: String,
    /// The hypervisor with debug assertions and checks of overflow
    #[arg(long)]
    pub debug: bool,
    /// The hypervisor that measures how long interrupts are off: for `bench bounds`.
    #[arg(skip)]
    pub measured: bool,
    /// More of dom0's files, by their path: for scripts.
    #[arg(skip)]
    pub files: Vec<(String, Vec<u8>)>,
    /// More archives behind dom0's initramfs: for scripts.
    #[arg(skip)]
    pub archives: Vec<Vec<u8>>,
}

/// What lies below the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum)]
pub enum Hypervisor {
    /// This project's
    #[default]
    Oxen,
    /// Debian's Xen 4.17, to compare with
    Xen,
    /// Nothing: bare Linux
    None,
}

impl Hypervisor {
    /// Name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Oxen => "Oxen",
            Self::Xen => "Xen",
            Self::None => "Linux",
        }
    }
}

impl Parts {
    /// Gets every part, compiled or from the cache. A kernel of the caller's own gets an initramfs
    /// only when one is named or offered here.
    ///
    /// # Errors
    /// When a part cannot be had.
    pub fn stack(&self, initrd: Option<PathBuf>) -> Result<Stack> {
        let (packed, elf) = match self.hypervisor {
            Hypervisor::Oxen => {
                let file = build::hypervisor(self.build())?;
                (Some(file.clone()), Some(file))
            }
            Hypervisor::Xen => {
                let xen = dom0::xen()?;
                (Some(xen.packed), Some(xen.elf))
            }
            Hypervisor::None => (None, None),
        };
        let console = match self.hypervisor {
            Hypervisor::None => "console=ttyS0,115200",
            // Debian's cloud kernel is built without dom0's console driver: what it prints early
            // goes to the hypervisor's log, so that is kept, and /init writes there too.
            _ if self.flavour == Flavour::Cloud => {
                "console=hvc0 earlyprintk=xen,keep oxen_console=kmsg"
            }
            Hypervisor::Oxen | Hypervisor::Xen => "console=hvc0 earlyprintk=xen",
        };
        let own_initrd = initrd.or_else(|| self.initrd.clone());
        let (kernel, initrd) = match (&self.kernel, own_initrd) {
            (Some(kernel), initrd) => (kernel.clone(), initrd),
            (None, Some(initrd)) => (dom0::kernel(self.flavour)?.vmlinuz, Some(initrd)),
            (None, None) => {
                let kernel = dom0::kernel(self.flavour)?;
                let initrd = initramfs::build(self.flavour, &kernel, self.toolstack())?;
                (kernel.vmlinuz, Some(initrd))
            }
        };
        Ok(Stack {
            hypervisor: self.hypervisor,
            packed,
            elf,
            hv_args: joined(&self.hv_args(), &self.hv_append),
            kernel: std::path::absolute(kernel)?,
            kernel_args: joined(&format!("{console} panic=-1"), &self.append),
            initrd: initrd.map(std::path::absolute).transpose()?,
            guests: match self.toolstack() {
                Toolstack::None => None,
                Toolstack::Xl | Toolstack::Ox => Some(guest::disk()?),
            },
        })
    }

    fn build(&self) -> Build {
        match (self.debug, self.measured) {
            (true, _) => Build::Checked,
            (false, true) => Build::Measured,
            (false, false) => Build::Released,
        }
    }

    fn toolstack(&self) -> Toolstack {
        self.toolstack.unwrap_or(Toolstack::None)
    }

    /// The parts of an interactive machine: what we know can create guests, does.
    fn interactive(&self) -> Self {
        let ours = self.kernel.is_none()
            && self.initrd.is_none()
            && self.flavour == Flavour::Generic
            && self.hypervisor != Hypervisor::None;
        Self {
            toolstack: self.toolstack.or(ours.then_some(Toolstack::Ox)),
            ..self.clone()
        }
    }

    /// Our part of the hypervisor's command line. A dom0 that creates domains leaves them memory.
    fn hv_args(&self) -> String {
        let console = "com1=115200,8n1 console=com1";
        if self.toolstack() == Toolstack::None || self.hv_append.contains("dom0_mem=") {
            console.into()
        } else {
            format!("{console} dom0_mem=768M,max:768M")
        }
    }
}

fn joined(ours: &str, more: &str) -> String {
    format!("{ours} {more}").trim_end().to_owned()
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if !args.headless {
        let stack = args.parts.interactive().stack(None)?;
        let scratch = paths::Scratch::new("run")?;
        machine::interactive(&args.machine, &stack, scratch.path())?;
        return Ok(ExitCode::SUCCESS);
    }
    let script = match &args.script {
        Some(file) => {
            Some(std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?)
        }
        None => None,
    };
    let show_console = args.verbose || script.is_none();
    let timeout = Duration::from_secs(args.timeout);
    let outcome = headless(
        &args.parts,
        &args.machine,
        script.as_deref(),
        timeout,
        "run",
        |event| match event {
            Event::Script(line) => show(line),
            Event::Console(line) if show_console => show(line),
            Event::Console(_) => {}
        },
    )?;
    Ok(verdict(&outcome, script.is_some(), show_console))
}

/// Prints a line of the console. Whoever reads it may go away before the machine does.
fn show(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Boots without a terminal; with a script, it is put into the initramfs and run by `/init`.
///
/// # Errors
/// When a part cannot be had or the emulator cannot start.
pub fn headless(
    parts: &Parts,
    machine: &Machine,
    script: Option<&[u8]>,
    timeout: Duration,
    name: &str,
    observer: impl FnMut(Event<'_>),
) -> Result<Outcome> {
    let scratch = paths::Scratch::new(name)?;
    let mut stack = parts.stack(None)?;
    if let (Some(script), Some(initrd)) = (script, &stack.initrd) {
        let with_script = scratch.path().join("with-script.img");
        let mut files = vec![("script", 0o755, script)];
        let more = parts.files.iter();
        files.extend(more.map(|(name, content)| (name.as_str(), 0o644, content.as_slice())));
        initramfs::extended(initrd, &parts.archives, &files, &with_script)?;
        stack.initrd = Some(with_script);
    }
    let command = machine.command(&stack, scratch.path(), Console::Output)?;
    let log = machine::logs()?.join(format!("{name}.log"));
    let powered_off = |status| machine.powered_off(status, scratch.path());
    serial::watch(command, timeout, &log, powered_off, observer)
}

/// Our exit status for a headless machine, with the end of its console when it failed in silence.
fn verdict(outcome: &Outcome, scripted: bool, console_seen: bool) -> ExitCode {
    match outcome.status {
        Some(status) => ExitCode::from(u8::try_from(status).unwrap_or(1)),
        None if !scripted && outcome.powered_off => ExitCode::SUCCESS,
        None => {
            if !console_seen {
                let from = outcome.console.len().saturating_sub(40);
                for line in &outcome.console[from..] {
                    eprintln!("| {line}");
                }
            }
            let how = if outcome.powered_off {
                "ended"
            } else {
                "was stopped"
            };
            eprintln!(
                "xtask: the machine {how} after {:.0} s without a verdict; its console is in {}",
                outcome.took.as_secs_f64(),
                paths::shown(&outcome.log)
            );
            ExitCode::FAILURE
        }
    }
}
