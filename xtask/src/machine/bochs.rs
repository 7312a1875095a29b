//! Bochs' configuration for what is to be booted.
//!
//! Debian's Bochs starts in its debugger, which is told to go on by a file. It wants no terminal
//! and no input: SDL draws to nowhere, and what the debugger says goes to a file, so that standard
//! output is the machine's serial line alone. Nothing depends on the host's clock, so a boot with
//! the same files is the same to the instruction.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::image::{self, Firmware, Stack};
use crate::setup::{self, Need};

use super::{Console, Machine};

/// The firmware; package `bochsbios`.
pub const BIOS: &str = "/usr/share/bochs/BIOS-bochs-latest";
/// The display's firmware; package `vgabios`.
pub const VGA_BIOS: &str = "/usr/share/bochs/VGABIOS-lgpl-latest";
/// The display that needs no screen; package `bochs-sdl`. (Bochs' own text display cannot show
/// GRUB's graphics mode.)
pub const DISPLAY: &str = "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_sdl2_gui.so";

/// CPU model when none is named.
const CPU: &str = "corei7_haswell_4770";

/// The models with 64-bit mode and NX, oldest first. Source: `bochs --help cpu` of 2.7.
pub const MODELS: &[&str] = &[
    "p4_prescott_celeron_336",
    "athlon64_clawhammer",
    "athlon64_venice",
    "turion64_tyler",
    "core2_penryn_t9600",
    "phenom_8650_toliman",
    "corei5_lynnfield_750",
    "corei5_arrandale_m520",
    "corei7_sandy_bridge_2600k",
    "zambezi",
    "trinity_apu",
    "corei7_ivy_bridge_3770k",
    "corei7_haswell_4770",
    "broadwell_ult",
    "ryzen",
    "corei7_skylake_x",
    "corei3_cnl",
    "corei7_icelake_u",
    "tigerlake",
];

/// Bochs' file of messages, in the machine's scratch folder.
const LOG: &str = "bochs.log";

/// A command that boots the stack; see [`Machine::command`].
///
/// # Errors
/// When a part is missing or unknown, or Bochs has no such thing.
pub fn command(
    machine: &Machine,
    stack: &Stack,
    scratch: &Path,
    console: Console,
) -> Result<Command> {
    setup::ensure(&[Need::Bochs])?;
    let configuration = configuration(machine, stack, console)?;
    image::write(stack, Firmware::Bios, &scratch.join("boot.iso"))?;
    std::fs::write(scratch.join("bochsrc"), configuration)?;
    std::fs::write(scratch.join("go-on"), "c\n")?;
    let mut bochs = launcher("bochs", scratch);
    bochs.args(["-q", "-f", "bochsrc", "-rc", "go-on"]);
    bochs.envs([("SDL_VIDEODRIVER", "dummy"), ("SDL_AUDIODRIVER", "dummy")]);
    Ok(bochs)
}

/// Runs a program in `scratch` with no input, its output in a file, and our standard output as
/// descriptor 3: the serial line, if that is not the terminal.
fn launcher(program: &str, scratch: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.current_dir(scratch);
    // The program takes the shell's place, so what ends the one ends the other.
    let script = "exec 3>&1 >bochs.out 2>&1 </dev/null; exec \"$0\" \"$@\"";
    shell.args(["-c", script, program]);
    shell
}

/// The configuration file.
fn configuration(machine: &Machine, stack: &Stack, console: Console) -> Result<String> {
    refuse(machine, stack)?;
    let cpu = machine.cpu.as_deref().unwrap_or(CPU);
    ensure!(
        MODELS.contains(&cpu),
        "Bochs has no 64-bit CPU model `{cpu}`; it has {}",
        MODELS.join(", ")
    );
    let smp = machine.smp;
    ensure!((1..=8).contains(&smp), "Bochs has 1 to 8 CPUs, not {smp}");
    let memory = mebibytes(&machine.memory)?;
    let serial = match console {
        Console::Terminal => "mode=term, dev=/dev/tty",
        Console::Output => "mode=file, dev=/dev/fd/3",
        Console::None => "mode=null",
    };
    Ok(format!(
        "plugin_ctrl: unmapped=1\n\
         config_interface: textconfig\n\
         display_library: sdl2\n\
         sound: driver=dummy\n\
         romimage: file={BIOS}\n\
         vgaromimage: file={VGA_BIOS}\n\
         cpu: model={cpu}, count={smp}:1:1, ips=50000000, reset_on_triple_fault=0\n\
         memory: guest={memory}, host={memory}\n\
         pci: enabled=1, chipset=i440fx\n\
         ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14\n\
         ata0-master: type=cdrom, path=boot.iso, status=inserted\n\
         boot: cdrom\n\
         com1: enabled=1, {serial}\n\
         clock: sync=none, time0=1700000000\n\
         log: {LOG}\n\
         panic: action=fatal\n\
         error: action=report\n\
         info: action=ignore\n"
    ))
}

/// Names the first thing wanted that only QEMU has.
fn refuse(machine: &Machine, stack: &Stack) -> Result<()> {
    let wanted = [
        ("--machine", machine.machine.is_some()),
        ("--disk", !machine.disk.is_empty()),
        ("--nic", machine.nic.is_some()),
        ("--uefi", machine.uefi),
        ("--direct", machine.direct),
        ("--icount", machine.icount),
        ("--gdb", machine.gdb),
        ("--qemu-arg", !machine.qemu_arg.is_empty()),
        ("--toolstack", stack.guests.is_some()),
    ];
    if let Some((option, _)) = wanted.iter().find(|(_, wanted)| *wanted) {
        bail!("{option} does not work with Bochs: leave it out, or use `--emulator qemu`");
    }
    Ok(())
}

/// `512M`, `2G` or a plain number of MiB.
fn mebibytes(memory: &str) -> Result<u32> {
    let (number, unit) = match memory.strip_suffix(['G', 'g']) {
        Some(number) => (number, 1024),
        None => (memory.strip_suffix(['M', 'm']).unwrap_or(memory), 1),
    };
    let size = number.parse::<u32>().ok().and_then(|n| n.checked_mul(unit));
    size.with_context(|| format!("`{memory}` is not an amount of memory such as 512M or 2G"))
}

/// Whether the machine powered itself off. If not, what Bochs has to say is shown.
pub fn powered_off(scratch: &Path) -> bool {
    let said = |file| std::fs::read(scratch.join(file)).unwrap_or_default();
    let log = String::from_utf8_lossy(&said(LOG)).into_owned();
    let off = log.contains("soft power off");
    if !off {
        let out = String::from_utf8_lossy(&said("bochs.out")).into_owned();
        let panics = log.lines().chain(out.lines());
        for line in panics.filter(|line| line.contains(">>PANIC<<")) {
            eprintln!("bochs: {line}");
        }
    }
    off
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Hypervisor;

    fn stack() -> Stack {
        Stack {
            hypervisor: Hypervisor::Oxen,
            packed: None,
            elf: None,
            hv_args: String::new(),
            kernel: "vmlinuz".into(),
            kernel_args: String::new(),
            initrd: None,
            guests: None,
        }
    }

    #[test]
    fn the_configuration_has_model_cpus_and_memory() {
        let machine = Machine {
            smp: 1,
            memory: "1G".into(),
            cpu: Some("ryzen".into()),
            ..Machine::default()
        };
        let text = configuration(&machine, &stack(), Console::Output).unwrap();
        assert!(text.contains("cpu: model=ryzen, count=1:1:1,"));
        assert!(text.contains("memory: guest=1024, host=1024\n"));
        assert!(text.contains("com1: enabled=1, mode=file, dev=/dev/fd/3\n"));
    }

    /// The error of a machine that differs from the default by `change`.
    fn error(change: impl FnOnce(&mut Machine)) -> String {
        let mut machine = Machine::default();
        change(&mut machine);
        let result = configuration(&machine, &stack(), Console::Output);
        result.unwrap_err().to_string()
    }

    #[test]
    fn what_bochs_cannot_do_is_refused_by_name() {
        assert!(error(|m| m.uefi = true).starts_with("--uefi does not work"));
        assert!(error(|m| m.direct = true).starts_with("--direct does not work"));
        assert!(error(|m| m.icount = true).starts_with("--icount does not work"));
        assert!(error(|m| m.gdb = true).starts_with("--gdb does not work"));
        assert!(error(|m| m.nic = Some("e1000".into())).starts_with("--nic does not work"));
        assert!(error(|m| m.cpu = Some("EPYC".into())).contains("no 64-bit CPU model `EPYC`"));
        assert!(error(|m| m.smp = 9).contains("1 to 8 CPUs, not 9"));
        assert!(error(|m| m.memory = "2T".into()).contains("`2T` is not an amount"));
    }

    #[test]
    fn standard_output_is_the_serial_line_alone() {
        let scratch = crate::paths::Scratch::new("launcher-test").unwrap();
        let mut shell = launcher("sh", scratch.path());
        shell.args(["-c", "echo debugger; echo serial > /dev/fd/3; cat"]);
        assert_eq!(crate::process::output(&mut shell).unwrap(), "serial\n");
        let said = std::fs::read_to_string(scratch.path().join("bochs.out")).unwrap();
        assert_eq!(said, "debugger\n");
    }

    #[test]
    fn only_soft_power_off_is_an_orderly_end() {
        let scratch = crate::paths::Scratch::new("power-off-test").unwrap();
        assert!(!powered_off(scratch.path()));
        let log = scratch.path().join(LOG);
        std::fs::write(&log, "p[CPU0 ] >>PANIC<< exception(): 3rd (14) exception").unwrap();
        assert!(!powered_off(scratch.path()));
        std::fs::write(&log, "p[ACPI ] >>PANIC<< ACPI control: soft power off").unwrap();
        assert!(powered_off(scratch.path()));
    }

    #[test]
    fn amounts_of_memory() {
        assert_eq!(mebibytes("512M").unwrap(), 512);
        assert_eq!(mebibytes("2G").unwrap(), 2048);
        assert_eq!(mebibytes("300").unwrap(), 300);
        assert!(mebibytes("G").is_err() && mebibytes("99999999G").is_err());
    }
}
