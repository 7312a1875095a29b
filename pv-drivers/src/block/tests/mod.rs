//! Disks against our own backend, and against one that lies.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::vec::Vec;

use super::backend::{self, Medium, MediumError, Server};
use super::*;
use crate::device::testing::{Domain, Machine};
use crate::device::xenbus::State;
use crate::device::{DomId, Store};

mod honest;
mod hostile;

const GUEST: DomId = DomId(5);
const BACK: DomId = DomId(0);
const HOME: &str = "device/vbd/51712";
const BACK_HOME: &str = "/local/domain/0/backend/vbd/5/51712";
/// Sectors of the disk.
const SECTORS: u64 = 4096;

/// A disk in memory that counts.
struct Ram {
    bytes: Vec<u8>,
    flushes: usize,
    discarded: Vec<(u64, u64)>,
    /// From this sector on nothing works.
    bad: u64,
}

impl Ram {
    fn new() -> Self {
        Self {
            bytes: vec![0; SECTORS as usize * SECTOR],
            flushes: 0,
            discarded: Vec::new(),
            bad: u64::MAX,
        }
    }

    fn range(&self, sector: u64, len: usize) -> Result<core::ops::Range<usize>, MediumError> {
        let start = sector as usize * SECTOR;
        if sector + (len / SECTOR) as u64 > self.bad {
            Err(MediumError::Failed)
        } else {
            Ok(start..start + len)
        }
    }
}

impl Medium for Ram {
    fn sectors(&self) -> u64 {
        SECTORS
    }

    fn discards(&self) -> bool {
        true
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), MediumError> {
        let range = self.range(sector, into.len())?;
        into.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), MediumError> {
        let range = self.range(sector, from.len())?;
        self.bytes[range].copy_from_slice(from);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), MediumError> {
        self.flushes += 1;
        Ok(())
    }

    fn discard(&mut self, sector: u64, count: u64) -> Result<(), MediumError> {
        self.discarded.push((sector, count));
        Ok(())
    }
}

type Back = Arc<Mutex<Server<Domain, Ram>>>;

/// A machine with the disk's nodes, and a backend that runs while the guest waits.
fn rig(options: backend::Options) -> (Machine, Back) {
    let machine = Machine::new();
    machine.plug("vbd", 51712, GUEST, BACK);
    let server = Server::open(machine.domain(BACK), BACK_HOME, Ram::new(), options).unwrap();
    let back = Arc::new(Mutex::new(server));
    let runs = Arc::clone(&back);
    machine.meanwhile(move || {
        // A hostile frontend is another test's.
        runs.lock().unwrap().poll().expect("an honest frontend");
    });
    (machine, back)
}

fn options() -> Options {
    Options {
        patience: Duration::from_secs(2),
        ..Options::default()
    }
}

fn open(machine: &Machine, options: Options) -> Disk<Domain> {
    Disk::open(machine.domain(GUEST), HOME, options).unwrap()
}

/// Bytes that differ from place to place.
fn pattern(len: usize, salt: usize) -> Vec<u8> {
    (0..len)
        .map(|n| (n.wrapping_mul(31) + n / 512 + salt) as u8)
        .collect()
}
