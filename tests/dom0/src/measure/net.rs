//! TCP to a peer in dom0 and from it. Its services are those of RFC 862 to 864: `echo` on port 7,
//! `discard` on port 9, and on port 19 one that sends for ever.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Instant;

use super::{MIB, row};
use crate::Failure;

const CHUNK: usize = 1 << 16;

/// Round trips of a row.
const TURNS: u64 = 500;

/// Serves discard and the endless one at an address; echo is [`crate::net::serve`]'s.
pub fn serve(address: &str) -> Result<(), Failure> {
    let sending = listen(address, 19)?;
    std::thread::spawn(move || each(&sending, send));
    each(&listen(address, 9)?, discard);
    Ok(())
}

fn listen(address: &str, port: u16) -> Result<TcpListener, Failure> {
    TcpListener::bind(format!("{address}:{port}")).map_err(|error| format!("{address}: {error}"))
}

fn each(listener: &TcpListener, serve: fn(&TcpStream) -> std::io::Result<()>) {
    for stream in listener.incoming().flatten() {
        // A client that goes away is its own loss.
        std::thread::spawn(move || serve(&stream));
    }
}

fn send(mut stream: &TcpStream) -> std::io::Result<()> {
    let chunk = vec![0x5a; CHUNK];
    loop {
        stream.write_all(&chunk)?;
    }
}

fn discard(mut stream: &TcpStream) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    while stream.read(&mut chunk)? > 0 {}
    stream.shutdown(Shutdown::Write)
}

/// Measures each work, which is `send`, `receive`, `echo` or `turns`, with the peer at an address,
/// `mib` MiB of each.
pub fn run(address: &str, mib: u64, works: &[&str]) -> Result<(), Failure> {
    for work in works {
        let start = Instant::now();
        match *work {
            "send" => to(address, mib).map(|()| row("TCP to dom0", start, mib)),
            "receive" => from(address, mib).map(|()| row("TCP from dom0", start, mib)),
            "echo" => there_and_back(address, mib).map(|()| row("TCP there and back", start, mib)),
            "turns" => turns(address).map(|()| row("TCP round trip, each", start, TURNS)),
            _ => return Err(format!("`{work}` is no work for a card")),
        }
        .map_err(|error| format!("{address}: {work}: {error}"))?;
    }
    Ok(())
}

fn connect(address: &str, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(format!("{address}:{port}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Ends when the peer has had everything.
fn to(address: &str, mib: u64) -> std::io::Result<()> {
    let mut stream = connect(address, 9)?;
    let chunk = vec![0x5a; CHUNK];
    for _ in 0..mib * MIB / CHUNK as u64 {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(Shutdown::Write)?;
    stream.read(&mut [0]).map(drop)
}

fn from(address: &str, mib: u64) -> std::io::Result<()> {
    let mut stream = connect(address, 19)?;
    let mut chunk = vec![0; CHUNK];
    (0..mib * MIB / CHUNK as u64).try_for_each(|_| stream.read_exact(&mut chunk))
}

fn there_and_back(address: &str, mib: u64) -> std::io::Result<()> {
    let mut stream = connect(address, 7)?;
    let mut sending = stream.try_clone()?;
    let count = mib * MIB / CHUNK as u64;
    let sender = std::thread::spawn(move || {
        let chunk = vec![0x5a; CHUNK];
        (0..count).try_for_each(|_| sending.write_all(&chunk))
    });
    let mut chunk = vec![0; CHUNK];
    (0..count).try_for_each(|_| stream.read_exact(&mut chunk))?;
    sender.join().unwrap_or(Ok(()))
}

/// A few bytes there and back, again and again.
fn turns(address: &str) -> std::io::Result<()> {
    let mut stream = connect(address, 7)?;
    let mut bytes = [0x5a; 64];
    for _ in 0..TURNS {
        stream.write_all(&bytes)?;
        stream.read_exact(&mut bytes)?;
    }
    Ok(())
}
