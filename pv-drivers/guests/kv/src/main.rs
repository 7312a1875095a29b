//! A key-value server whose acknowledged writes survive whatever happens to it.
#![no_std]
#![no_main]

extern crate alloc;

mod service;

use guest_kv::log::{self, Disk, Log};
use pv_drivers::block;
use pv_drivers::println;
use pv_drivers::runtime::network::Network;
use pv_drivers::runtime::{Guest, boot, power};
use service::Client;

/// The service's port.
const PORT: u16 = 6379;
/// Connections at a time.
const SOCKETS: usize = 4;

/// The guest's first disk.
struct Xvda(block::Disk<Guest>);

impl Disk for Xvda {
    type Error = block::Error;

    fn sectors(&self) -> u64 {
        self.0.geometry().map_or(0, |geometry| geometry.sectors)
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), block::Error> {
        self.0.read(sector, into)
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), block::Error> {
        self.0.write(sector, from)
    }

    fn flush(&mut self) -> Result<(), block::Error> {
        match self.0.flush() {
            // Without such, what is written is durable.
            Err(block::Error::Unsupported) => Ok(()),
            done => done,
        }
    }
}

fn open() -> Result<Log<Xvda>, log::Error<block::Error>> {
    let options = block::Options {
        keep_pages: 32,
        ..block::Options::default()
    };
    let mut disk = block::Disk::open(Guest, "device/vbd/51712", options)?;
    disk.connect()?;
    Log::open(Xvda(disk))
}

fn serve(mut log: Log<Xvda>) -> Result<(), pv_drivers::net::Error> {
    let address = boot::option("address").unwrap_or("10.0.3.31");
    let Ok(parsed) = address.parse() else {
        println!("kv: {address} is no address");
        return Ok(());
    };
    let mut network = Network::open(parsed, 24)?;
    let requests = power::Requests::listen();
    let mut clients = [(); SOCKETS].map(|()| Client::new(network.tcp()));
    println!("kv: {} keys, ready at {address}:{PORT}", log.len());
    loop {
        network.poll()?;
        for client in &mut clients {
            client.serve(&mut network, &mut log, PORT);
        }
        if let Ok(requests) = &requests {
            requests.obey();
        }
        network.poll()?;
        network.wait()?;
    }
}

fn main() {
    match open() {
        Ok(log) => {
            if let Err(why) = serve(log) {
                println!("kv: {why}");
            }
        }
        Err(why) => println!("kv: the disk: {why:?}"),
    }
}

pv_drivers::entry!(main);
