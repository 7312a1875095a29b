//! Serves RAM disks and a switch's ports to other guests, as the toolstack asks in the store.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::{String, ToString};
use core::time::Duration;

use guest_driver::ram::RamDisk;
use guest_driver::switch::{Port, Switch};
use pv_drivers::block::backend as block;
use pv_drivers::device::directory::{Backend, Directory};
use pv_drivers::device::{Clock, Refused, Store};
use pv_drivers::net::backend as net;
use pv_drivers::println;
use pv_drivers::runtime::{Guest, power};

/// Queues that a card is offered.
const QUEUES: usize = 2;

type Disk = block::Server<Guest, RamDisk>;
type Card = net::Server<Guest, Port>;

fn node(home: &str, name: &str) -> Result<String, String> {
    match Guest.read(&format!("{home}/{name}")) {
        Ok(value) => Ok(value.unwrap_or_default()),
        Err(why) => Err(why.to_string()),
    }
}

fn disk(home: &str) -> Result<Disk, String> {
    let (target, mode) = (node(home, "params")?, node(home, "mode")?);
    let medium = RamDisk::of(&target, mode.starts_with('r'))
        .ok_or_else(|| format!("{target}: no RAM disk; `ram16` is one of 16 MiB"))?;
    Disk::open(Guest, home, medium, block::Options::default()).map_err(|why| why.to_string())
}

fn card(home: &str, switch: &Switch) -> Result<Card, String> {
    Card::open(Guest, home, switch.port(), QUEUES).map_err(|why| why.to_string())
}

/// Tells on the console what became of a device.
fn told<B>(home: &str, opened: Result<B, String>) -> Result<B, String> {
    match &opened {
        Ok(_) => println!("driver: {home}"),
        Err(why) => println!("driver: {home}: {why}"),
    }
    opened
}

/// Does what there is to do; the store's failures are tried again.
fn poll<B: Backend>(
    directory: &mut Directory<Guest, B>,
    open: impl Fn(&str) -> Result<B, String>,
) -> bool {
    let polled = directory.poll(|home| told(home, open(home)));
    polled.unwrap_or(false)
}

fn serve() -> Result<(), Refused> {
    let mut disks = Directory::open(Guest, "vbd")?;
    let mut cards = Directory::open(Guest, "vif")?;
    let switch = Switch::default();
    let requests = power::Requests::listen().map_err(|_| Refused::Store)?;
    println!("driver: ready");
    loop {
        let busy = poll(&mut disks, disk) | poll(&mut cards, |home| card(home, &switch));
        if let Some(request) = requests.take() {
            use power::Request::{PowerOff, Reboot, Resize, Suspend};
            match request {
                PowerOff | Reboot => {
                    disks.close();
                    cards.close();
                    if request == PowerOff {
                        power::off();
                    }
                    power::reboot();
                }
                // It has its guests' pages mapped.
                Suspend => println!("driver: who serves others is not suspended"),
                Resize { kib } => {
                    power::resize(kib);
                }
            }
        }
        if !busy {
            let due = [disks.due(), cards.due()];
            Guest.wait(due.into_iter().flatten().min().unwrap_or(Duration::MAX));
        }
    }
}

fn main() {
    if let Err(why) = serve() {
        println!("driver: {why}");
    }
}

pv_drivers::entry!(main);
