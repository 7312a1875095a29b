//! Wall-clock time from power-on to the first line of dom0's `/init`. The boots take turns, so that
//! whatever else the host does meets all of them.

use anyhow::{Context, Result};

use super::{Mitigations, machine, scripted, table};
use crate::run::Hypervisor;

pub fn run(cpu: &str, runs: usize) -> Result<()> {
    println!("Power-on to dom0's init, in seconds (median of {runs}, 1 CPU, 2 GiB, {cpu})");
    let mut rows = Vec::new();
    for (name, direct) in [("GRUB", false), ("QEMU's loader", true)] {
        let mut times = [const { Vec::new() }; 3];
        for run in 0..runs {
            eprintln!("xtask: {name}, boots {} of {runs}", run + 1);
            for (hypervisor, times) in SIDES.into_iter().zip(&mut times) {
                times.push(boot(hypervisor, cpu, direct)?);
            }
        }
        let [bare, xen, oxen] = times.map(median);
        rows.push(vec![
            name.to_owned(),
            format!("{bare:.1}"),
            format!("{xen:.1}"),
            format!("{oxen:.1}"),
            format!("{:.2}", oxen / xen),
            table::behind(oxen, xen),
        ]);
    }
    table::print(&["", "bare", "Xen", "Oxen", "Oxen/Xen", ""], &rows);
    Ok(())
}

const SIDES: [Hypervisor; 3] = [Hypervisor::None, Hypervisor::Xen, Hypervisor::Oxen];

fn boot(hypervisor: Hypervisor, cpu: &str, direct: bool) -> Result<f64> {
    let mut machine = machine(cpu);
    machine.direct = direct;
    let parts = Mitigations::Default.parts(hypervisor);
    let name = format!("bench-time-{}", hypervisor.name());
    let outcome = scripted(&parts, &machine, "true", &name)?;
    Ok(outcome
        .init_after
        .context("dom0's init said nothing")?
        .as_secs_f64())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}
