//! A machine with more CPUs than one word of a CPU mask holds.
//!
//! A tiny PV kernel on one vCPU runs on each of them in turn: Debian's kernel would do too, but
//! takes long under emulation.

use std::time::Duration;

use anyhow::{Result, bail, ensure};

use super::guests;
use super::report::Report;
use crate::machine::Machine;
use crate::run::{self, Hypervisor, Parts};

/// CPUs: three words of a mask.
const CPUS: u32 = 130;

/// Longest time of the machine. Starting a CPU takes 10 ms of it at least, and the emulator's
/// many threads wait for each other.
const TIMEOUT: Duration = Duration::from_secs(180);

/// Cases that have to do with CPUs and what crosses them.
const CASES: &[&str] = &["control-every-cpu", "control-affinity", "event-", "vcpu-"];

pub fn run(report: &mut Report, on: Hypervisor) {
    report.test(&format!("PV test kernel, {CPUS} CPUs"), || boot(on));
}

fn boot(on: Hypervisor) -> Result<()> {
    let parts = Parts {
        hypervisor: on,
        kernel: Some(guests::kernel("pv-test")?),
        append: CASES.join(" "),
        hv_append: "dom0_max_vcpus=1".into(),
        ..Parts::default()
    };
    let machine = Machine {
        smp: CPUS,
        memory: "512M".into(),
        direct: true,
        ..Machine::default()
    };
    let outcome = run::headless(&parts, &machine, None, TIMEOUT, "test-cpus", |_| ())?;
    let (verdicts, complete) = guests::read(&outcome.console);
    for (name, verdict) in verdicts {
        if let Err(why) = verdict {
            bail!("{name}: {why}");
        }
    }
    ensure!(complete, "it did not come to its end; see target/oxen/logs");
    let all_run = format!("(OXEN) {CPUS} CPUs");
    ensure!(
        on != Hypervisor::Oxen || outcome.console.contains(&all_run),
        "not all CPUs were started; see target/oxen/logs"
    );
    Ok(())
}
