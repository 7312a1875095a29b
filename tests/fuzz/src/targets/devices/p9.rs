//! Files of another domain.

use pv_drivers::device::handshake::FrontendError;
use pv_drivers::device::testing::{Domain, Machine};
use pv_drivers::p9::testing::Server;
use pv_drivers::p9::{Access, File, Files, Options};

use super::{BACK, Backend, GUEST, PATIENCE, Program, Stage};

const HOME: &str = "device/9pfs/0";
const MOTD: &[u8] = b"Hello.\n";

/// The target.
pub fn p9(data: &[u8]) {
    steps(data);
}

impl Backend for Server<Domain> {
    const KIND: &'static str = "9pfs";
    const ID: u32 = 0;
    const NODES: &'static [&'static str] = &[
        "versions",
        "max-rings",
        "max-ring-page-order",
        "version",
        "num-rings",
        "ring-ref0",
        "event-channel-0",
        "backend",
    ];

    fn open(machine: &Machine, back: &str) -> Result<Self, FrontendError> {
        let mut server = Self::open(machine.domain(BACK), back)?;
        server.files().insert("etc/motd".into(), MOTD.into());
        Ok(server)
    }

    fn work(&mut self) {
        let _ = self.poll();
    }
}

/// Runs a program; returns how many steps it had.
pub fn steps(data: &[u8]) -> usize {
    let program = Program::new(data);
    let stage = Stage::<Server<Domain>>::hostile(&program);
    let options = Options {
        order: 1 + program.below(4) as u32,
        patience: PATIENCE,
    };
    let Ok(mut files) = Files::open(stage.machine.domain(GUEST), HOME, options) else {
        return program.steps();
    };
    let mut open = Vec::new();
    while let Some(deed) = program.byte() {
        program.begins();
        step(&mut files, &mut open, &program, deed);
    }
    stage.honest();
    files.connect().expect("an honest backend");
    let file = files
        .open_file("etc/motd", Access::Read)
        .expect("it is there");
    let mut into = [0; 100];
    let count = files.read(&file, 0, &mut into).expect("it is readable");
    assert_eq!(&into[..count], MOTD);
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
