//! Disk and card of a guest in Rust (`iobench`) beside those of a Linux guest that does the same, with
//! the same backend: a file in dom0's memory, and a program in dom0 at the other end of TCP.

use anyhow::Result;

use super::beside;
use super::linux::BesideLinux;

pub fn run(cpu: &str) -> Result<()> {
    // QEMU counts an instruction for each repetition of a string instruction. Without ERMS, Linux
    // copies words and not bytes by one, as everybody else here.
    let cpu = format!("{cpu},-erms");
    println!(
        "Devices of a guest, in instructions for a MiB (elapsed: the guest's, dom0's and the \
         hypervisor's); Linux' disk with O_DIRECT and asynchronous requests; 2 CPUs, {cpu}"
    );
    let bench = BesideLinux {
        name: "devices",
        script: include_str!("devices.sh"),
        files: Vec::new(),
        machine: beside::machine(&cpu),
        most: |_| 1.0,
    };
    bench.run()
}
