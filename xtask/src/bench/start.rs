//! A guest's way from its first instruction to its first words, beside Debian's cloud kernel's way to
//! its init.
//!
//! What counts is the domain's CPU time, which the hypervisor keeps and dom0 asks for when the words
//! have come: on a machine of one CPU that counts instructions, a nanosecond is one that the guest
//! executed, or the hypervisor for it. Building the domain is dom0's and has a row of its own.

use anyhow::Result;

use super::beside;
use super::linux::BesideLinux;
use crate::cpio::Archive;
use crate::dom0::{self, Flavour};
use crate::machine::Machine;
use crate::{build, guest};

pub fn run(cpu: &str) -> Result<()> {
    println!(
        "A guest's start, in instructions by its CPU time, both with 128 MiB; `hello` is to take a \
         tenth of Linux' (Debian's cloud kernel, quiet, an init that says a word); 1 CPU, {cpu}"
    );
    let kernel = guest::vmlinux(&dom0::kernel(Flavour::Cloud)?)?;
    let bench = BesideLinux {
        name: "start",
        script: include_str!("start.sh"),
        files: vec![
            ("vmlinux".into(), std::fs::read(kernel)?),
            ("initrd.img".into(), least_userspace()?),
        ],
        machine: Machine {
            smp: 1,
            ..beside::machine(cpu)
        },
        most: |name| if name.contains("create") { 1.0 } else { 0.1 },
    };
    bench.run()
}

/// An init and the console that it speaks on.
fn least_userspace() -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    archive.directory("dev");
    archive.character_device("dev/console", 5, 1);
    archive.directory("bin");
    archive.file("bin/dom0-load", 0o755, &std::fs::read(build::dom0_load()?)?);
    Ok(archive.finish())
}
