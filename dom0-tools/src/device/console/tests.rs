//! The service with guests that are made up, some of them with harm in mind.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pv_drivers::ring::ConsoleFrontend;

use super::log::path_of;
use super::service::{Consoles, Request};
use crate::sys::fake::Machine;
use crate::sys::{Access, DomId, GntDev, GrantRef, Port, SharedPages};

/// As long as a busy machine may need.
const PATIENCE: Duration = Duration::from_secs(60);

struct Guest {
    machine: Machine,
    domain: DomId,
    port: Port,
    page: SharedPages,
}

impl Guest {
    fn new(machine: &Machine, number: u16) -> Self {
        let domain = DomId(number);
        Self {
            machine: machine.clone(),
            domain,
            page: machine.grant(domain, GrantRef(0)),
            port: machine.keep_port(domain, DomId::DOM0),
        }
    }

    fn request(&self) -> Request {
        let grant = [(self.domain, GrantRef(0))];
        Request {
            domain: self.domain,
            log: format!("g{}", self.domain),
            ring: GntDev::map(&self.machine, &grant, Access::Write).unwrap(),
            port: self.port,
        }
    }

    fn notify(&self) {
        self.machine.guest_notifies(self.domain, self.port);
    }

    /// Says it all, as fast as the ring takes it.
    fn say(&self, mut text: &[u8]) {
        let mut ring = ConsoleFrontend::attach(&self.page);
        let end = Instant::now() + PATIENCE;
        while !text.is_empty() {
            let count = ring.put(text).unwrap();
            text = &text[count..];
            self.notify();
            if count == 0 {
                std::thread::yield_now();
            }
            assert!(Instant::now() < end, "the ring is not emptied");
        }
    }
}

fn start() -> (Machine, Consoles, tempfile::TempDir) {
    let machine = Machine::new();
    let folder = tempfile::tempdir().unwrap();
    let evtchn = Arc::new(machine.evtchn());
    let (consoles, _) = Consoles::start(evtchn, folder.path().to_owned()).unwrap();
    (machine, consoles, folder)
}

/// Reads so many bytes of a terminal.
fn read(terminal: &str, bytes: usize) -> Vec<u8> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOCTTY)
        .open(terminal)
        .unwrap();
    let mut got = vec![0; bytes];
    file.read_exact(&mut got).unwrap();
    got
}

#[test]
fn what_a_guest_says_is_shown_and_kept() {
    let (machine, consoles, folder) = start();
    let guest = Guest::new(&machine, 1);
    guest.say(b"before ");
    let terminal = consoles.open(guest.request()).unwrap();
    guest.say(b"after\r\n");
    assert_eq!(read(&terminal, 14), b"before after\r\n");
    let log = std::fs::read(path_of(folder.path(), "g1")).unwrap();
    assert_eq!(log, b"before after\r\n");
}

#[test]
fn what_is_typed_reaches_the_guest() {
    let (machine, consoles, _folder) = start();
    let guest = Guest::new(&machine, 1);
    let terminal = consoles.open(guest.request()).unwrap();
    let mut file = OpenOptions::new().write(true).open(terminal).unwrap();
    file.write_all(b"ls\x03\r").unwrap();
    let mut ring = ConsoleFrontend::attach(&guest.page);
    let (mut got, end) = (Vec::<u8>::new(), Instant::now() + PATIENCE);
    while got.len() < 4 {
        let mut bytes = [0; 16];
        let count = ring.take(&mut bytes).unwrap();
        got.extend(&bytes[..count]);
        guest.notify();
        std::thread::yield_now();
        assert!(Instant::now() < end, "{got:?}");
    }
    assert_eq!(got, b"ls\x03\r");
    assert!(machine.guest_events(guest.domain, guest.port) > 0);
}

#[test]
fn a_flood_and_a_broken_ring_are_nobody_elses() {
    let (machine, consoles, folder) = start();
    let (flood, broken, good) = (
        Guest::new(&machine, 1),
        Guest::new(&machine, 2),
        Guest::new(&machine, 3),
    );
    for guest in [&flood, &broken, &good] {
        consoles.open(guest.request()).unwrap();
    }
    // `out_prod` far beyond `out_cons`.
    broken.page.store_u32(3084, 0x8000_0000);
    broken.notify();
    flood.say(&[b'x'; 400_000]);
    good.say(b"still here\n");
    let end = Instant::now() + PATIENCE;
    let log = path_of(folder.path(), "g3");
    while std::fs::read(&log).unwrap_or_default() != b"still here\n" {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    let of_broken = std::fs::read(path_of(folder.path(), "g2")).unwrap_or_default();
    assert!(of_broken.is_empty());
}

#[test]
fn a_console_can_be_closed_and_opened_anew() {
    let (machine, consoles, _folder) = start();
    let guest = Guest::new(&machine, 1);
    let before = machine.ports(DomId::DOM0);
    for _ in 0..3 {
        consoles.open(guest.request()).unwrap();
    }
    assert_eq!(machine.ports(DomId::DOM0), before + 1);
    consoles.close(guest.domain);
    consoles.close(guest.domain);
    assert_eq!(machine.ports(DomId::DOM0), before);
    let terminal = consoles.open(guest.request()).unwrap();
    guest.say(b"again");
    assert_eq!(read(&terminal, 5), b"again");
}
