//! Sends numbers to a server that sends them back, and checks every byte.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::random::Random;
use crate::{Failure, demand};

const CHUNK: usize = 1 << 20;

/// Sends back what any number of clients send, for ever.
pub fn serve(address: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let listener = TcpListener::bind(address).map_err(failed)?;
    loop {
        let (stream, _) = listener.accept().map_err(failed)?;
        // A client that goes away is its own loss.
        std::thread::spawn(move || echo(&stream));
    }
}

fn echo(mut stream: &TcpStream) -> std::io::Result<()> {
    let mut chunk = vec![0; 1 << 16];
    loop {
        match stream.read(&mut chunk)? {
            0 => return stream.shutdown(std::net::Shutdown::Write),
            count => stream.write_all(&chunk[..count])?,
        }
    }
}

/// Moves `mib` MiB to an echo server and the same back.
pub fn run(address: &str, mib: u64) -> Result<(), Failure> {
    let start = Instant::now();
    let failed = |error: std::io::Error| format!("{address}: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .map_err(failed)?;
    let mut sending = stream.try_clone().map_err(failed)?;
    let sender = std::thread::spawn(move || {
        let mut numbers = Random::new(mib);
        let mut chunk = vec![0; CHUNK];
        for _ in 0..mib {
            numbers.fill(&mut chunk);
            sending.write_all(&chunk)?;
        }
        sending.shutdown(std::net::Shutdown::Write)
    });
    let mut expected = Random::new(mib);
    let mut chunk = vec![0; CHUNK];
    for at in 0..mib {
        stream.read_exact(&mut chunk).map_err(failed)?;
        demand(expected.matches(&chunk), || {
            format!("{address}: wrong data in MiB {at}")
        })?;
    }
    sender
        .join()
        .map_err(|_| "the sender panicked")?
        .map_err(failed)?;
    println!(
        "{address}: {mib} MiB there and back in {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}
