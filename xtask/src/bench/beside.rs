//! What a script in dom0 measures of guests: on real Xen with `xl`, beside Oxen with `ox`. QEMU
//! counts instructions, so that figures do not depend on what else the host does: a second is a
//! milliard of them, on one CPU or the other.

use anyhow::{Context, Result, ensure};

use super::{scripted, table};
use crate::machine::Machine;
use crate::run::{Hypervisor, Parts};
use crate::toolstack::Toolstack;

/// Measurements of one script, which prints `row NAME|FIGURE`.
pub struct Beside<'a> {
    /// What log files are called by.
    pub name: &'a str,
    pub script: &'a str,
    pub machine: Machine,
    /// What is right in a row.
    pub right: fn(&str) -> Right,
}

/// What is right in a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Right {
    /// No more than on Xen.
    Less,
    /// No less than on Xen.
    More,
    /// 100, or two more or less.
    Hundred,
    /// No more than this.
    AtMost(u64),
}

impl Right {
    /// What is said of a row: nothing, or that Oxen is behind.
    fn verdict(self, xen: u64, oxen: u64) -> String {
        let holds = match self {
            Self::Less => oxen <= xen,
            Self::More => oxen >= xen,
            Self::Hundred => (98..=102).contains(&oxen),
            Self::AtMost(most) => oxen <= most,
        };
        if holds {
            String::new()
        } else {
            "behind".into()
        }
    }
}

/// Name and figure, in the script's order.
pub type Figures = Vec<(String, u64)>;

/// The machine of guests: dom0 keeps to one CPU and leaves the other to them.
pub fn machine(cpu: &str) -> Machine {
    Machine {
        memory: "3G".into(),
        cpu: Some(cpu.into()),
        direct: true,
        icount: true,
        ..Machine::default()
    }
}

/// What a script says of guests on a hypervisor, made by its own tools; dom0 has `files` too.
///
/// # Errors
/// When the machine or its script fails, or nothing was measured.
pub fn measure(
    hypervisor: Hypervisor,
    name: &str,
    script: &str,
    files: Vec<(String, Vec<u8>)>,
    machine: &Machine,
) -> Result<Figures> {
    let toolstack = match hypervisor {
        Hypervisor::Xen => Toolstack::Xl,
        Hypervisor::Oxen | Hypervisor::None => Toolstack::Ox,
    };
    let (by, on) = (toolstack.name(), hypervisor.name());
    eprintln!("xtask: {name} by {by} on {on}");
    let parts = Parts {
        hypervisor,
        toolstack: Some(toolstack),
        // The scheduler both have.
        hv_append: "dom0_mem=1G,max:1G dom0_max_vcpus=1 dom0_vcpus_pin sched=credit".into(),
        files,
        ..Parts::default()
    };
    let outcome = scripted(&parts, machine, script, &format!("bench-{name}-{on}"))?;
    let rows = outcome.script.iter().filter_map(|line| row_of(line));
    let figures: Figures = rows.map(parse).collect::<Result<_>>()?;
    ensure!(!figures.is_empty(), "{name}: nothing was measured");
    Ok(figures)
}

impl Beside<'_> {
    /// Measures both, and prints their rows.
    ///
    /// # Errors
    /// When a machine or its script fails, or nothing was measured.
    pub fn run(&self) -> Result<()> {
        let xen = measure(
            Hypervisor::Xen,
            self.name,
            self.script,
            Vec::new(),
            &self.machine,
        )?;
        let oxen = measure(
            Hypervisor::Oxen,
            self.name,
            self.script,
            Vec::new(),
            &self.machine,
        )?;
        let rows: Vec<Vec<String>> = xen
            .iter()
            .map(|(name, xen)| self.row(name, *xen, &oxen))
            .collect();
        table::print(&["", "Xen, xl", "Oxen, ox", "ratio", ""], &rows);
        Ok(())
    }

    fn row(&self, name: &str, xen: u64, oxen: &Figures) -> Vec<String> {
        let Some((_, oxen)) = oxen.iter().find(|entry| entry.0 == name) else {
            return [name, &table::grouped(xen), "-", "-", "missing"]
                .map(str::to_owned)
                .to_vec();
        };
        let ratio = *oxen as f64 / xen.max(1) as f64;
        vec![
            name.to_owned(),
            table::grouped(xen),
            table::grouped(*oxen),
            format!("{ratio:.2}"),
            (self.right)(name).verdict(xen, *oxen),
        ]
    }
}

/// What follows `row ` in a line, as a terminal shows it: progress that was wiped out is not there.
fn row_of(line: &str) -> Option<&str> {
    let shown = line.trim_end().rsplit("\x1b[K").next()?;
    shown.rsplit('\r').next()?.trim_start().strip_prefix("row ")
}

/// `NAME|FIGURE`.
fn parse(row: &str) -> Result<(String, u64)> {
    let (name, figure) = row.split_once('|').context("a row without a figure")?;
    let figure = figure.trim().parse();
    Ok((
        name.to_owned(),
        figure.with_context(|| format!("no figure in `{row}`"))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::{Beside, Machine, Right, parse, row_of};

    #[test]
    fn progress_before_a_row_is_no_part_of_it() {
        let line = "\r\x1b[Ksaving …\r\x1b[Krow save|9";
        assert_eq!(row_of(line), Some("save|9"));
        assert_eq!(row_of("row save|9"), Some("save|9"));
        let line = "xc: Frames: 9/9  100%\r            \rrow save|9";
        assert_eq!(row_of(line), Some("save|9"));
        assert_eq!(row_of("a row save|9"), None);
    }

    #[test]
    fn a_row_is_a_name_and_a_number() {
        let found = parse("grant copy, 64 bytes|901 ").unwrap();
        assert_eq!(found, ("grant copy, 64 bytes".into(), 901));
        assert!(parse("yield").is_err() && parse("yield|x").is_err());
    }

    #[test]
    fn a_row_says_who_is_behind_and_what_is_missing() {
        let bench = Beside {
            name: "test",
            script: "",
            machine: Machine::default(),
            right: |name| match name {
                "weights" => Right::Hundred,
                _ => Right::Less,
            },
        };
        let oxen = [("yield", 90), ("destroy", 1500), ("weights", 101)];
        let oxen = oxen
            .map(|(name, figure)| (name.to_owned(), figure))
            .to_vec();
        assert_eq!(bench.row("yield", 100, &oxen)[3..], ["0.90", ""]);
        let cells = bench.row("destroy", 1000, &oxen);
        assert_eq!(cells[1..], ["1,000", "1,500", "1.50", "behind"]);
        assert_eq!(bench.row("weights", 100, &oxen)[3..], ["1.01", ""]);
        assert_eq!(Right::Hundred.verdict(100, 97), "behind");
        assert_eq!(Right::More.verdict(30, 29), "behind");
        assert_eq!(Right::AtMost(30).verdict(90, 30), "");
        assert_eq!(Right::AtMost(30).verdict(90, 31), "behind");
        let cells = bench.row("list", 1000, &oxen);
        assert_eq!(cells[1..], ["1,000", "-", "-", "missing"]);
    }
}
