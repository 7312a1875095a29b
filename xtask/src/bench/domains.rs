//! Guests: Oxen with `ox` beside real Xen with `xl`. QEMU counts instructions, so that figures do not
//! depend on what else the host does: a second is a milliard of them, on one CPU or the other.

use anyhow::{Context, Result};

use super::{scripted, table};
use crate::qemu::Machine;
use crate::run::{Hypervisor, Parts};
use crate::toolstack::Toolstack;

pub fn run(cpu: &str) -> Result<()> {
    println!("Guests, in ms unless it says otherwise; 2 CPUs, counted instructions, {cpu}");
    let xen = measure(Hypervisor::Xen, Toolstack::Xl, cpu)?;
    let oxen = measure(Hypervisor::Oxen, Toolstack::Ox, cpu)?;
    let rows: Vec<Vec<String>> = xen
        .iter()
        .map(|(name, xen)| row(name, *xen, &oxen))
        .collect();
    table::print(&["", "Xen, xl", "Oxen, ox", "ratio", ""], &rows);
    Ok(())
}

/// Name and figure, in the script's order.
type Figures = Vec<(String, u64)>;

fn measure(hypervisor: Hypervisor, toolstack: Toolstack, cpu: &str) -> Result<Figures> {
    eprintln!(
        "xtask: guests by {} on {}",
        toolstack.name(),
        hypervisor.name()
    );
    let parts = Parts {
        hypervisor,
        toolstack: Some(toolstack),
        // The scheduler both have. dom0 keeps to CPU 0 and leaves the other to guests.
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
    let name = format!("bench-domains-{}", hypervisor.name());
    let outcome = scripted(&parts, &machine, include_str!("domains.sh"), &name)?;
    outcome
        .script
        .iter()
        .filter_map(|line| line.strip_prefix("row "))
        .map(|line| {
            let (name, figure) = line.split_once('|').context("a row without a figure")?;
            let figure = figure.trim().parse();
            Ok((
                name.to_owned(),
                figure.with_context(|| format!("no figure in `{line}`"))?,
            ))
        })
        .collect()
}

fn row(name: &str, xen: u64, oxen: &Figures) -> Vec<String> {
    let found = oxen.iter().find(|entry| entry.0 == name);
    let Some((_, oxen)) = found else {
        return [name, &table::grouped(xen), "-", "-", "missing"]
            .map(str::to_owned)
            .to_vec();
    };
    // What has a right value is neither ahead nor behind.
    let judged = !name.contains("weights") && !name.contains("cap ");
    let ratio = *oxen as f64 / xen.max(1) as f64;
    vec![
        name.to_owned(),
        table::grouped(xen),
        table::grouped(*oxen),
        format!("{ratio:.2}"),
        if judged {
            table::behind(ratio, 1.0)
        } else {
            String::new()
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn a_row_says_who_is_behind_and_what_is_missing() {
        let oxen = vec![("destroy".to_owned(), 300), ("weights".to_owned(), 101)];
        assert_eq!(row("destroy", 200, &oxen)[2..], ["300", "1.50", "behind"]);
        assert_eq!(row("weights", 100, &oxen)[3..], ["1.01", ""]);
        assert_eq!(
            row("list", 1000, &oxen)[1..],
            ["1,000", "-", "-", "missing"]
        );
    }
}
