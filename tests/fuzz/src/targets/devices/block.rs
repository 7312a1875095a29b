//! A disk.

use pv_drivers::block::backend::{self, Medium, MediumError, Server};
use pv_drivers::block::{Disk, Operation, Options};
use pv_drivers::device::Clock;
use pv_drivers::device::handshake::FrontendError;
use pv_drivers::device::testing::{Domain, Machine};

use super::{BACK, Backend, GUEST, PATIENCE, Program, Stage};

const HOME: &str = "device/vbd/51712";
const SECTORS: usize = 2048;

struct Ram(Vec<u8>);

impl Medium for Ram {
    fn sectors(&self) -> u64 {
        SECTORS as u64
    }

    fn discards(&self) -> bool {
        true
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), MediumError> {
        // Within the medium: so a backend promises.
        let start = sector as usize * 512;
        into.copy_from_slice(&self.0[start..start + into.len()]);
        Ok(())
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), MediumError> {
        let start = sector as usize * 512;
        self.0[start..start + from.len()].copy_from_slice(from);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MediumError> {
        Ok(())
    }

    fn discard(&mut self, sector: u64, count: u64) -> Result<(), MediumError> {
        assert!(sector + count <= SECTORS as u64, "beyond the medium");
        Ok(())
    }
}

/// The target.
pub fn block(data: &[u8]) {
    steps(data);
}

impl Backend for Server<Domain, Ram> {
    const KIND: &'static str = "vbd";
    const ID: u32 = 51712;
    const NODES: &'static [&'static str] = &[
        "sectors",
        "sector-size",
        "info",
        "feature-flush-cache",
        "feature-barrier",
        "feature-discard",
        "discard-granularity",
        "feature-max-indirect-segments",
        "feature-persistent",
        "multi-queue-max-queues",
        "multi-queue-num-queues",
        "ring-ref",
        "event-channel",
        "queue-0/ring-ref",
        "protocol",
        "backend",
        "backend-id",
    ];

    fn open(machine: &Machine, back: &str) -> Result<Self, FrontendError> {
        let options = backend::Options {
            queues: 2,
            segments: 32,
        };
        let ram = Ram(vec![0; SECTORS * 512]);
        Self::open(machine.domain(BACK), back, ram, options)
    }

    fn work(&mut self) {
        let _ = self.poll();
    }
}

/// Runs a program; returns how many steps it had.
pub fn steps(data: &[u8]) -> usize {
    let program = Program::new(data);
    let stage = Stage::<Server<Domain, Ram>>::hostile(&program);
    let options = Options {
        queues: 1 + program.below(3),
        segments: 1 + program.below(40),
        keep_pages: program.below(100),
        patience: PATIENCE,
    };
    let Ok(mut disk) = Disk::open(stage.machine.domain(GUEST), HOME, options) else {
        return program.steps();
    };
    while let Some(deed) = program.byte() {
        program.begins();
        step(&mut disk, &program, deed);
    }
    stage.honest();
    disk.connect().expect("an honest backend");
    let mut got = [0; 512];
    disk.write(1, &[7; 512]).expect("an honest backend");
    disk.read(1, &mut got).expect("an honest backend");
    assert_eq!(got, [7; 512]);
    program.steps()
}

/// One operation; whatever comes of it is right, as long as something does.
fn step(disk: &mut Disk<Domain>, program: &Program, deed: u8) {
    // Most of what is worth a try needs a connection.
    if disk.geometry().is_none() && deed >= 32 {
        let _ = disk.reconnect();
        let _ = disk.connect();
    }
    let sector = program.below(SECTORS + 10) as u64;
    let bytes = program.below(100) * 512;
    match deed % 12 {
        0 => drop(disk.connect()),
        1 | 2 => drop(disk.read(sector, &mut vec![0; bytes])),
        3 | 4 => drop(disk.write(sector, &vec![1; bytes])),
        5 => drop(disk.flush()),
        6 => drop(disk.discard(sector..sector + 8, program.below(2) == 0)),
        7 => drop(disk.reconnect().and_then(|()| disk.connect())),
        8 | 9 => submit(disk, program, sector, bytes),
        10 => {
            let _ = disk.poll();
            while let Some(completion) = disk.completed() {
                if let Some(buffer) = completion.buffer {
                    disk.recycle(program.below(3), buffer);
                }
            }
        }
        _ => {
            if disk.arm() == Ok(false) {
                let until = disk.platform().now() + PATIENCE;
                disk.platform().wait(until);
            }
        }
    }
}

fn submit(disk: &mut Disk<Domain>, program: &Program, sector: u64, bytes: usize) {
    let queue = program.below(3);
    let Ok(buffer) = disk.buffer(queue, bytes) else {
        return;
    };
    let operation = if program.below(2) == 0 {
        Operation::Read { sector, buffer }
    } else {
        Operation::Write { sector, buffer }
    };
    let _ = disk.submit(queue, operation);
    disk.push();
}
