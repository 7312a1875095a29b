//! Tiny PV kernels, booted as dom0's kernel on Oxen and on real Xen: same question, same verdict.
//!
//! The kernel prints `PASS name` or `FAIL name: why` for each case and closes with `DONE ...`. A
//! case that takes its machine down leaves no verdict; those behind it get another machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::report::Report;
use crate::qemu::Machine;
use crate::run::{self, Hypervisor, Parts};
use crate::{paths, process, setup};

/// Machines that may be lost before the rest of the cases counts as failed.
const LIVES: usize = 8;

/// Longest time of one machine.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What a hypervisor made of each case; `Ok` is a pass.
type Verdicts = BTreeMap<String, Result<(), String>>;

pub fn run(report: &mut Report) {
    let kernel = match build() {
        Ok(kernel) => kernel,
        Err(why) => return report.test("PV test kernels", || Err(why)),
    };
    let mut xen = Verdicts::new();
    let mut oxen = Verdicts::new();
    // Real Xen first: the cases it has answered are those Oxen must answer.
    report.test("PV test kernel on Xen runs to its end", || {
        xen = ask(Hypervisor::Xen, &kernel, &[])?;
        Ok(())
    });
    report.test("PV test kernel on Oxen runs to its end", || {
        let names: Vec<&str> = xen.keys().map(String::as_str).collect();
        oxen = ask(Hypervisor::Oxen, &kernel, &names)?;
        Ok(())
    });
    let names: std::collections::BTreeSet<&String> = xen.keys().chain(oxen.keys()).collect();
    for name in names {
        report.verdict(
            &format!("PV test {name}"),
            judge(xen.get(name), oxen.get(name)),
        );
    }
    println!("      PV test kernels: {} cases", xen.len().max(oxen.len()));
}

/// Both must pass: the case says what Xen does, so a failure there is the case's own.
fn judge(
    xen: Option<&Result<(), String>>,
    oxen: Option<&Result<(), String>>,
) -> Result<(), String> {
    let shown = |verdict: Option<&Result<(), String>>| match verdict {
        None => "no verdict".to_owned(),
        Some(Ok(())) => "pass".to_owned(),
        Some(Err(why)) => why.clone(),
    };
    match (xen, oxen) {
        (Some(Ok(())), Some(Ok(()))) => Ok(()),
        _ => Err(format!("Xen: {}; Oxen: {}", shown(xen), shown(oxen))),
    }
}

/// Compiles the kernel.
fn build() -> Result<PathBuf> {
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
        .join("release/pv-test"))
}

/// Runs every case; `known` names cases that must give a verdict.
fn ask(hypervisor: Hypervisor, kernel: &Path, known: &[&str]) -> Result<Verdicts> {
    let mut verdicts = Verdicts::new();
    let mut wanted: Vec<String> = Vec::new();
    for life in 0..LIVES {
        let (found, complete) = boot(hypervisor, kernel, &wanted, life)?;
        let nothing = found.is_empty();
        verdicts.extend(found);
        if complete {
            return Ok(verdicts);
        }
        if nothing {
            break;
        }
        wanted = known
            .iter()
            .filter(|name| !verdicts.contains_key(**name))
            .map(|name| (*name).to_owned())
            .collect();
        if wanted.is_empty() {
            break;
        }
        // The first without a verdict took the machine down; the kernel keeps the order of its
        // list, which is not ours, so each is asked alone when few are left.
        if let [only] = wanted.as_slice() {
            verdicts.insert(only.clone(), Err("took the machine down".into()));
            return Ok(verdicts);
        }
        if life + 2 >= LIVES {
            break;
        }
    }
    anyhow::ensure!(
        !verdicts.is_empty(),
        "no verdict at all; see target/oxen/logs"
    );
    Ok(verdicts)
}

/// One machine: the verdicts it gave, and whether it came to the end.
fn boot(
    hypervisor: Hypervisor,
    kernel: &Path,
    wanted: &[String],
    life: usize,
) -> Result<(Verdicts, bool)> {
    let parts = Parts {
        hypervisor,
        kernel: Some(kernel.to_path_buf()),
        append: wanted.join(" "),
        ..Parts::default()
    };
    let machine = Machine {
        smp: 1,
        memory: "512M".into(),
        direct: true,
        ..Machine::default()
    };
    let log = format!("test-guests-{}-{life}", hypervisor.name());
    let outcome = run::headless(&parts, &machine, None, TIMEOUT, &log, |_| ())
        .context("cannot start the machine")?;
    Ok(read(&outcome.console))
}

/// Reads the verdicts from a console.
fn read(console: &[String]) -> (Verdicts, bool) {
    let mut verdicts = Verdicts::new();
    let mut failing: Option<String> = None;
    let mut complete = false;
    for line in console {
        if let Some(name) = line.strip_prefix("PASS ") {
            verdicts.insert(name.trim().to_owned(), Ok(()));
            failing = None;
        } else if let Some((name, why)) = line
            .strip_prefix("FAIL ")
            .and_then(|line| line.split_once(':'))
        {
            verdicts.insert(name.to_owned(), Err(why.trim().to_owned()));
            failing = Some(name.to_owned());
        } else if line.starts_with("DONE ") {
            complete = true;
        } else if let (Some(name), true) = (&failing, line.starts_with("  "))
            && let Some(Err(why)) = verdicts.get_mut(name)
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
        assert_eq!(verdicts["a"], Ok(()));
        assert_eq!(verdicts["b"], Err("see below / x.rs:1:".into()));
        assert_eq!(verdicts.len(), 3);
        let (_, complete) = read(&["DONE 3 passed, 0 failed".to_owned()]);
        assert!(complete);
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
