//! Guests: the matrix {Debian's Xen 4.17, Oxen} x {Debian's `xl`, `ox`}, and heavier scenarios on one
//! of its cells. What happens in dom0 is a shell script of the scenario's name beside this file.

use std::fmt::Write;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::boots::{DMESG, succeeded};
use super::report::Report;
use crate::dom0::Flavour;
use crate::initramfs;
use crate::machine::Machine;
use crate::paths;
use crate::run::{self, Hypervisor, Parts};
use crate::serial::{Event, Outcome};
use crate::toolstack::Toolstack;

/// Options of the part `domains`.
#[derive(clap::Args, Clone)]
pub struct Options {
    /// What the guests go through
    #[arg(long, value_enum, default_value = "matrix")]
    scenario: Scenario,
    /// Whose tools: of the matrix only their cells, of other scenarios instead of `ox`
    #[arg(long, value_enum)]
    toolstack: Option<Toolstack>,
    /// Rounds of a scenario, guests of `eight` and `crowd`, or kills of `rust-guests`
    #[arg(long, value_name = "NUMBER")]
    count: Option<u32>,
    /// MiB that each guest of `eight` writes to its disk
    #[arg(long, value_name = "MIB", default_value_t = 128)]
    mib: u32,
    /// Physical CPUs of the machine
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    smp: u32,
    /// Writes docs/matrix.md from what the matrix found, and docs/bounds.md from what `bounds` measured
    #[arg(long)]
    pub write_docs: bool,
    /// Shows what scripts in dom0 say
    #[arg(long)]
    show: bool,
}

/// What the guests go through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum Scenario {
    /// A Linux guest, from its making to its end, and guests in Rust, in every cell
    Matrix,
    /// Eight guests at once, with disks and cards at work, CPUs and memory changed
    Eight,
    /// A guest made and destroyed 200 times, tools killed
    Churn,
    /// A busy guest saved and restored 50 times, damaged files
    Save,
    /// A busy guest saved by one cell and restored by another, each pair of hypervisors and toolstacks
    Cross,
    /// A guest that reboots, crashes and powers off, by each policy
    Policies,
    /// A million random hypercalls, rings and page tables full of nonsense
    Fuzz,
    /// The example guests of pv-drivers, by `xl` on Xen and by `ox` on Oxen
    RustGuests,
    /// 200 small Rust guests at once, in a machine of 8 GiB
    Crowd,
    /// A driver domain serves guests and is destroyed under them, by `xl` on Xen and by `ox` on Oxen
    DriverDomain,
    /// Disks and cards of every kind come and go, mistakes among them, and `oxd` is killed meanwhile
    Hotplug,
    /// Guests made and destroyed while allocations of the hypervisor fail (`alloc-fail=`)
    Shortage,
}

impl Scenario {
    fn name(self) -> &'static str {
        match self {
            Self::Matrix => "matrix",
            Self::Eight => "eight",
            Self::Churn => "churn",
            Self::Save => "save",
            Self::Cross => "cross",
            Self::Policies => "policies",
            Self::Fuzz => "fuzz",
            Self::RustGuests => "rust-guests",
            Self::Crowd => "crowd",
            Self::DriverDomain => "driver-domain",
            Self::Hotplug => "hotplug",
            Self::Shortage => "shortage",
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::Matrix => concat!(
                include_str!("domains/examples.sh"),
                include_str!("domains/matrix.sh")
            ),
            Self::Eight => include_str!("domains/eight.sh"),
            Self::Churn => include_str!("domains/churn.sh"),
            Self::Save => include_str!("domains/save.sh"),
            Self::Cross => include_str!("domains/cross.sh"),
            Self::Policies => include_str!("domains/policies.sh"),
            Self::Fuzz => include_str!("domains/fuzz.sh"),
            Self::RustGuests => concat!(
                include_str!("domains/examples.sh"),
                include_str!("domains/rust-guests.sh")
            ),
            Self::Crowd => concat!(
                include_str!("domains/examples.sh"),
                include_str!("domains/crowd.sh")
            ),
            Self::DriverDomain => concat!(
                include_str!("domains/examples.sh"),
                include_str!("domains/driver-domain.sh")
            ),
            Self::Shortage => include_str!("domains/shortage.sh"),
            Self::Hotplug => concat!(
                include_str!("domains/hotplug-disks.sh"),
                include_str!("domains/hotplug-cards.sh")
            ),
        }
    }

    /// Rounds or guests, when none are asked for.
    fn count(self) -> u32 {
        match self {
            Self::Matrix | Self::Cross | Self::Policies | Self::DriverDomain | Self::Hotplug => 1,
            Self::RustGuests => 5,
            Self::Shortage => 40,
            Self::Eight => 8,
            Self::Churn | Self::Crowd => 200,
            Self::Save => 50,
            Self::Fuzz => 100,
        }
    }

    /// Memory of its machine, as QEMU takes it.
    fn memory(self) -> &'static str {
        match self {
            Self::Crowd => "8G",
            _ => "3G",
        }
    }

    /// Longest time its machine may take.
    fn timeout(self, count: u32) -> Duration {
        Duration::from_secs(600 + 300 * u64::from(count))
    }
}

/// A cell of the matrix.
type Cell = (Hypervisor, Toolstack);

/// The cells, in the table's order.
const CELLS: [Cell; 4] = [
    (Hypervisor::Xen, Toolstack::Xl),
    (Hypervisor::Xen, Toolstack::Ox),
    (Hypervisor::Oxen, Toolstack::Xl),
    (Hypervisor::Oxen, Toolstack::Ox),
];

/// Who saves and who restores: other tools on another hypervisor.
const MOVES: [(Cell, Cell); 4] = [
    (CELLS[0], CELLS[3]),
    (CELLS[3], CELLS[0]),
    (CELLS[1], CELLS[2]),
    (CELLS[2], CELLS[1]),
];

/// MiB for a guest's disk and its saved state.
const LUGGAGE_MIB: u64 = 512;

/// The cells that example guests run in.
const OWN_CELLS: [Cell; 2] = [
    (Hypervisor::Xen, Toolstack::Xl),
    (Hypervisor::Oxen, Toolstack::Ox),
];

/// dom0's memory. The machine has three times as much, or more.
const DOM0_MEMORY: &str = "dom0_mem=1G,max:1G";

pub fn run(report: &mut Report, on: Option<Hypervisor>, options: &Options) {
    match options.scenario {
        Scenario::Matrix => matrix(report, on, options),
        Scenario::Cross => cross(report, on, options),
        scenario @ (Scenario::RustGuests | Scenario::DriverDomain) => {
            for cell in asked(&OWN_CELLS, on, options) {
                let name = format!("{}: {}", scenario.name(), shown(cell));
                let play = Play::new(cell, scenario, options);
                report.test(&name, || play.run(options.show));
            }
        }
        scenario => {
            let cell = (
                on.unwrap_or_default(),
                options.toolstack.unwrap_or(Toolstack::Ox),
            );
            let name = format!("{}: {}", scenario.name(), shown(cell));
            let play = Play::new(cell, scenario, options);
            report.test(&name, || play.run(options.show));
        }
    }
}

/// Of these cells those that the options leave.
fn asked(cells: &[Cell], on: Option<Hypervisor>, options: &Options) -> Vec<Cell> {
    let asked = |cell: &&Cell| {
        on.is_none_or(|on| on == cell.0) && options.toolstack.is_none_or(|tools| tools == cell.1)
    };
    cells.iter().filter(asked).copied().collect()
}

fn matrix(report: &mut Report, on: Option<Hypervisor>, options: &Options) {
    let mut verdicts = Vec::new();
    for cell in asked(&CELLS, on, options) {
        let mut verdict = None;
        report.test(&format!("a guest by {}", shown(cell)), || {
            let start = Instant::now();
            Play::new(cell, Scenario::Matrix, options).run(options.show)?;
            verdict = Some(start.elapsed());
            Ok(())
        });
        verdicts.push(verdict);
    }
    if options.write_docs {
        report.test("docs/matrix.md", || {
            ensure!(
                verdicts.len() == CELLS.len(),
                "not every cell was asked for"
            );
            let file = paths::root().join("docs/matrix.md");
            initramfs::write(&file, document(&verdicts).as_bytes()).map(drop)
        });
    }
}

/// `--on` and `--toolstack` say who saves.
fn cross(report: &mut Report, on: Option<Hypervisor>, options: &Options) {
    let saving = asked(&MOVES.map(|(from, _)| from), on, options);
    for (from, to) in MOVES.into_iter().filter(|(from, _)| saving.contains(from)) {
        let name = format!(
            "a guest saved by {}, restored by {}",
            shown(from),
            shown(to)
        );
        report.test(&name, || {
            let scratch = paths::Scratch::new("luggage")?;
            let luggage = scratch.path().join("luggage.img");
            std::fs::File::create(&luggage)?.set_len(LUGGAGE_MIB << 20)?;
            for (cell, way) in [(from, "out"), (to, "in")] {
                let mut play = Play::new(cell, Scenario::Cross, options);
                play.setting.push_str(&format!("way={way}\n"));
                play.name.push_str(&format!("-{way}"));
                play.disk.push(format!("{},virtio", luggage.display()));
                play.run(options.show)?;
            }
            Ok(())
        });
    }
}

fn shown((hypervisor, toolstack): Cell) -> String {
    format!("{} on {}", toolstack.name(), hypervisor.name())
}

/// The text of `docs/matrix.md`, from the time each cell took, if it passed.
fn document(verdicts: &[Option<Duration>]) -> String {
    let mut text = String::from(MATRIX_HEAD);
    for hypervisor in [Hypervisor::Xen, Hypervisor::Oxen] {
        let _ = write!(text, "| {} |", hypervisor.name());
        for ((on, _), took) in CELLS.iter().zip(verdicts) {
            if *on == hypervisor {
                let _ = match took {
                    Some(took) => write!(text, " works ({:.0} s) |", took.as_secs_f64()),
                    None => write!(text, " fails |"),
                };
            }
        }
        text.push('\n');
    }
    text
}

const MATRIX_HEAD: &str = "\
# Whose tools on whose hypervisor

Written by `cargo xtask test domains --write-docs`. In each cell a machine is booted, and its dom0
creates a Linux guest from Debian's kernel with a console, a disk and a network card. The guest
writes its disk and reads it back, dom0 compares; they ping each other; 8 MiB go over TCP and back,
every byte checked; it is paused, goes on, is asked to shut down, and leaves nothing: free memory,
dom0's event channels and the store are as before. Beside it run guests in Rust, of `pv-drivers`:
`hello`, `stress`, `microbench`, `echo` (4 MiB over TCP, every byte checked) and `kv` (killed once, and no
acknowledged write is lost). The seconds are those of the whole machine in
emulation, from power-on to power-off.

| | Debian's `xl` 4.17 | `ox` |
|---|---|---|
";

/// A scenario in the dom0 of a machine with a cell's hypervisor and toolstack.
struct Play {
    cell: Cell,
    scenario: Scenario,
    /// Of the log.
    name: String,
    /// Variables of the script.
    setting: String,
    /// More disks of the machine, as QEMU's wrapper takes them.
    disk: Vec<String>,
    smp: u32,
    timeout: Duration,
}

impl Play {
    fn new(cell: Cell, scenario: Scenario, options: &Options) -> Self {
        let count = options.count.unwrap_or(scenario.count());
        Self {
            cell,
            scenario,
            name: format!(
                "test-domains-{}-{}",
                scenario.name(),
                shown(cell).replace(' ', "-")
            ),
            setting: format!("count={count} mib={}\n", options.mib),
            disk: Vec::new(),
            smp: options.smp,
            timeout: scenario.timeout(count),
        }
    }

    /// # Errors
    /// When it fails, with what it said.
    fn run(&self, show: bool) -> Result<()> {
        let (hypervisor, toolstack) = self.cell;
        let on_oxen = hypervisor == Hypervisor::Oxen;
        let parts = Parts {
            hypervisor,
            toolstack: Some(toolstack),
            // What a fuzzer does wrong shall be seen where it happens.
            debug: self.scenario == Scenario::Fuzz,
            hv_append: match (on_oxen, self.scenario) {
                // A prime, so that it is another allocation each time.
                (true, Scenario::Shortage) => format!("{DOM0_MEMORY} frame_check alloc-fail=97"),
                (true, _) => format!("{DOM0_MEMORY} frame_check"),
                // In a virtual machine Xen hides AVX, and takes no guest that has used it.
                (false, Scenario::Cross) => format!("{DOM0_MEMORY} spec-ctrl=gds-mit=no"),
                (false, _) => DOM0_MEMORY.into(),
            },
            archives: match self.scenario {
                Scenario::Hotplug => vec![initramfs::device_kinds(Flavour::default())?],
                _ => Vec::new(),
            },
            ..Parts::default()
        };
        let machine = Machine {
            memory: self.scenario.memory().into(),
            direct: true,
            disk: self.disk.clone(),
            smp: self.smp,
            ..Machine::default()
        };
        let script = format!(
            "{}{}\n{}\n{DMESG}",
            self.setting,
            include_str!("domains/ground.sh"),
            self.scenario.script()
        );
        let observer = |event: Event<'_>| match event {
            Event::Script(line) if show => println!("      | {line}"),
            Event::Script(_) | Event::Console(_) => {}
        };
        let script = Some(script.as_bytes());
        let outcome = run::headless(&parts, &machine, script, self.timeout, &self.name, observer)?;
        verdict(&outcome, on_oxen)
    }
}

/// A step that failed says so; what it said before is in the log.
fn verdict(outcome: &Outcome, on_oxen: bool) -> Result<()> {
    if let Some(line) = outcome
        .script
        .iter()
        .find(|line| line.starts_with("failed: "))
    {
        bail!("{line} ({})", paths::shown(&outcome.log));
    }
    succeeded(outcome)?;
    let consistent = |line: &String| line.contains("frame table: consistent");
    ensure!(
        !on_oxen || outcome.console.iter().any(consistent),
        "the frame table was not found consistent ({})",
        paths::shown(&outcome.log)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_has_a_cell_for_each_pair() {
        let took = Some(Duration::from_secs(61));
        let text = document(&[took, None, took, None]);
        let rows = "| Xen | works (61 s) | fails |\n| Oxen | works (61 s) | fails |\n";
        assert!(text.ends_with(rows));
    }
}
