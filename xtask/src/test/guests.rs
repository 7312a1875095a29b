//! Tiny PV kernels, booted as dom0's kernel on Oxen and on real Xen: same question, same verdict.
//!
//! Both are asked under QEMU; Oxen is asked again on CPU models of Bochs, where Xen itself does not
//! always boot. What Xen answered under QEMU counts there too.
//!
//! The kernel prints `PASS name` or `FAIL name: why` for each case and closes with `DONE ...`. A
//! case that takes its machine down leaves no verdict; those behind it get another machine.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::report::Report;
use crate::machine::{Emulator, Machine};
use crate::run::{self, Hypervisor, Parts};
use crate::{paths, process, setup};

/// Machines that may be started before the rest of the cases counts as failed.
const LIVES: usize = 24;

/// Bochs' CPU models: Intel with AVX2; Intel with AVX-512; Intel with a TSC deadline timer that
/// needs no newer microcode (Bochs has none), and with PCID; AMD.
const BOCHS_MODELS: &[&str] = &[
    "corei7_haswell_4770",
    "corei7_skylake_x",
    "tigerlake",
    "ryzen",
];

/// A machine, and what is asked on it.
#[derive(Clone, Copy)]
struct Place {
    hypervisor: Hypervisor,
    emulator: Emulator,
    /// CPU model; `None` is the emulator's usual one.
    cpu: Option<&'static str>,
    smp: u32,
}

impl Place {
    const fn on_qemu(hypervisor: Hypervisor) -> Self {
        Self {
            hypervisor,
            emulator: Emulator::Qemu,
            cpu: None,
            smp: 1,
        }
    }

    /// The machine, and the longest time it may take.
    fn machine(&self) -> (Machine, Duration) {
        let (direct, seconds) = match self.emulator {
            Emulator::Qemu => (true, 60),
            // Four to ten seconds on a core of its own.
            Emulator::Bochs => (false, 240),
        };
        let machine = Machine {
            emulator: self.emulator,
            smp: self.smp,
            memory: "512M".into(),
            cpu: self.cpu.map(str::to_owned),
            direct,
            ..Machine::default()
        };
        (machine, Duration::from_secs(seconds))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.hypervisor.name())?;
        match self.cpu {
            Some(cpu) => write!(f, ", {} CPU, {cpu} of Bochs", self.smp),
            None => Ok(()),
        }
    }
}

/// What a hypervisor made of one case; `Ok` is a pass.
pub type Verdict = Result<(), String>;

/// The verdicts, in the order the cases ran, and the lines of the state matrix.
#[derive(Default)]
pub struct Verdicts(Vec<(String, Verdict)>, BTreeSet<String>);

impl Verdicts {
    fn get(&self, name: &str) -> Option<&Verdict> {
        self.0
            .iter()
            .find(|entry| entry.0 == name)
            .map(|entry| &entry.1)
    }

    fn insert(&mut self, name: String, verdict: Verdict) {
        match self.0.iter_mut().find(|entry| entry.0 == name) {
            Some(entry) => entry.1 = verdict,
            None => self.0.push((name, verdict)),
        }
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|entry| entry.0.clone()).collect()
    }
}

impl IntoIterator for Verdicts {
    type Item = (String, Verdict);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Asks under the emulators wanted.
pub fn run(report: &mut Report, wanted: impl Fn(Emulator) -> bool) {
    let kernel = match kernel("pv-test") {
        Ok(kernel) => kernel,
        Err(why) => return report.test("PV test kernels", || Err(why)),
    };
    // Real Xen first: the cases it has answered are those Oxen must answer.
    let xen = answers(report, &kernel, Place::on_qemu(Hypervisor::Xen), &[]);
    if wanted(Emulator::Qemu) {
        compare(report, &kernel, Place::on_qemu(Hypervisor::Oxen), &xen);
    }
    if wanted(Emulator::Bochs) {
        for cpu in BOCHS_MODELS {
            for smp in [1, 2] {
                let place = Place {
                    emulator: Emulator::Bochs,
                    cpu: Some(cpu),
                    smp,
                    ..Place::on_qemu(Hypervisor::Oxen)
                };
                compare(report, &kernel, place, &xen);
            }
        }
    }
}

/// All verdicts of one place.
fn answers(report: &mut Report, kernel: &Path, place: Place, known: &[String]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    report.test(&format!("PV test kernel on {place}"), || {
        verdicts = ask(place, kernel, known)?;
        Ok(())
    });
    verdicts
}

/// Asks Oxen and compares with what Xen has answered.
fn compare(report: &mut Report, kernel: &Path, place: Place, xen: &Verdicts) {
    let mut names = xen.names();
    let oxen = answers(report, kernel, place, &names);
    names.extend(
        oxen.names()
            .into_iter()
            .filter(|name| xen.get(name).is_none()),
    );
    for name in &names {
        report.verdict(
            &format!("PV test {name} ({place})"),
            judge(xen.get(name), oxen.get(name)),
        );
    }
    if place.emulator == Emulator::Qemu {
        // Another emulator's CPU leaves other flags and pushes other error codes.
        report.verdict("PV test states", judge_states(&xen.1, &oxen.1));
    }
    println!("      PV test kernel: {} cases ({place})", names.len());
}

/// Both must pass: the case says what Xen does, so a failure there is the case's own.
fn judge(xen: Option<&Verdict>, oxen: Option<&Verdict>) -> Verdict {
    let shown = |verdict: Option<&Verdict>| match verdict {
        None => "no verdict".to_owned(),
        Some(Ok(())) => "pass".to_owned(),
        Some(Err(why)) => why.clone(),
    };
    match (xen, oxen) {
        (Some(Ok(())), Some(Ok(()))) => Ok(()),
        _ => Err(format!("Xen: {}; Oxen: {}", shown(xen), shown(oxen))),
    }
}

/// The lines of the state matrix must be the same.
fn judge_states(xen: &BTreeSet<String>, oxen: &BTreeSet<String>) -> Verdict {
    let alone: Vec<&str> = xen.symmetric_difference(oxen).map(String::as_str).collect();
    if alone.is_empty() && !xen.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{} lines of {} are of one hypervisor only: {}",
        alone.len(),
        xen.len(),
        alone.join("; ")
    ))
}

/// Compiles the tiny kernels; the file of the one with that name.
///
/// # Errors
/// When they do not compile.
pub fn kernel(name: &str) -> Result<PathBuf> {
    process::run(process::cargo().args([
        "build",
        "--quiet",
        "--release",
        "--package",
        "test-guests",
        "--bins",
        "--target",
        setup::BARE_METAL,
    ]))?;
    Ok(paths::cargo_target()
        .join(setup::BARE_METAL)
        .join("release")
        .join(name))
}

/// Runs every case on as many machines as it takes; `known` names them in the kernel's order.
fn ask(place: Place, kernel: &Path, known: &[String]) -> Result<Verdicts> {
    let mut verdicts = Verdicts::default();
    let mut words: Vec<String> = Vec::new();
    for life in 0..LIVES {
        let (found, complete) = boot(place, kernel, &words, life)?;
        for (name, verdict) in found.0 {
            verdicts.insert(name, verdict);
        }
        verdicts.1.extend(found.1);
        if complete && words.is_empty() {
            break;
        }
        let mut open: Vec<String> = known
            .iter()
            .filter(|name| verdicts.get(name).is_none())
            .cloned()
            .collect();
        if !complete && !open.is_empty() {
            verdicts.insert(open.remove(0), Err("took the machine down".into()));
        }
        words = selection(&open);
        if words.is_empty() {
            break;
        }
    }
    anyhow::ensure!(
        !verdicts.0.is_empty(),
        "no verdict at all; see target/oxen/logs"
    );
    Ok(verdicts)
}

/// The first names, as many as fit on a command line (1 KiB with all else on it).
fn selection(names: &[String]) -> Vec<String> {
    let mut length = 0;
    names
        .iter()
        .take_while(|name| {
            length += name.len() + 1;
            length < 800
        })
        .cloned()
        .collect()
}

/// One machine: the verdicts it gave, and whether it came to the end.
fn boot(place: Place, kernel: &Path, wanted: &[String], life: usize) -> Result<(Verdicts, bool)> {
    let parts = Parts {
        hypervisor: place.hypervisor,
        // The kernel has one vCPU and knows of no other, however many CPUs there are.
        hv_append: "dom0_max_vcpus=1".into(),
        kernel: Some(kernel.to_path_buf()),
        append: wanted.join(" "),
        ..Parts::default()
    };
    let (machine, timeout) = place.machine();
    let on = match place.cpu {
        Some(cpu) => format!("{}-{cpu}-{}", place.hypervisor.name(), place.smp),
        None => place.hypervisor.name().to_owned(),
    };
    let log = format!("test-guests-{on}-{life}");
    let outcome = run::headless(&parts, &machine, None, timeout, &log, |_| ())
        .context("cannot start the machine")?;
    Ok(read(&outcome.console))
}

/// Reads the verdicts from a console.
pub fn read(console: &[String]) -> (Verdicts, bool) {
    let mut verdicts = Verdicts::default();
    let mut failing = false;
    let mut complete = false;
    for line in console {
        if let Some(name) = line.strip_prefix("PASS ") {
            verdicts.insert(name.trim().to_owned(), Ok(()));
            failing = false;
        } else if line.starts_with("FAIL trap: Frame") {
            // The kernel's own last words; the case is the first without a verdict.
            break;
        } else if let Some((name, why)) = line
            .strip_prefix("FAIL ")
            .and_then(|line| line.split_once(':'))
        {
            verdicts.insert(name.to_owned(), Err(why.trim().to_owned()));
            failing = true;
        } else if let Some(state) = line.strip_prefix("STATE ") {
            verdicts.1.insert(state.trim().to_owned());
        } else if line.starts_with("DONE ") {
            complete = true;
        } else if failing
            && line.starts_with("  ")
            && let Some((_, Err(why))) = verdicts.0.last_mut()
        {
            // Where it failed, and what it got.
            why.push_str(" / ");
            why.push_str(line.trim());
        }
    }
    (verdicts, complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_read_from_a_console() {
        let lines = [
            "(XEN) hello",
            "PASS a",
            "FAIL b: see below",
            "  x.rs:1:",
            "PASS c",
        ];
        let (verdicts, complete) = read(&lines.map(str::to_owned));
        assert!(!complete);
        assert_eq!(verdicts.get("a"), Some(&Ok(())));
        assert_eq!(verdicts.get("b"), Some(&Err("see below / x.rs:1:".into())));
        assert_eq!(verdicts.names(), ["a", "b", "c"]);
        let (_, complete) = read(&["DONE 3 passed, 0 failed".to_owned()]);
        assert!(complete);
    }

    #[test]
    fn states_are_compared() {
        let states = |lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(|l| format!("STATE {l}")).collect();
            read(&lines).0.1
        };
        let xen = states(&["user, int3: 1", "user, ud2: 2"]);
        assert!(judge_states(&xen, &states(&["user, ud2: 2", "user, int3: 1"])).is_ok());
        assert!(judge_states(&xen, &states(&["user, ud2: 2", "user, int3: 3"])).is_err());
        assert!(judge_states(&xen, &states(&["user, ud2: 2"])).is_err());
        assert!(judge_states(&states(&[]), &states(&[])).is_err());
    }

    #[test]
    fn only_two_passes_are_a_pass() {
        let (pass, fail) = (Ok(()), Err("x".to_owned()));
        assert!(judge(Some(&pass), Some(&pass)).is_ok());
        assert!(judge(Some(&pass), Some(&fail)).is_err());
        assert!(judge(Some(&fail), Some(&fail)).is_err());
        assert!(judge(Some(&pass), None).is_err());
    }
}
