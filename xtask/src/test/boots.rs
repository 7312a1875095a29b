//! Debian's kernels as dom0 on many machines.

use std::time::Duration;

use anyhow::{Result, bail};

use super::report::Report;
use crate::dom0::Flavour;
use crate::qemu::Machine;
use crate::run::{self, Hypervisor, Parts};
use crate::serial::Outcome;

/// One machine: CPUs, memory of dom0 in MiB, machine type, CPU model, kernel.
type Row = (u32, u32, &'static str, &'static str, Flavour);

use Flavour::{Cloud, Generic};

/// Every pair of two properties occurs in some row.
const PAIRS: &[Row] = &[
    (1, 512, "pc", "qemu64", Generic),
    (2, 2048, "q35", "qemu64", Cloud),
    (4, 4096, "pc", "qemu64", Generic),
    (1, 2048, "q35", "Haswell-noTSX", Generic),
    (2, 4096, "pc", "Haswell-noTSX", Generic),
    (4, 512, "q35", "Haswell-noTSX", Cloud),
    (1, 4096, "q35", "EPYC", Cloud),
    (2, 512, "pc", "EPYC", Generic),
    (4, 2048, "pc", "EPYC", Generic),
    (1, 2048, "pc", "max", Generic),
    (2, 512, "q35", "max", Generic),
    (4, 4096, "pc", "max", Cloud),
];

/// Enough to notice that something broke.
const QUICK: &[Row] = &[
    (2, 2048, "q35", "Haswell-noTSX", Generic),
    (4, 512, "pc", "qemu64", Generic),
];

/// Longest time a boot may take, script and power-off included.
const TIMEOUT: Duration = Duration::from_secs(240);

pub fn run(report: &mut Report, on: Hypervisor, quick: bool, every_machine: bool) {
    let rows = match (quick, every_machine) {
        (true, _) => QUICK.to_vec(),
        (_, true) => all(),
        (false, false) => PAIRS.to_vec(),
    };
    for row in rows {
        report.test(&format!("boot, {}", name(row)), || {
            boot(on, row, quick, false)
        });
    }
    if !quick {
        let row = (2, 2048, "q35", "Haswell-noTSX", Generic);
        report.test(&format!("boot by UEFI, {}", name(row)), || {
            boot(on, row, false, true)
        });
        report.test(&format!("boot by QEMU's loader, {}", name(row)), || {
            boot(on, row, true, false)
        });
    }
}

/// The self-checking load on four CPUs.
pub fn load(report: &mut Report, on: Hypervisor, seconds: u64) {
    let row = (4, 2048, "q35", "Haswell-noTSX", Generic);
    report.test(&format!("load for {seconds} s, {}", name(row)), || {
        let (mut parts, machine) = machine(on, row, true, false);
        if on == Hypervisor::Oxen {
            parts.hv_append += " frame_check";
        }
        let script = format!("set -e\ndom0-load load {seconds}\n{DMESG}");
        let timeout = TIMEOUT + Duration::from_secs(2 * seconds);
        let outcome = run::headless(
            &parts,
            &machine,
            Some(script.as_bytes()),
            timeout,
            "test-load",
            |_| (),
        )?;
        succeeded(&outcome)?;
        let consistent = |line: &String| line.contains("frame table: consistent");
        if on == Hypervisor::Oxen && !outcome.console.iter().any(consistent) {
            bail!("the frame table was not found consistent");
        }
        Ok(())
    });
}

/// Fails when the kernel has complained. (`WARNING: See` is its advice about a CPU model, as on bare
/// Linux.)
pub const DMESG: &str = r#"
if dmesg | grep -E 'WARNING: [^S]|BUG:|Call Trace:|rcu.*stall|soft lockup|hung task|Oops'; then
    echo "dmesg has complaints"
    exit 9
fi
"#;

fn all() -> Vec<Row> {
    let mut rows = Vec::new();
    for flavour in [Generic, Cloud] {
        for cpu in ["qemu64", "Haswell-noTSX", "EPYC", "max"] {
            for machine in ["pc", "q35"] {
                for memory in [512, 2048, 4096] {
                    rows.extend([1, 2, 4].map(|smp| (smp, memory, machine, cpu, flavour)));
                }
            }
        }
    }
    rows
}

fn name((smp, memory, machine, cpu, flavour): Row) -> String {
    format!(
        "{} kernel, {smp} CPU, {memory} MiB, {machine}, {cpu}",
        flavour.name()
    )
}

fn machine(
    on: Hypervisor,
    (smp, memory, machine, cpu, flavour): Row,
    direct: bool,
    uefi: bool,
) -> (Parts, Machine) {
    let parts = Parts {
        hypervisor: on,
        flavour,
        hv_append: format!("dom0_mem={memory}M"),
        ..Parts::default()
    };
    let machine = Machine {
        smp,
        // Room for the hypervisor, so that dom0 gets what the row says.
        memory: format!("{}M", memory + 256),
        cpu: cpu.into(),
        machine: machine.into(),
        direct,
        uefi,
        ..Machine::default()
    };
    (parts, machine)
}

fn boot(on: Hypervisor, row: Row, direct: bool, uefi: bool) -> Result<()> {
    let (parts, machine) = machine(on, row, direct, uefi);
    let (smp, memory, ..) = row;
    // What dom0 sees of its memory is less what its kernel took before counting.
    let (least, most) = (memory / 8 * 6 * 1024, memory * 1024);
    let below = if on == Hypervisor::None { "" } else { "xen" };
    let script = format!(
        "set -e\n\
         cpus=$(nproc)\n\
         [ $cpus = {smp} ] || {{ echo \"$cpus CPUs online, not {smp}\"; exit 2; }}\n\
         kib=$(grep MemTotal /proc/meminfo | tr -dc 0-9)\n\
         [ $kib -ge {least} -a $kib -le {most} ] || {{ echo \"$kib KiB of memory\"; exit 3; }}\n\
         [ \"$(cat /sys/hypervisor/type 2>/dev/null)\" = \"{below}\" ] || {{ echo 'not on Xen'; exit 4; }}\n\
         {DMESG}"
    );
    let log = format!("test-boot-{}", name(row).replace([' ', ','], ""));
    let outcome = run::headless(
        &parts,
        &machine,
        Some(script.as_bytes()),
        TIMEOUT,
        &log,
        |_| (),
    )?;
    succeeded(&outcome)
}

/// Whether a machine did all it was to do: status 0, and off by itself.
///
/// # Errors
/// With what it did instead.
pub fn succeeded(outcome: &Outcome) -> Result<()> {
    let log = crate::paths::shown(&outcome.log);
    let said = outcome
        .script
        .iter()
        .filter(|line| !line.is_empty())
        .cloned()
        .collect::<Vec<_>>();
    match outcome.status {
        Some(0) if outcome.powered_off => Ok(()),
        Some(0) => bail!("it did not power off ({log})"),
        Some(status) => bail!("status {status}: {} ({log})", said.join(" / ")),
        None => {
            let last = outcome.console.last().map_or("", String::as_str);
            bail!(
                "no verdict in {:.0} s, last line `{last}` ({log})",
                outcome.took.as_secs_f64()
            )
        }
    }
}
