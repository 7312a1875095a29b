//! The command line: verbs with `xl`'s names and order of arguments.

mod devices;
mod share;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{DomainName, SnapshotName};

pub use devices::{BlockAttach, BlockDetach, NetworkAttach, NetworkDetach};
pub use share::{Cpus, MemSet, SchedCredit, VcpuPin, VcpuSet, WhichVcpu};

/// Runs and looks after guests of Oxen or Xen.
#[derive(Debug, Parser)]
#[command(
    name = "ox",
    version,
    about = "Runs and looks after guests of Oxen or Xen",
    after_help = "A DOMAIN is a name or an id as `ox list` shows them. \
                  `ox VERB --help` says more; so do `man ox` and docs/ox.md.",
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Ox {
    /// Print JSON instead of tables, errors too
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// Everything `ox` does.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a domain from a configuration file
    Create(Create),
    /// End a domain at once, as by pulling its plug
    Destroy(Destroy),
    /// Ask a domain to power off
    Shutdown(Shutdown),
    /// Ask a domain to reboot
    Reboot(Shutdown),
    /// Stop a domain's vCPUs where they are
    Pause(One),
    /// Let a paused domain go on
    Unpause(One),
    /// Write a running domain into a file
    Save(Save),
    /// Bring a domain back from a file
    Restore(Restore),
    /// Write a domain's memory and registers into a file for debuggers
    DumpCore(DumpCore),
    /// List domains
    #[command(alias = "ls")]
    List(List),
    /// Tell about the host and its hypervisor
    Info,
    /// Attach to a domain's console; Ctrl-] leaves
    Console(Console),
    /// Print the hypervisor's messages
    Dmesg(Dmesg),
    /// Show what domains use, again and again
    Top(Top),
    /// List vCPUs and where they may run
    VcpuList(Some_),
    /// Set on which CPUs a vCPU may run
    VcpuPin(VcpuPin),
    /// Set how many vCPUs a domain uses
    VcpuSet(VcpuSet),
    /// Set how much memory a domain uses
    MemSet(MemSet),
    /// Set how much memory a domain may have at most
    MemMax(MemSet),
    /// Show or set the credit scheduler's weight and cap
    SchedCredit(SchedCredit),
    /// Give a domain another name
    Rename(Rename),
    /// Print the id of a domain
    Domid(Named),
    /// Print the name of a domain
    Domname(Numbered),
    /// Show how long domains have been running
    Uptime(Uptime),
    /// Send a magic system request to a domain's kernel
    Sysrq(Sysrq),
    /// Send a trigger to a domain
    Trigger(Trigger),
    /// Give a domain one more disk
    BlockAttach(BlockAttach),
    /// Take a disk away from a domain
    BlockDetach(BlockDetach),
    /// List domains' disks
    BlockList(Several),
    /// Give a domain one more network card
    NetworkAttach(NetworkAttach),
    /// Take a network card away from a domain
    NetworkDetach(NetworkDetach),
    /// List domains' network cards
    NetworkList(Several),
    /// Check a configuration file, without a hypervisor
    ConfigCheck(ConfigCheck),
    /// Show what happens to domains
    Events(Events),
    /// Show what a domain printed on its console
    Logs(Logs),
    /// Keep, list, go back to and forget states of a domain
    Snapshot(Snapshot),
    /// Show the hypervisor's record of privileged operations
    Audit(Audit),
    /// Print completions for a shell
    Completions(Completions),
    /// Print a manual page, or write all of them into a folder
    Man(Man),
}

/// One domain.
#[derive(Debug, Args)]
pub struct One {
    /// Name or id
    pub domain: String,
}

/// Any number of domains, none for all.
#[derive(Debug, Args)]
pub struct Some_ {
    /// Names or ids; all domains if none is given
    #[arg(value_name = "DOMAIN")]
    pub domains: Vec<String>,
}

/// At least one domain.
#[derive(Debug, Args)]
pub struct Several {
    /// Names or ids
    #[arg(value_name = "DOMAIN", required = true)]
    pub domains: Vec<String>,
}

/// `create`
#[derive(Debug, Args)]
pub struct Create {
    /// Configuration, in xl.cfg's form or (`*.toml`) in TOML
    pub file: PathBuf,
    /// Settings that count after those of the file, such as 'memory=512'
    #[arg(value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Leave it paused
    #[arg(short, long)]
    pub paused: bool,
    /// Attach to its console
    #[arg(short, long)]
    pub console: bool,
    /// Only check and print the configuration
    #[arg(short = 'n', long = "dryrun")]
    pub dry_run: bool,
    /// Print nothing if it goes well
    #[arg(short, long)]
    pub quiet: bool,
}

/// `destroy`
#[derive(Debug, Args)]
pub struct Destroy {
    /// Name or id
    pub domain: String,
    /// Even Domain-0, which ends the machine (refused: kept for xl's habits)
    #[arg(short, hide = true)]
    pub force: bool,
}

/// `shutdown` and `reboot`
#[derive(Debug, Args)]
pub struct Shutdown {
    /// Name or id
    #[arg(required_unless_present = "all")]
    pub domain: Option<String>,
    /// All guests
    #[arg(short, long, conflicts_with = "domain")]
    pub all: bool,
    /// Return when it has ended
    #[arg(short, long)]
    pub wait: bool,
    /// Send an ACPI event if the guest has no PV drivers (for HVM guests: no effect)
    #[arg(short = 'F', hide = true)]
    pub fallback: bool,
}

/// `save`
#[derive(Debug, Args)]
pub struct Save {
    /// Name or id
    pub domain: String,
    /// File to write
    pub file: PathBuf,
    /// Let it go on afterwards
    #[arg(short, long)]
    pub checkpoint: bool,
    /// Leave it paused afterwards
    #[arg(short, long, conflicts_with = "checkpoint")]
    pub paused: bool,
}

/// `restore`
#[derive(Debug, Args)]
pub struct Restore {
    /// File that `save` wrote; before it a configuration that takes the place of the saved one
    #[arg(value_name = "[CONFIG] FILE", required = true, num_args = 1..=2)]
    pub files: Vec<PathBuf>,
    /// Leave it paused
    #[arg(short, long)]
    pub paused: bool,
    /// Attach to its console
    #[arg(short, long)]
    pub console: bool,
}

/// `dump-core`
#[derive(Debug, Args)]
#[command(
    after_help = "The file has the format of xl's and libxc's dumps: an ELF file of sections, \
                        as crash reads it. A running domain goes on meanwhile: `ox pause` it for \
                        the picture of one moment. on_crash = \"coredump-destroy\" and \
                        \"coredump-restart\" write such files by themselves, into the folder that \
                        `oxd --dump-folder` names."
)]
pub struct DumpCore {
    /// Name or id
    pub domain: String,
    /// File to write
    pub file: PathBuf,
}

/// `list`
#[derive(Debug, Args)]
pub struct List {
    /// Names or ids; all domains if none is given
    #[arg(value_name = "DOMAIN")]
    pub domains: Vec<String>,
    /// All that is known, as JSON (like xl list -l)
    #[arg(short, long)]
    pub long: bool,
    /// UUID and shutdown reason too
    #[arg(short, long)]
    pub verbose: bool,
    /// CPU pool too
    #[arg(short, long)]
    pub cpupool: bool,
}

/// `console`
#[derive(Debug, Args)]
pub struct Console {
    /// Name or id
    pub domain: String,
    /// Kind of console
    #[arg(short, value_name = "TYPE", default_value = "pv", value_parser = ["pv"], hide = true)]
    pub kind: String,
    /// Number of the console
    #[arg(short, value_name = "NUMBER", default_value_t = 0)]
    pub number: u32,
}

/// `dmesg`
#[derive(Debug, Args)]
pub struct Dmesg {
    /// Clear the messages after printing them
    #[arg(short, long)]
    pub clear: bool,
}

/// `top`
#[derive(Debug, Args)]
pub struct Top {
    /// Print once, without taking over the terminal; the same as -n 1 -b
    #[arg(long)]
    pub once: bool,
    /// Print table after table, without taking over the terminal
    #[arg(short, long)]
    pub batch: bool,
    /// Stop after so many
    #[arg(short = 'n', short_alias = 'i', long, value_name = "COUNT")]
    pub iterations: Option<u64>,
    /// Seconds between two
    #[arg(short, long, value_name = "SECONDS", default_value_t = 3.0, value_parser = delay)]
    pub delay: f64,
}

fn delay(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("0.1 to 3600 seconds are allowed".into()),
    }
}

/// `rename`
#[derive(Debug, Args)]
pub struct Rename {
    /// Name or id
    pub domain: String,
    /// Its new name
    pub name: DomainName,
}

/// `domid`
#[derive(Debug, Args)]
pub struct Named {
    /// Name
    pub domain: String,
}

/// `domname`
#[derive(Debug, Args)]
pub struct Numbered {
    /// Id
    pub id: u16,
}

/// `uptime`
#[derive(Debug, Args)]
pub struct Uptime {
    /// Names or ids; all domains if none is given
    #[arg(value_name = "DOMAIN")]
    pub domains: Vec<String>,
    /// Without a headline
    #[arg(short, long)]
    pub short: bool,
}

/// `sysrq`
#[derive(Debug, Args)]
pub struct Sysrq {
    /// Name or id
    pub domain: String,
    /// Letter of the request, as `t` for a list of tasks
    #[arg(value_parser = letter)]
    pub letter: char,
}

fn letter(text: &str) -> Result<char, String> {
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(letter), None) if letter.is_ascii_alphanumeric() => Ok(letter),
        _ => Err("one letter or digit".into()),
    }
}

/// `trigger`
#[derive(Debug, Args)]
pub struct Trigger {
    /// Name or id
    pub domain: String,
    /// What is sent (PV guests know `nmi`)
    pub kind: TriggerKind,
    /// Number of the vCPU
    #[arg(default_value_t = 0)]
    pub vcpu: u32,
}

/// Triggers that `xl` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TriggerKind {
    /// Non-maskable interrupt
    Nmi,
    /// Reset button
    Reset,
    /// INIT signal
    Init,
    /// Power button
    Power,
    /// Sleep button
    Sleep,
    /// Wake from S3
    S3resume,
}

impl TriggerKind {
    /// `XEN_DOMCTL_SENDTRIGGER_*`.
    pub const fn number(self) -> u32 {
        match self {
            Self::Nmi => 0,
            Self::Reset => 1,
            Self::Init => 2,
            Self::Power => 3,
            Self::Sleep => 4,
            Self::S3resume => 5,
        }
    }
}

/// `config-check`
#[derive(Debug, Args)]
pub struct ConfigCheck {
    /// Configuration, in xl.cfg's form or (`*.toml`) in TOML
    pub file: PathBuf,
    /// Settings that count after those of the file
    #[arg(value_name = "KEY=VALUE")]
    pub settings: Vec<String>,
    /// Print it as TOML
    #[arg(long)]
    pub toml: bool,
    /// Fail on warnings too
    #[arg(long)]
    pub strict: bool,
}

/// `events`
#[derive(Debug, Args)]
pub struct Events {
    /// Name or id; all domains if none is given
    pub domain: Option<String>,
    /// Wait for more
    #[arg(short, long)]
    pub follow: bool,
}

/// `logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// Name (of a domain that may be gone) or id
    pub domain: String,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub lines: Option<usize>,
    /// Wait for more
    #[arg(short, long)]
    pub follow: bool,
}

/// `snapshot`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Snapshot {
    /// What to do; `ox snapshot DOMAIN NAME` creates
    #[command(subcommand)]
    pub verb: Option<SnapshotVerb>,
    /// Name or id
    #[arg(required = true)]
    pub domain: Option<String>,
    /// Name of the snapshot
    #[arg(required = true)]
    pub name: Option<SnapshotName>,
}

/// What to do with snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotVerb {
    /// Keep memory and disks of a running domain under a name
    Create(SnapshotOne),
    /// List snapshots
    List(SnapshotList),
    /// Go back: the domain continues as it was then
    Revert(SnapshotOne),
    /// Forget a snapshot
    Delete(SnapshotOne),
}

/// One snapshot.
#[derive(Debug, Args)]
pub struct SnapshotOne {
    /// Name or id of the domain
    pub domain: String,
    /// Name of the snapshot
    pub name: SnapshotName,
}

/// `snapshot list`
#[derive(Debug, Args)]
pub struct SnapshotList {
    /// Name or id; all domains if none is given
    pub domain: Option<String>,
}

/// `audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// Only the last so many records
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub last: Option<usize>,
}

/// `completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    pub shell: clap_complete::Shell,
}

/// `man`
#[derive(Debug, Args)]
pub struct Man {
    /// The page of this verb; that of `ox` itself if none is given
    pub verb: Option<String>,
    /// Write all pages into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "verb")]
    pub dir: Option<PathBuf>,
}
