//! Executed instructions of single operations, in dom0 and on bare Linux. QEMU counts: with
//! `-icount shift=0` the guest's nanosecond is one instruction.

use anyhow::Result;

use super::{Mitigations, machine, scripted, table};
use crate::run::Hypervisor;

pub fn run(cpu: &str) -> Result<()> {
    for (mitigations, name) in [
        (Mitigations::Default, "each side's default"),
        (
            Mitigations::Off,
            "off on every side (`mitigations=off`, `xpti=0 spec-ctrl=no`)",
        ),
    ] {
        println!("Executed instructions per operation, mitigations: {name}; 1 CPU, 2 GiB, {cpu}");
        let bare = measure(Hypervisor::None, mitigations, cpu)?;
        let xen = measure(Hypervisor::Xen, mitigations, cpu)?;
        let oxen = measure(Hypervisor::Oxen, mitigations, cpu)?;
        let rows: Vec<Vec<String>> = xen
            .iter()
            .map(|(name, xen)| row(name, get(&bare, name), *xen, get(&oxen, name)))
            .collect();
        table::print(
            &[
                "",
                "bare",
                "Xen",
                "Oxen",
                "added by Xen",
                "added by Oxen",
                "ratio",
                "",
            ],
            &rows,
        );
    }
    Ok(())
}

/// Name and instructions, in the program's order.
type Counts = Vec<(String, u64)>;

fn measure(hypervisor: Hypervisor, mitigations: Mitigations, cpu: &str) -> Result<Counts> {
    let mut machine = machine(cpu);
    machine.icount = true;
    eprintln!("xtask: counting instructions on {}", hypervisor.name());
    let name = format!("bench-operations-{}", hypervisor.name());
    let parts = mitigations.parts(hypervisor);
    let outcome = scripted(&parts, &machine, "dom0-load bench", &name)?;
    let rows = outcome.script.iter().filter_map(|line| {
        let (name, count) = line.strip_prefix("row ")?.trim().rsplit_once(' ')?;
        Some((name.to_owned(), count.parse().ok()?))
    });
    Ok(rows.collect())
}

fn get(counts: &Counts, name: &str) -> Option<u64> {
    counts
        .iter()
        .find(|entry| entry.0 == name)
        .map(|entry| entry.1)
}

/// What a hypervisor adds is what it takes beyond bare Linux; bare Linux has no hypercalls.
fn row(name: &str, bare: Option<u64>, xen: u64, oxen: Option<u64>) -> Vec<String> {
    let shown = |count: Option<u64>| count.map_or("-".to_owned(), table::grouped);
    let added = |count: u64| count.saturating_sub(bare.unwrap_or(0));
    let ratio = oxen.map(|oxen| added(oxen) as f64 / added(xen).max(1) as f64);
    vec![
        name.to_owned(),
        shown(bare),
        shown(Some(xen)),
        shown(oxen),
        shown(Some(added(xen))),
        shown(oxen.map(added)),
        ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
        ratio.map_or("missing".to_owned(), |ratio| table::behind(ratio, 1.0)),
    ]
}

#[cfg(test)]
mod tests {
    use super::row;

    #[test]
    fn a_row_says_what_is_added_and_who_is_behind() {
        let cells = row("getppid", Some(300), 900, Some(600));
        assert_eq!(cells[4..], ["600", "300", "0.50", ""]);
        let cells = row("fork", Some(300), 900, Some(1000));
        assert_eq!(cells[6..], ["1.17", "behind"]);
        let cells = row("null hypercall", None, 350, Some(100));
        assert_eq!(cells[1..], ["-", "350", "100", "350", "100", "0.29", ""]);
    }
}
