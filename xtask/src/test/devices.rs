//! The machine's devices in dom0's hands: disks and network cards, with MSI and with legacy
//! interrupts, while a CPU load runs.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

use super::boots::{DMESG, succeeded};
use super::report::Report;
use crate::machine::Machine;
use crate::paths;
use crate::run::{self, Hypervisor, Parts};

/// Machine type, disk's bus, its device in dom0, network card, interrupts.
const ROWS: &[(&str, &str, &str, &str, Interrupts)] = &[
    ("q35", "virtio", "/dev/vda", "virtio", Interrupts::Msi),
    ("pc", "virtio", "/dev/vda", "e1000", Interrupts::Legacy),
    ("q35", "ahci", "/dev/sda", "e1000", Interrupts::Msi),
    ("pc", "ahci", "/dev/sda", "virtio", Interrupts::Legacy),
    ("pc", "nvme", "/dev/nvme0n1", "virtio", Interrupts::Msi),
    ("q35", "nvme", "/dev/nvme0n1", "e1000", Interrupts::Legacy),
    ("q35", "virtio", "/dev/vda", "e1000", Interrupts::NoMsi),
];

/// How devices interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Interrupts {
    /// Messages.
    Msi,
    /// Lines through the IOAPIC (`pci=nomsi`).
    Legacy,
    /// Lines, because the hypervisor refuses messages (`msi=no`).
    NoMsi,
}

/// Binds the NVMe controller again with queues of one command.
///
/// QEMU 7.2 to 9.1 offer shadow doorbells and post a completion with an event index from before
/// they read the driver's newest head. A completion posted while the driver acknowledges another
/// therefore lets the driver leave out the doorbell that would lower the line, which then stays
/// high: `irq 22: nobody cared`, on bare Linux too. With one command at a time nothing is posted
/// in between. Messages have no line to lower.
const NVME_ONE_AT_A_TIME: &str = "\
    echo 2 > /sys/module/nvme/parameters/io_queue_depth\n\
    controller=$(basename $(readlink /sys/block/nvme0n1/device/device))\n\
    echo $controller > /sys/bus/pci/drivers/nvme/unbind\n\
    echo $controller > /sys/bus/pci/drivers/nvme/bind\n\
    while ! [ -b /dev/nvme0n1 ]; do sleep 1; done\n\
    ";

const DISK_MIB: u64 = 256;
const NET_MIB: u64 = 64;

pub fn run(report: &mut Report, hypervisor: Hypervisor) {
    for &(machine, bus, device, card, interrupts) in ROWS {
        let name = format!("{bus} disk and {card} card, {machine}, {interrupts:?}");
        report.test(&name, || {
            check(hypervisor, machine, bus, device, card, interrupts)
        });
    }
}

fn check(
    hypervisor: Hypervisor,
    kind: &str,
    bus: &str,
    device: &str,
    card: &str,
    interrupts: Interrupts,
) -> Result<()> {
    let scratch = paths::Scratch::new("disk")?;
    let disk = scratch.path().join("disk.img");
    std::fs::File::create(&disk)?.set_len((DISK_MIB + 8) << 20)?;
    let port = echo_server()?;
    let prepare = match (bus, interrupts) {
        ("nvme", Interrupts::Legacy) => NVME_ONE_AT_A_TIME,
        _ => "",
    };
    let script = format!(
        "set -e\n\
         {prepare}\
         (while :; do :; done) & busy=$!\n\
         sleep 1\n\
         dom0-load disk {device} {DISK_MIB}\n\
         ifconfig eth0 10.0.2.15 up\n\
         dom0-load tcp 10.0.2.2:{port} {NET_MIB}\n\
         kill $busy\n\
         cat /proc/interrupts\n\
         {DMESG}"
    );
    let parts = Parts {
        hypervisor,
        append: if interrupts == Interrupts::Legacy {
            "pci=nomsi".into()
        } else {
            String::new()
        },
        hv_append: if interrupts == Interrupts::NoMsi {
            "msi=no".into()
        } else {
            String::new()
        },
        ..Parts::default()
    };
    let machine = Machine {
        machine: Some(kind.into()),
        disk: vec![format!("{},{bus}", disk.display())],
        nic: Some(card.into()),
        direct: true,
        ..Machine::default()
    };
    let log = format!("test-devices-{kind}-{bus}-{card}");
    let timeout = Duration::from_secs(400);
    let outcome = run::headless(
        &parts,
        &machine,
        Some(script.as_bytes()),
        timeout,
        &log,
        |_| (),
    )?;
    succeeded(&outcome)
}

/// A TCP server on this machine that sends back what it gets; its port.
fn echo_server() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port for the echo server")?;
    let port = listener.local_addr()?.port();
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            std::thread::spawn(move || echo(stream));
        }
    });
    Ok(port)
}

fn echo(mut stream: TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match stream.read(&mut buffer)? {
            0 => return stream.shutdown(Shutdown::Write),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}
