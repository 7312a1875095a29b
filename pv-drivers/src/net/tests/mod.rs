//! Cards against our own backend, and against one that lies.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::vec::Vec;

use super::backend::{self, Network, Server};
use super::*;
use crate::device::testing::{Domain, Machine};
use crate::device::{Clock, DomId, Store};

mod honest;
mod hostile;
mod stack;

const GUEST: DomId = DomId(5);
const BACK: DomId = DomId(0);
const HOME: &str = "device/vif/0";
const BACK_HOME: &str = "/local/domain/0/backend/vif/5/0";

type Frames<T> = Arc<Mutex<VecDeque<(Vec<u8>, T)>>>;

/// A cable: what the guest sent, what it is to receive.
#[derive(Clone, Default)]
struct Cable {
    sent: Frames<Offload>,
    coming: Frames<Received>,
}

impl Network for Cable {
    fn segments(&self) -> bool {
        true
    }

    fn transmit(&mut self, frame: &[u8], offload: Offload) {
        let mut sent = self.sent.lock().unwrap();
        sent.push_back((frame.to_vec(), offload));
    }

    fn next(&mut self, frame: &mut Vec<u8>) -> Option<Received> {
        let (bytes, received) = self.coming.lock().unwrap().pop_front()?;
        frame.extend_from_slice(&bytes);
        Some(received)
    }
}

impl Cable {
    fn bring(&self, frame: Vec<u8>, received: Received) {
        self.coming.lock().unwrap().push_back((frame, received));
    }

    fn taken(&self) -> Option<(Vec<u8>, Offload)> {
        self.sent.lock().unwrap().pop_front()
    }
}

type Back = Arc<Mutex<Server<Domain, Cable>>>;

/// A machine with the card's nodes, and a backend that runs while the guest waits.
fn rig(queues: usize) -> (Machine, Back, Cable) {
    let machine = Machine::new();
    machine.plug("vif", 0, GUEST, BACK);
    let nodes = machine.domain(GUEST);
    nodes
        .write("device/vif/0/mac", "00:16:3e:01:02:ff")
        .unwrap();
    let cable = Cable::default();
    let server = Server::open(machine.domain(BACK), BACK_HOME, cable.clone(), queues).unwrap();
    let back = Arc::new(Mutex::new(server));
    let runs = Arc::clone(&back);
    machine.meanwhile(move || {
        // A hostile frontend is another test's.
        runs.lock().unwrap().poll().expect("an honest frontend");
    });
    (machine, back, cable)
}

fn options() -> Options {
    Options {
        patience: Duration::from_secs(2),
        ..Options::default()
    }
}

fn connected(machine: &Machine, options: Options) -> Card<Domain> {
    let mut card = Card::open(machine.domain(GUEST), HOME, options).unwrap();
    card.connect().unwrap();
    card
}

/// A frame of IPv4 that is nobody's.
fn frame(len: usize, salt: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len)
        .map(|n| (n.wrapping_mul(31) + n / 4096 + salt) as u8)
        .collect();
    frame[12..14].copy_from_slice(&[8, 0]);
    frame
}
