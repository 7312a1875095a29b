//! What a person sees on a machine without a serial port.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::report::Report;
use crate::display::{self, Screen};
use crate::dom0::Flavour;
use crate::machine::{Console, Machine};
use crate::run::Parts;
use crate::{dom0, paths};

/// Time a machine has to show what is awaited.
const TIMEOUT: Duration = Duration::from_secs(180);

/// What it says of a file that is no kernel.
const NO_KERNEL: &str = "(OXEN) no dom0: its kernel is unusable";

/// The last words of one that does not reboot.
const HALTED: &str = "halted (noreboot)";

pub fn run(report: &mut Report) {
    report.test("screen, UEFI: the hypervisor's lines", || {
        let machine = Machine {
            uefi: true,
            ..Machine::default()
        };
        no_kernel(&machine, Screen::Pixels, &[NO_KERNEL, HALTED])
    });
    report.test("screen, BIOS text: the hypervisor's lines", || {
        let machine = Machine {
            direct: true,
            ..Machine::default()
        };
        no_kernel(&machine, Screen::Text, &[NO_KERNEL, HALTED])
    });
    report.test("screen, BIOS: the end of dom0", || {
        // Without an initramfs or a disk the kernel gives up.
        let kernel = dom0::kernel(Flavour::Generic)?.vmlinuz;
        let texts = ["dom0 crashed", HALTED];
        shows(kernel, &Machine::default(), Screen::Pixels, &texts)
    });
}

/// A file that is no kernel stops the hypervisor, whose lines stay to be read.
fn no_kernel(machine: &Machine, screen: Screen, texts: &[&str]) -> Result<()> {
    let scratch = paths::Scratch::new("no-kernel")?;
    let kernel = scratch.path().join("kernel");
    std::fs::write(&kernel, "no kernel\n".repeat(64))?;
    shows(kernel, machine, screen, texts)
}

/// Boots `kernel` as dom0 with the hypervisor's lines on the screen alone.
fn shows(kernel: PathBuf, machine: &Machine, screen: Screen, texts: &[&str]) -> Result<()> {
    let parts = Parts {
        kernel: Some(kernel),
        hv_append: "console=vga noreboot".into(),
        ..Parts::default()
    };
    let scratch = paths::Scratch::new("screen")?;
    let command = machine.command(&parts.stack(None)?, scratch.path(), Console::None)?;
    let mut machine = display::Machine::start(command, scratch.path())?;
    machine.await_texts(screen, texts, TIMEOUT).map(drop)
}
