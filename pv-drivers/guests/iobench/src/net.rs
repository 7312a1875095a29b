//! TCP to a peer and from it.

use alloc::vec;

use pv_drivers::net::Error;
use pv_drivers::println;
use pv_drivers::runtime::network::Network;
use pv_drivers::runtime::{boot, clock};

use crate::{MIB, row};

/// Bytes that are sent and taken at once.
const CHUNK: usize = 1 << 16;
/// Round trips of a row.
const TURNS: u64 = 500;

/// What one connection does.
#[derive(Clone, Copy)]
struct Traffic {
    port: u16,
    /// Bytes to send and to take.
    out: u64,
    back: u64,
    /// The most that is sent before it came back.
    ahead: u64,
}

/// Does each work, `mib` MiB of each, and prints a row of each.
pub fn run(mib: u64, works: &str) -> Result<(), Error> {
    let address = boot::option("address").unwrap_or("10.0.3.33");
    let Ok(own) = address.parse() else {
        println!("iobench: {address} is no address");
        return Ok(());
    };
    let mut network = Network::open(own, 24)?;
    let all = mib * MIB;
    let traffic = |port, out, back, ahead| Traffic {
        port,
        out,
        back,
        ahead,
    };
    for work in works.split(',') {
        let (name, count, traffic) = match work {
            "send" => ("TCP to dom0", mib, traffic(9, all, 0, all)),
            "receive" => ("TCP from dom0", mib, traffic(19, 0, all, 0)),
            "echo" => ("TCP there and back", mib, traffic(7, all, all, all)),
            "turns" => (
                "TCP round trip, each",
                TURNS,
                traffic(7, TURNS * 64, TURNS * 64, 64),
            ),
            _ => {
                println!("iobench: `{work}` is no work for a card");
                continue;
            }
        };
        let start = clock::now();
        if connection(&mut network, traffic)? {
            row(&name, start, count);
        } else {
            println!("iobench: {work}: no connection");
        }
    }
    Ok(())
}

/// One connection from its beginning until all is moved; false if there is none.
fn connection(network: &mut Network, traffic: Traffic) -> Result<bool, Error> {
    let peer = boot::option("peer").unwrap_or("10.0.3.1");
    let Ok(peer) = peer.parse() else {
        return Ok(false);
    };
    let handle = network.tcp();
    if network.connect(handle, peer, traffic.port).is_err() {
        return Ok(false);
    }
    let mut memory = vec![0x5a; CHUNK];
    let (mut out, mut back) = (0, 0);
    loop {
        network.poll()?;
        let socket = network.socket(handle);
        socket.set_nagle_enabled(false);
        if !socket.is_active() {
            network.remove(handle);
            return Ok(out == traffic.out && back == traffic.back);
        }
        let before = (out, back);
        while socket.can_recv() {
            back += socket.recv_slice(&mut memory).unwrap_or(0) as u64;
        }
        let allowed = traffic.out.min(back.saturating_add(traffic.ahead));
        while out < allowed && socket.can_send() {
            let most = (allowed - out).min(CHUNK as u64) as usize;
            out += socket.send_slice(&memory[..most]).unwrap_or(0) as u64;
        }
        if out == traffic.out && back >= traffic.back {
            // The peer's end says that it has had everything.
            if traffic.back > 0 || !socket.may_recv() {
                network.remove(handle);
                return Ok(true);
            }
            socket.close();
        }
        if (out, back) != before {
            network.poll()?;
        }
        network.wait()?;
    }
}
