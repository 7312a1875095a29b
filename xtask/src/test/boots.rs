//! Debian's kernels as dom0 on many machines.

use std::time::Duration;

use anyhow::{Result, bail};

use super::report::Report;
use crate::dom0::Flavour;
use crate::machine::{Emulator, Machine, bochs};
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
            boot_row(on, row, quick, false)
        });
    }
    if !quick {
        let row = (2, 2048, "q35", "Haswell-noTSX", Generic);
        report.test(&format!("boot by UEFI, {}", name(row)), || {
            boot_row(on, row, false, true)
        });
        report.test(&format!("boot by QEMU's loader, {}", name(row)), || {
            boot_row(on, row, true, false)
        });
    }
}

/// Which of Bochs' machines boot.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum OnBochs {
    /// One, with two CPUs: what an hour of all tests has room for.
    One,
    /// Three CPU models, with one CPU and with two.
    Some,
    /// Every 64-bit CPU model, with one CPU and with two.
    All,
}

impl OnBochs {
    /// CPU models and numbers of CPUs.
    fn rows(self) -> Vec<(&'static str, u32)> {
        let models = match self {
            Self::One => return vec![("corei7_haswell_4770", 2)],
            Self::Some => &["corei7_haswell_4770", "corei7_skylake_x", "ryzen"],
            Self::All => bochs::MODELS,
        };
        models
            .iter()
            .flat_map(|model| [(*model, 1), (*model, 2)])
            .collect()
    }
}

/// Memory of dom0 on Bochs, in MiB.
const BOCHS_MEMORY: u32 = 512;

/// Longest time a boot may take on Bochs; a core of its own does it in five minutes.
const BOCHS_TIMEOUT: Duration = Duration::from_secs(1500);

/// Debian's generic kernel on machines of Bochs.
pub fn on_bochs(report: &mut Report, on: Hypervisor, which: OnBochs) {
    for (cpu, smp) in which.rows() {
        let name = format!("{smp} CPU, {cpu}");
        report.test(&format!("boot on Bochs, {name}"), || {
            let parts = parts(on, Generic, BOCHS_MEMORY);
            let machine = Machine {
                emulator: Emulator::Bochs,
                smp,
                memory: format!("{}M", BOCHS_MEMORY + ROOM),
                cpu: Some(cpu.into()),
                ..Machine::default()
            };
            let log = format!("test-boot-bochs-{cpu}-{smp}");
            let script = script(on, smp, BOCHS_MEMORY);
            boot(&parts, &machine, &script, BOCHS_TIMEOUT, &log)
        });
    }
}

/// The self-checking load on four CPUs.
pub fn load(report: &mut Report, on: Hypervisor, seconds: u64) {
    let row = (4, 2048, "q35", "Haswell-noTSX", Generic);
    report.test(&format!("load for {seconds} s, {}", name(row)), || {
        let (_, memory, .., flavour) = row;
        let mut parts = parts(on, flavour, memory);
        let machine = machine(row, true, false);
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

/// dom0 has the screen that firmware left, lists firmware's variables, and sets one of its own, which
/// is there again after a new mount.
const EFI: &str = r#"
grep -q EFI /proc/fb || { echo "/proc/fb: $(cat /proc/fb)"; exit 5; }
vars=/sys/firmware/efi/efivars
modprobe efivarfs
mount -t efivarfs efivarfs $vars
ls $vars/BootOrder-8be4df61-93ca-11d2-aa0d-00e098032b8c $vars/Boot0000-*
name=$vars/Oxen-6f78656e-0000-4000-8000-6f78656e0001
long=$(dd if=/dev/zero bs=3000 count=1 2>/dev/null | tr '\000' x)
printf "\007\000\000\000$long" >$name
umount $vars
mount -t efivarfs efivarfs $vars
[ "$(tail -c +5 $name)" = "$long" ] || { echo 'the variable has changed'; exit 6; }
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

/// MiB for the hypervisor, so that dom0 gets what the row says.
const ROOM: u32 = 256;

fn parts(on: Hypervisor, flavour: Flavour, memory: u32) -> Parts {
    Parts {
        hypervisor: on,
        flavour,
        hv_append: format!("dom0_mem={memory}M"),
        ..Parts::default()
    }
}

fn machine((smp, memory, machine, cpu, _): Row, direct: bool, uefi: bool) -> Machine {
    Machine {
        smp,
        memory: format!("{}M", memory + ROOM),
        cpu: Some(cpu.into()),
        machine: Some(machine.into()),
        direct,
        uefi,
        ..Machine::default()
    }
}

fn boot_row(on: Hypervisor, row: Row, direct: bool, uefi: bool) -> Result<()> {
    let (smp, memory, .., flavour) = row;
    let log = format!("test-boot-{}", name(row).replace([' ', ','], ""));
    let machine = machine(row, direct, uefi);
    let parts = parts(on, flavour, memory);
    let mut script = script(on, smp, memory);
    if uefi && on != Hypervisor::None {
        script += EFI;
    }
    boot(&parts, &machine, &script, TIMEOUT, &log)
}

/// What dom0 does: has it the CPUs, the memory and the hypervisor, and no complaints?
fn script(on: Hypervisor, smp: u32, memory: u32) -> String {
    // What dom0 sees of its memory is less what its kernel took before counting.
    let (least, most) = (memory / 8 * 6 * 1024, memory * 1024);
    let below = if on == Hypervisor::None { "" } else { "xen" };
    format!(
        "set -e\n\
         cpus=$(nproc)\n\
         [ $cpus = {smp} ] || {{ echo \"$cpus CPUs online, not {smp}\"; exit 2; }}\n\
         kib=$(grep MemTotal /proc/meminfo | tr -dc 0-9)\n\
         [ $kib -ge {least} -a $kib -le {most} ] || {{ echo \"$kib KiB of memory\"; exit 3; }}\n\
         [ \"$(cat /sys/hypervisor/type 2>/dev/null)\" = \"{below}\" ] || {{ echo 'not on Xen'; exit 4; }}\n\
         {DMESG}"
    )
}

fn boot(
    parts: &Parts,
    machine: &Machine,
    script: &str,
    timeout: Duration,
    log: &str,
) -> Result<()> {
    let script = Some(script.as_bytes());
    succeeded(&run::headless(
        parts,
        machine,
        script,
        timeout,
        log,
        |_| (),
    )?)
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
