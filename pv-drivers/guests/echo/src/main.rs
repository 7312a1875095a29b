//! A TCP server that sends back what it gets, on port 7.
#![no_std]
#![no_main]

use pv_drivers::net::Error;
use pv_drivers::println;
use pv_drivers::runtime::network::Network;
use pv_drivers::runtime::{boot, power};

/// Connections at a time.
const SOCKETS: usize = 4;
/// The service's port.
const PORT: u16 = 7;

fn serve() -> Result<(), Error> {
    let address = boot::option("address").unwrap_or("10.0.3.30");
    let Ok(parsed) = address.parse() else {
        println!("echo: {address} is no address");
        return Ok(());
    };
    let mut network = Network::open(parsed, 24)?;
    let requests = power::Requests::listen();
    let sockets = [(); SOCKETS].map(|()| network.tcp());
    let mut buffer = [0; 16384];
    println!("echo: ready at {address}:{PORT}");
    loop {
        network.poll()?;
        for handle in sockets {
            let socket = network.socket(handle);
            if !socket.is_open() {
                // It cannot fail: the socket is closed and the port is not 0.
                let _ = socket.listen(PORT);
            }
            while socket.can_recv() && socket.can_send() {
                let room = socket.send_capacity() - socket.send_queue();
                let most = room.min(buffer.len());
                let count = socket.recv_slice(&mut buffer[..most]).unwrap_or(0);
                let _ = socket.send_slice(&buffer[..count]);
            }
            if socket.may_send() && !socket.may_recv() && !socket.can_recv() {
                socket.close();
            }
        }
        if let Ok(requests) = &requests {
            requests.obey();
        }
        network.poll()?;
        network.wait()?;
    }
}

fn main() {
    if let Err(why) = serve() {
        println!("echo: {why}");
    }
}

pv_drivers::entry!(main);
