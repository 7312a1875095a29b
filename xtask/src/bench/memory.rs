//! Memory the hypervisor keeps for itself: the machine's RAM less what dom0 has and less what is
//! free. dom0 asks by the interface that both have, so the same program measures both.

use anyhow::Result;

use super::{Mitigations, machine, needed, number, scripted, table};
use crate::run::Hypervisor;

pub fn run(cpu: &str) -> Result<()> {
    println!("Memory kept by the hypervisor, in KiB");
    let mut rows = Vec::new();
    for gib in [1, 2, 4] {
        let xen = kept(Hypervisor::Xen, cpu, gib)?;
        let oxen = kept(Hypervisor::Oxen, cpu, gib)?;
        rows.push(vec![
            format!("{gib} GiB machine"),
            table::grouped(xen),
            table::grouped(oxen),
            format!("{:.2}", oxen as f64 / xen as f64),
            table::behind(oxen as f64, xen as f64),
        ]);
    }
    table::print(&["", "Xen", "Oxen", "Oxen/Xen", ""], &rows);
    Ok(())
}

/// In KiB. Where the hypervisor does not say what is free, dom0 gets all it can and the rest
/// counts as kept.
fn kept(hypervisor: Hypervisor, cpu: &str, gib: u32) -> Result<u64> {
    let mut parts = Mitigations::Default.parts(hypervisor);
    parts.hv_append = "dom0_mem=512M".into();
    let mut machine = machine(cpu);
    machine.memory = format!("{gib}G");
    let name = format!("bench-memory-{}", hypervisor.name());
    let mut outcome = scripted(&parts, &machine, "dom0-load memory", &name)?;
    let free = match number(&outcome, "free") {
        Some(free) => free,
        None => {
            parts.hv_append = "dom0_mem=64G".into();
            outcome = scripted(&parts, &machine, "dom0-load memory", &name)?;
            0
        }
    };
    Ok(needed(&outcome, "ram")?.saturating_sub(needed(&outcome, "dom0")? + free))
}
