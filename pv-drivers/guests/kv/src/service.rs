//! The protocol: a line asks, a line answers.

use alloc::vec::Vec;

use guest_kv::log::{Disk, Log};
use pv_drivers::runtime::network::Network;
use smoltcp::iface::SocketHandle;

/// Longest line.
const LINE: usize = 400;

/// One connection.
pub struct Client {
    handle: SocketHandle,
    /// What came of a line that is not whole.
    line: Vec<u8>,
    /// What the socket had no room for.
    answers: Vec<u8>,
}

impl Client {
    pub const fn new(handle: SocketHandle) -> Self {
        Self {
            handle,
            line: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Answers what has come.
    pub fn serve<D: Disk>(&mut self, network: &mut Network, log: &mut Log<D>, port: u16) {
        let socket = network.socket(self.handle);
        if !socket.is_open() {
            self.line.clear();
            self.answers.clear();
            // It cannot fail: the socket is closed and the port is not 0.
            let _ = socket.listen(port);
        }
        loop {
            let socket = network.socket(self.handle);
            self.send(socket);
            if !self.answers.is_empty() || !socket.can_recv() {
                return;
            }
            let mut buffer = [0; 512];
            let count = socket.recv_slice(&mut buffer).unwrap_or(0);
            for &byte in buffer.iter().take(count) {
                match byte {
                    b'\n' => {
                        let line = core::mem::take(&mut self.line);
                        self.answers.extend(answer(log, line.trim_ascii()));
                        self.answers.push(b'\n');
                    }
                    _ if self.line.len() < LINE => self.line.push(byte),
                    _ => return socket.abort(),
                }
            }
        }
    }

    fn send(&mut self, socket: &mut smoltcp::socket::tcp::Socket<'_>) {
        let sent = socket.send_slice(&self.answers).unwrap_or(0);
        self.answers.drain(..sent.min(self.answers.len()));
        if self.answers.is_empty() && socket.may_send() && !socket.may_recv() && !socket.can_recv()
        {
            socket.close();
        }
    }
}

/// The answer to a line, without its end.
fn answer<D: Disk>(log: &mut Log<D>, line: &[u8]) -> Vec<u8> {
    let mut words = line.splitn(3, |&byte| byte == b' ');
    let mut word = || words.next().unwrap_or_default();
    let done = match (word(), word(), word()) {
        (b"set", key, value) if !key.is_empty() => log.set(key, value),
        (b"del", key, _) if !key.is_empty() => log.remove(key),
        (b"get", key, _) => {
            return match log.get(key) {
                Some(value) => [b"value ", value].concat(),
                None => b"none".into(),
            };
        }
        (b"count", ..) => return alloc::format!("count {}", log.len()).into(),
        _ => return b"what?".into(),
    };
    match done {
        Ok(()) => b"ok".into(),
        Err(_) => b"failed".into(),
    }
}
