//! Files of another domain.

use std::sync::{Arc, Mutex};

use pv_drivers::device::handshake::FrontendError;
use pv_drivers::device::testing::{Domain, Machine};
use pv_drivers::p9::testing::Server;
use pv_drivers::p9::{Access, File, Files, Options};

use super::{BACK, GUEST, Meddler, PATIENCE, Program, Turn};

const HOME: &str = "device/9pfs/0";
const MOTD: &[u8] = b"Hello.\n";

pub const NODES: &[&str] = &[
    "versions",
    "max-rings",
    "max-ring-page-order",
    "version",
    "num-rings",
    "ring-ref0",
    "event-channel-0",
    "backend",
];

/// The target.
pub fn p9(data: &[u8]) {
    steps(data);
}

fn open(machine: &Machine, back: &str) -> Result<Server<Domain>, FrontendError> {
    let mut server = Server::open(machine.domain(BACK), back)?;
    server.files().insert("etc/motd".into(), MOTD.into());
    Ok(server)
}

fn serve(machine: &Machine, back: &str) -> Arc<Mutex<Server<Domain>>> {
    Arc::new(Mutex::new(open(machine, back).expect("a device")))
}

/// Runs a program; returns how many steps it had.
pub fn steps(data: &[u8]) -> usize {
    let program = Program::new(data);
    let machine = Machine::new();
    machine.plug("9pfs", 0, GUEST, BACK);
    let mut meddler = Meddler::new(&machine, &program, "9pfs", 0);
    let back = meddler.back.clone();
    let server = serve(&machine, &back);
    let runs = program.clone();
    let (host, home) = (machine.clone(), back.clone());
    machine.meanwhile(move || {
        runs.waits();
        meddler.meddle(&mut |turn| {
            let mut server = server.lock().expect("one thread");
            match turn {
                // Whatever it found wrong, it goes on with the next.
                Turn::Work => drop(server.poll()),
                // Without its nodes there is no other one.
                Turn::Restart => {
                    if let Ok(next) = open(&host, &home) {
                        *server = next;
                    }
                }
            }
        });
    });
    let options = Options {
        order: 1 + program.below(4) as u32,
        patience: PATIENCE,
    };
    let Ok(mut files) = Files::open(machine.domain(GUEST), HOME, options) else {
        return program.steps();
    };
    let mut open = Vec::new();
    while let Some(deed) = program.byte() {
        program.begins();
        step(&mut files, &mut open, &program, deed);
    }
    Meddler::repair(&machine, &back);
    machine.plug("9pfs", 0, GUEST, BACK);
    let server = serve(&machine, &back);
    machine.meanwhile(move || {
        let _ = server.lock().expect("one thread").poll();
    });
    machine.restore(GUEST);
    files.connect().expect("an honest backend");
    let file = files
        .open_file("etc/motd", Access::Read)
        .expect("it is there");
    let mut into = [0; 100];
    let count = files.read(&file, 0, &mut into).expect("it is readable");
    assert_eq!(&into[..count], MOTD);
    // Its hook holds the machine itself.
    machine.rest();
    program.steps()
}

const PATHS: &[&str] = &[
    "etc/motd",
    "etc",
    "",
    "new",
    "etc/new",
    "etc/motd/no",
    "a/../b",
];

/// One operation; whatever comes of it is right, as long as something does.
fn step(files: &mut Files<Domain>, open: &mut Vec<File>, program: &Program, deed: u8) {
    let path = PATHS[program.below(PATHS.len())];
    match deed % 10 {
        0 => drop(files.connect()),
        1 | 2 => open.extend(files.open_file(path, Access::ReadWrite)),
        3 => open.extend(files.create(path, Access::Write, 0o600)),
        4 => drop(files.stat(path)),
        5 => {
            if let Some(file) = open.pop() {
                let _ = files.close(file);
            }
        }
        6 => {
            if let Some(file) = open.last() {
                let mut into = vec![0; program.below(20_000)];
                let count = files.read(file, program.below(100) as u64, &mut into);
                assert!(count.is_ok_and(|count| count <= into.len()) || count.is_err());
            }
        }
        7 => {
            if let Some(file) = open.last() {
                let from = vec![7; program.below(20_000)];
                let count = files.write(file, program.below(9000) as u64, &from);
                assert!(count.is_ok_and(|count| count <= from.len()) || count.is_err());
            }
        }
        8 => {
            if let Some(file) = open.last() {
                let _ = files.stat_file(file);
            }
        }
        _ => {
            open.clear();
            let _ = files.reconnect().and_then(|()| files.connect());
        }
    }
}
