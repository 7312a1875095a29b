//! Single operations of a guest: the example guest `microbench` on Xen beside Oxen. QEMU counts
//! instructions, so a cycle is one.

use anyhow::{Context, Result};

use super::{scripted, table};
use crate::qemu::Machine;
use crate::run::{Hypervisor, Parts};
use crate::toolstack::Toolstack;

pub fn run(cpu: &str) -> Result<()> {
    println!("Operations of a guest, in executed instructions; 2 CPUs, {cpu}");
    let xen = measure(Hypervisor::Xen, Toolstack::Xl, cpu)?;
    let oxen = measure(Hypervisor::Oxen, Toolstack::Ox, cpu)?;
    let rows: Vec<Vec<String>> = xen
        .iter()
        .map(|(name, xen)| row(name, *xen, &oxen))
        .collect();
    table::print(&["", "Xen", "Oxen", "ratio", ""], &rows);
    Ok(())
}

/// Name and instructions, in the guest's order.
type Counts = Vec<(String, u64)>;

fn measure(hypervisor: Hypervisor, toolstack: Toolstack, cpu: &str) -> Result<Counts> {
    eprintln!("xtask: a guest's operations on {}", hypervisor.name());
    let parts = Parts {
        hypervisor,
        toolstack: Some(toolstack),
        // dom0 keeps to CPU 0 and leaves the other to the guest.
        hv_append: "dom0_mem=1G,max:1G dom0_max_vcpus=1 dom0_vcpus_pin sched=credit".into(),
        ..Parts::default()
    };
    let machine = Machine {
        memory: "3G".into(),
        cpu: cpu.into(),
        direct: true,
        icount: true,
        ..Machine::default()
    };
    let name = format!("bench-microbench-{}", hypervisor.name());
    let outcome = scripted(&parts, &machine, include_str!("microbench.sh"), &name)?;
    let rows = outcome
        .script
        .iter()
        .filter_map(|line| line.strip_prefix("row "));
    let counts: Counts = rows.map(parse).collect::<Result<_>>()?;
    anyhow::ensure!(!counts.is_empty(), "the guest measured nothing");
    Ok(counts)
}

/// `NAME|COUNT`.
fn parse(row: &str) -> Result<(String, u64)> {
    let (name, count) = row.split_once('|').context("a row without a figure")?;
    let count = count.trim().parse();
    Ok((
        name.to_owned(),
        count.with_context(|| format!("no figure in `{row}`"))?,
    ))
}

fn row(name: &str, xen: u64, oxen: &Counts) -> Vec<String> {
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
        table::behind(ratio, 1.0),
    ]
}

#[cfg(test)]
mod tests {
    use super::{parse, row};

    #[test]
    fn a_row_is_a_name_and_a_number() {
        let found = parse("grant copy, 64 bytes|901 ").unwrap();
        assert_eq!(found, ("grant copy, 64 bytes".into(), 901));
        assert!(parse("yield").is_err() && parse("yield|x").is_err());
    }

    #[test]
    fn a_row_says_who_is_behind_and_what_is_missing() {
        let oxen = vec![("yield".to_owned(), 90), ("event send".to_owned(), 1500)];
        assert_eq!(row("yield", 100, &oxen)[3..], ["0.90", ""]);
        let cells = row("event send", 1000, &oxen);
        assert_eq!(cells[1..], ["1,000", "1,500", "1.50", "behind"]);
        assert_eq!(row("other", 7, &oxen)[4], "missing");
    }
}
