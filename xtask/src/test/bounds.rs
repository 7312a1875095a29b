//! For how long the hypervisor keeps interrupts off, at most: `pv-bounds` drives every hypercall to its
//! worst case, on a hypervisor that measures and a QEMU that counts instructions.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::guests;
use super::report::Report;
use crate::machine::Machine;
use crate::run::{self, Parts};
use crate::{initramfs, paths};

/// No row may have more, in instructions.
const MOST: u64 = 500_000;
/// What a row should have at most.
const GOAL: u64 = 100_000;
/// Longest time of the machine.
const TIMEOUT: Duration = Duration::from_secs(900);

/// A row's name, and instructions with interrupts off.
type Row = (String, u64);

pub fn run(report: &mut Report, write_docs: bool) {
    let mut rows = Vec::new();
    report.test("bounds are measured", || {
        rows = measure()?;
        Ok(())
    });
    let file = paths::root().join("docs/bounds.md");
    if write_docs && !rows.is_empty() {
        report.test("docs/bounds.md is written", || {
            initramfs::write(&file, document(&rows).as_bytes()).map(drop)
        });
    }
    let known = std::fs::read_to_string(&file).unwrap_or_default();
    let known = documented(&known);
    for (name, instructions) in &rows {
        report.verdict(&format!("bound {name}"), judge(&known, name, *instructions));
    }
    for (name, _) in &known {
        if !rows.is_empty() && !rows.iter().any(|row| row.0 == *name) {
            report.verdict(
                &format!("bound {name}"),
                Err("it is in docs/bounds.md, and was not measured".into()),
            );
        }
    }
}

/// Boots the kernel and reads what it prints.
fn measure() -> Result<Vec<Row>> {
    let parts = Parts {
        kernel: Some(guests::kernel("pv-bounds")?),
        measured: true,
        // Room to take memory, and vCPUs to initialise.
        hv_append: "dom0_mem=256M,max:1024M dom0_max_vcpus=4".into(),
        ..Parts::default()
    };
    let machine = Machine {
        smp: 1,
        direct: true,
        icount: true,
        ..Machine::default()
    };
    let outcome = run::headless(&parts, &machine, None, TIMEOUT, "test-bounds", |_| ())
        .context("cannot start the machine")?;
    let log = paths::shown(&outcome.log);
    let failed = outcome.console.iter().find(|l| l.starts_with("FAILED "));
    ensure!(failed.is_none(), "{} ({log})", failed.map_or("", |l| l));
    ensure!(
        outcome.console.iter().any(|line| line.trim() == "DONE"),
        "pv-bounds did not come to its end ({log})"
    );
    Ok(outcome.console.iter().filter_map(|l| row(l)).collect())
}

/// `BOUND mmu_update of 1024 L1 entries: 1234`
fn row(line: &str) -> Option<Row> {
    let (name, number) = line.strip_prefix("BOUND ")?.rsplit_once(": ")?;
    Some((name.to_owned(), number.trim().parse().ok()?))
}

/// The rows of the document.
fn documented(text: &str) -> Vec<Row> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let (name, number) = (cells.next()?, cells.next()?);
        let number = number.trim_end_matches(" |").replace(',', "");
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    text.lines().filter_map(row).collect()
}

/// A tenth more than the document says, for a compiler's whims, is no mistake.
fn judge(known: &[Row], name: &str, instructions: u64) -> Result<(), String> {
    let Some((_, documented)) = known.iter().find(|row| row.0 == name) else {
        return Err("not in docs/bounds.md: write it with `--write-docs`".into());
    };
    if instructions > MOST {
        return Err(format!("{instructions} instructions, more than {MOST}"));
    }
    let limit = documented + documented / 10 + 1000;
    if instructions > limit {
        return Err(format!(
            "{instructions} instructions; docs/bounds.md says {documented}"
        ));
    }
    Ok(())
}

/// The text of `docs/bounds.md`.
fn document(rows: &[Row]) -> String {
    let mut text = String::from(HEAD);
    for (name, instructions) in rows {
        let mark = if *instructions > GOAL {
            "above the goal"
        } else {
            ""
        };
        let _ = writeln!(text, "| {name} | {} | {mark} |", grouped(*instructions));
    }
    text
}

/// A number with commas between thousands.
fn grouped(number: u64) -> String {
    crate::bench::grouped(number)
}

const HEAD: &str = "\
# How long interrupts stay off

Written by `cargo xtask test bounds --write-docs`; `cargo xtask test bounds` compares. The kernel
`pv-bounds` (`tests/guests`) is dom0 and drives each call to its worst case: the largest counts, the
fullest tables, calls in lists. QEMU counts instructions (`-icount shift=0`). A number is the longest
stretch of instructions between two moments at which the hypervisor takes interrupts: a guest runs, the
CPU sleeps, or an operation has come to a preemption point. Choosing and loading another vCPU begins with
such a point, so it is not part of another row.

No row may have more than 500,000; the goal is 100,000. String instructions count once for each element,
so copying a page counts for more here than on a CPU. Work that waits for another CPU (a lock, a TLB
flush) waits at most for that CPU's own longest stretch.

| call | instructions | |
|---|---|---|
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_found_again_in_the_document() {
        let measured = row("BOUND domctl a, b: 123456\r").expect("a row");
        assert_eq!(measured, ("domctl a, b".to_owned(), 123_456));
        let known = documented(&document(std::slice::from_ref(&measured)));
        assert_eq!(known, [measured]);
    }

    #[test]
    fn a_row_may_grow_by_a_tenth_and_not_beyond_the_most() {
        let known = [("a".to_owned(), 10_000), ("b".to_owned(), 499_000)];
        assert!(judge(&known, "a", 12_000).is_ok());
        assert!(judge(&known, "a", 12_001).is_err());
        assert!(judge(&known, "b", 500_001).is_err());
        assert!(judge(&known, "c", 1).is_err());
    }
}
