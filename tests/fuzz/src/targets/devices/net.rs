//! A network card.

use pv_drivers::device::Clock;
use pv_drivers::device::handshake::FrontendError;
use pv_drivers::device::testing::{Domain, Machine};
use pv_drivers::net::backend::{Network, Server};
use pv_drivers::net::{Card, Integrity, Offload, Options, Received, checksum};

use super::{BACK, Backend, GUEST, PATIENCE, Program, Stage};

const HOME: &str = "device/vif/0";

/// Sends back what it gets, and makes frames of its own.
#[derive(Default)]
struct Echo {
    frames: Vec<(Vec<u8>, Received)>,
}

impl Network for Echo {
    fn segments(&self) -> bool {
        true
    }

    fn transmit(&mut self, frame: &[u8], offload: Offload) {
        assert!(frame.len() >= 14, "no frame");
        if self.frames.len() < 20 {
            let received = Received {
                integrity: if offload.checksum {
                    Integrity::Blank
                } else {
                    Integrity::Unknown
                },
                segment: offload.segment,
            };
            self.frames.push((frame.to_vec(), received));
        }
    }

    fn next(&mut self, frame: &mut Vec<u8>) -> Option<Received> {
        let (bytes, received) = self.frames.pop()?;
        frame.extend_from_slice(&bytes);
        Some(received)
    }
}

/// The target.
pub fn net(data: &[u8]) {
    steps(data);
}

impl Backend for Server<Domain, Echo> {
    const KIND: &'static str = "vif";
    const ID: u32 = 0;
    const NODES: &'static [&'static str] = &[
        "feature-rx-copy",
        "feature-sg",
        "feature-gso-tcpv4",
        "feature-split-event-channels",
        "feature-ipv6-csum-offload",
        "multi-queue-max-queues",
        "multi-queue-num-queues",
        "tx-ring-ref",
        "rx-ring-ref",
        "event-channel-rx",
        "queue-0/tx-ring-ref",
        "request-rx-copy",
        "feature-no-csum-offload",
        "mac",
        "mtu",
        "backend",
    ];

    fn open(machine: &Machine, back: &str) -> Result<Self, FrontendError> {
        Self::open(machine.domain(BACK), back, Echo::default(), 2)
    }

    fn work(&mut self) {
        let _ = self.poll();
    }
}

/// Runs a program; returns how many steps it had.
pub fn steps(data: &[u8]) -> usize {
    let program = Program::new(data);
    let stage = Stage::<Server<Domain, Echo>>::hostile(&program);
    let options = Options {
        queues: 1 + program.below(3),
        receive_pages: 1 + program.below(40),
        large_receive: program.below(2) == 0,
        patience: PATIENCE,
    };
    let Ok(mut card) = Card::open(stage.machine.domain(GUEST), HOME, options) else {
        return program.steps();
    };
    while let Some(deed) = program.byte() {
        program.begins();
        step(&mut card, &program, deed);
    }
    stage.honest();
    card.connect().expect("an honest backend");
    card.send(0, &[&[5; 100]], Offload::default())
        .expect("an empty ring");
    card.push();
    let mut frame = Vec::new();
    for _ in 0..3 {
        card.platform().wait(card.platform().now() + PATIENCE);
        card.poll().expect("an honest backend");
        if card
            .receive(&mut frame)
            .expect("an honest backend")
            .is_some()
        {
            break;
        }
    }
    assert_eq!(frame, [5; 100]);
    program.steps()
}

/// One operation; whatever comes of it is right, as long as something does.
fn step(card: &mut Card<Domain>, program: &Program, deed: u8) {
    // Most of what is worth a try needs a connection.
    if card.features().is_none() && deed >= 32 {
        let _ = card.reconnect();
        let _ = card.connect();
    }
    match deed % 12 {
        0 => drop(card.connect()),
        1..=3 => send(card, program),
        4..=6 => {
            let mut frame = Vec::new();
            if let Ok(Some(_)) = card.receive(&mut frame) {
                assert!(frame.len() >= 14, "no frame");
                let _ = checksum::is_right(&frame);
                checksum::complete(&mut frame);
            }
        }
        7 => drop(card.reconnect().and_then(|()| card.connect())),
        8 => {
            let _ = (card.address(), card.mtu());
        }
        9 | 10 => drop(card.poll()),
        _ => {
            if card.arm() == Ok(false) {
                let until = card.platform().now() + PATIENCE;
                card.platform().wait(until);
            }
        }
    }
}

fn send(card: &mut Card<Domain>, program: &Program) {
    let mut frame = vec![0; program.below(10_000)];
    if let Some(kind) = frame.get_mut(12..14) {
        kind.copy_from_slice(&[8, 0]);
    }
    let offload = Offload {
        checksum: program.below(2) == 0,
        segment: (program.below(3) == 0).then_some(1000),
    };
    let (one, other) = frame.split_at(frame.len() / 2);
    let _ = card.send(program.below(3), &[one, other], offload);
    if program.below(2) == 0 {
        card.push();
    }
}
