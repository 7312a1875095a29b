//! A service manager's part of `sd_notify(3)`: the socket at which a daemon says that it is ready.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use crate::{Failure, demand};

/// Listens at a socket, `@` for an abstract one, until somebody says `READY=1` there.
pub fn run(socket: &str, seconds: u64) -> Result<(), Failure> {
    let failed = |error: std::io::Error| format!("{socket}: {error}");
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(socket),
    };
    let listener = address
        .and_then(|address| UnixDatagram::bind_addr(&address))
        .map_err(failed)?;
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        demand(!left.is_zero(), || {
            format!("{socket}: nobody is ready in {seconds} s")
        })?;
        listener.set_read_timeout(Some(left)).map_err(failed)?;
        let mut message = [0; 4096];
        let Ok(bytes) = listener.recv(&mut message) else {
            continue;
        };
        let message = String::from_utf8_lossy(&message[..bytes]);
        println!("{socket}: {message}");
        if message.lines().any(|line| line == "READY=1") {
            return Ok(());
        }
    }
}
