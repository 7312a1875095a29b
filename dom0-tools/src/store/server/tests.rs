//! The server with clients on sockets, and with guests of a machine that is none.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use pv_drivers::ring::XenstoreClient;

use super::super::client::{Client, Error, Permissions};
use super::super::wire::{Assembler, Errno, Kind, Message, join, one};
use super::*;
use crate::sys::fake::Machine;
use crate::sys::{DomId, GrantRef, Mfn, Port, SharedPages, XenbusBackend};

const GUEST: DomId = DomId(7);
const LIMIT: Duration = Duration::from_secs(60);

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("oxen-store-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn options(&self) -> Options {
        Options {
            sockets: self.0.clone(),
            journal: self.0.join("journal"),
            quota: Quota::default(),
        }
    }

    fn client(&self) -> Client {
        Client::at(&self.0.join("socket")).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_client_reads_what_it_wrote() {
    let folder = Folder::new("plain");
    let _server = Server::start(&folder.options(), None).unwrap();
    let client = folder.client();
    client.write("/a/b", "one").unwrap();
    assert_eq!(client.read_text("/a/b").unwrap().as_deref(), Some("one"));
    assert_eq!(client.read("/a/c").unwrap(), None);
    assert_eq!(client.directory("/a").unwrap(), ["b"]);
    let permissions = Permissions::read_by(DomId(3), DomId(4));
    client.set_permissions("/a/b", &permissions).unwrap();
    assert_eq!(client.permissions("/a/b").unwrap(), Some(permissions));
    client.remove("/a").unwrap();
    client.remove("/a").unwrap();
    assert_eq!(client.read("/a/b").unwrap(), None);
    let refused = client.read("/a//b").unwrap_err();
    assert!(refused.is(Errno::EINVAL), "{refused}");
}

#[test]
fn a_directory_longer_than_a_message_is_read_in_parts() {
    let folder = Folder::new("parts");
    let _server = Server::start(&folder.options(), None).unwrap();
    let client = folder.client();
    let names: Vec<String> = (1000..1900).map(|n| format!("child-{n}")).collect();
    for name in &names {
        client.mkdir(&format!("/many/{name}")).unwrap();
    }
    assert_eq!(client.directory("/many").unwrap(), names);
}

#[test]
fn watches_begin_with_an_event_and_hear_of_all_below() {
    let folder = Folder::new("watch");
    let _server = Server::start(&folder.options(), None).unwrap();
    let (client, other) = (folder.client(), folder.client());
    let watch = client.watch("/x").unwrap();
    assert_eq!(watch.wait().unwrap().path, "/x");
    other.write("/x/y/z", "1").unwrap();
    assert_eq!(watch.wait().unwrap().path, "/x/y/z");
    let below = client.watch("/x/y").unwrap();
    assert_eq!(below.wait().unwrap().path, "/x/y");
    other.remove("/x").unwrap();
    assert_eq!(below.wait().unwrap().path, "/x/y");
    assert_eq!(watch.wait().unwrap().path, "/x");
    drop(watch);
    other.write("/x", "").unwrap();
    assert_eq!(below.wait_for(Duration::ZERO).unwrap(), None);
}

#[test]
fn transactions_of_many_threads_lose_nothing() {
    let folder = Folder::new("transactions");
    let _server = Server::start(&folder.options(), None).unwrap();
    let client = folder.client();
    client.write("/count", "0").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let client = client.clone();
            scope.spawn(move || {
                for _ in 0..25 {
                    client
                        .transaction(|t| {
                            let count: u32 = t.read_text("/count")?.unwrap().parse().unwrap();
                            t.write("/count", (count + 1).to_string())
                        })
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(client.read_text("/count").unwrap().as_deref(), Some("100"));
    let given_up: Result<(), Error> = client.transaction(|t| {
        t.write("/count", "7")?;
        Err(Error::Closed)
    });
    assert!(given_up.is_err());
    assert_eq!(client.read_text("/count").unwrap().as_deref(), Some("100"));
}

#[test]
fn a_read_only_socket_changes_nothing() {
    let folder = Folder::new("ro");
    let _server = Server::start(&folder.options(), None).unwrap();
    let client = Client::at(&folder.0.join("socket_ro")).unwrap();
    assert!(client.write("/a", "").unwrap_err().is(Errno::EROFS));
    assert!(client.directory("/").unwrap().contains(&"tool".to_owned()));
}

#[test]
fn a_second_server_is_refused() {
    let folder = Folder::new("second");
    let _server = Server::start(&folder.options(), None).unwrap();
    let second = Server::start(&folder.options(), None);
    assert!(matches!(second, Err(StartError::Served(_))));
}

/// Domains of the fake machine.
#[derive(Clone, Default)]
struct Domains(Arc<Mutex<BTreeMap<DomId, Living>>>);

impl Domains {
    fn set(&self, domain: DomId, living: Option<Living>) {
        let mut domains = self.0.lock().unwrap();
        match living {
            Some(living) => domains.insert(domain, living),
            None => domains.remove(&domain),
        };
    }
}

impl Hypervisor for Domains {
    fn living(&self, domain: DomId) -> io::Result<Option<Living>> {
        Ok(self.0.lock().unwrap().get(&domain).copied())
    }

    fn map(&self, _: DomId, _: Mfn) -> io::Result<SharedPages> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

const ALIVE: Living = Living {
    handle: [7; 16],
    shut_down: false,
    dying: false,
};

/// A machine with one guest, which has a ring.
struct World {
    machine: Machine,
    domains: Domains,
    guest_port: Port,
    guest: Guest,
}

/// One end of a ring, and the event channel that goes with it.
struct Guest {
    ring: XenstoreClient<SharedPages>,
    machine: Machine,
    domain: DomId,
    port: Port,
    assembler: Assembler,
    last: u32,
}

impl World {
    fn new() -> Self {
        let machine = Machine::new();
        let domains = Domains::default();
        domains.set(GUEST, Some(ALIVE));
        let page = machine.grant(GUEST, GrantRef(1));
        let guest_port = machine.keep_port(GUEST, DomId::DOM0);
        let guest = Guest {
            ring: XenstoreClient::attach(page),
            machine: machine.clone(),
            domain: GUEST,
            port: guest_port,
            assembler: Assembler::default(),
            last: 0,
        };
        Self {
            machine,
            domains,
            guest_port,
            guest,
        }
    }

    fn devices(&self) -> Devices {
        Devices {
            evtchn: Arc::new(self.machine.evtchn()),
            gntdev: Arc::new(self.machine.clone()),
            xenbus: Arc::new(self.machine.clone()),
            hypervisor: Box::new(self.domains.clone()),
        }
    }
}

impl Guest {
    fn send(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        let end = Instant::now() + LIMIT;
        while !rest.is_empty() {
            let count = self.ring.put(rest).unwrap();
            rest = &rest[count..];
            self.machine.guest_notifies(self.domain, self.port);
            assert!(Instant::now() < end, "the server takes nothing");
            std::thread::yield_now();
        }
    }

    fn receive(&mut self) -> Message {
        let end = Instant::now() + LIMIT;
        loop {
            if let Some(message) = self.assembler.next().unwrap() {
                return message;
            }
            let mut bytes = [0; 300];
            let count = self.ring.take(&mut bytes).unwrap();
            self.assembler.push(&bytes[..count]);
            if count != 0 {
                self.machine.guest_notifies(self.domain, self.port);
            }
            assert!(Instant::now() < end, "the server says nothing");
            std::thread::yield_now();
        }
    }

    fn message(&mut self, kind: Kind, transaction: u32, body: Vec<u8>) -> Vec<u8> {
        self.last += 1;
        let message = Message {
            kind,
            request: self.last,
            transaction,
            body,
        };
        message.to_bytes()
    }

    fn ask(&mut self, kind: Kind, transaction: u32, strings: &[&str]) -> Message {
        let bytes = self.message(kind, transaction, join(strings));
        self.send(&bytes);
        self.receive()
    }
}

fn error(message: &Message) -> Option<Errno> {
    (message.kind == Kind::ERROR).then(|| one(&message.body).and_then(Errno::of_name).unwrap())
}

fn introduce(client: &Client, world: &World) {
    let home = "/local/domain/7";
    client.mkdir(home).unwrap();
    let permissions = Permissions::only(GUEST);
    client.set_permissions(home, &permissions).unwrap();
    client.introduce(GUEST, Mfn(0), world.guest_port).unwrap();
}

#[test]
fn a_guest_uses_its_ring_and_goes() {
    let folder = Folder::new("guest");
    let mut world = World::new();
    let _server = Server::start(&folder.options(), Some(world.devices())).unwrap();
    let client = folder.client();
    let comes = client.watch("@introduceDomain").unwrap();
    let goes = client.watch("@releaseDomain").unwrap();
    comes.wait().unwrap();
    goes.wait().unwrap();
    introduce(&client, &world);
    assert_eq!(comes.wait().unwrap().path, "@introduceDomain");
    assert!(client.is_introduced(GUEST).unwrap());
    let guest = &mut world.guest;
    assert_eq!(guest.ask(Kind::WATCH, 0, &["data", "t"]).kind, Kind::WATCH);
    assert_eq!(guest.receive().body, b"data\0t\0");
    client.write("/local/domain/7/data/x", "hello").unwrap();
    assert_eq!(guest.receive().body, b"data/x\0t\0");
    assert_eq!(guest.ask(Kind::READ, 0, &["data/x"]).body, b"hello");
    // Nobody else's, and nothing that dom0 alone may.
    assert_eq!(
        error(&guest.ask(Kind::READ, 0, &["/tool"])),
        Some(Errno::EACCES)
    );
    assert_eq!(
        error(&guest.ask(Kind::RELEASE, 0, &["7"])),
        Some(Errno::EACCES)
    );
    assert_eq!(error(&guest.ask(Kind(99), 0, &[""])), Some(Errno::ENOSYS));
    // It shuts down, which is told once; then it dies.
    let shut_down = true;
    world
        .domains
        .set(GUEST, Some(Living { shut_down, ..ALIVE }));
    world.machine.raise_virq(3);
    goes.wait().unwrap();
    world.domains.set(GUEST, None);
    world.machine.raise_virq(3);
    goes.wait().unwrap();
    assert!(!client.is_introduced(GUEST).unwrap());
    assert_eq!(client.read("/local/domain/7").unwrap(), None);
}

#[test]
fn dom0s_kernel_uses_its_ring() {
    let folder = Folder::new("kernel");
    let world = World::new();
    let (page, port) = world.machine.ring().unwrap();
    let _server = Server::start(&folder.options(), Some(world.devices())).unwrap();
    let mut kernel = Guest {
        ring: XenstoreClient::attach(page),
        machine: world.machine.clone(),
        domain: DomId::DOM0,
        port,
        assembler: Assembler::default(),
        last: 0,
    };
    assert_eq!(kernel.ask(Kind::MKDIR, 0, &["/a"]).kind, Kind::MKDIR);
    assert_eq!(folder.client().read("/a").unwrap(), Some(Vec::new()));
}

#[test]
fn a_guest_that_breaks_its_ring_is_told_and_loses_only_itself() {
    let folder = Folder::new("broken");
    let mut world = World::new();
    let _server = Server::start(&folder.options(), Some(world.devices())).unwrap();
    let client = folder.client();
    introduce(&client, &world);
    let guest = &mut world.guest;
    let mut head = guest.message(Kind::READ, 0, Vec::new());
    head[12..16].copy_from_slice(&5000_u32.to_le_bytes());
    guest.send(&head);
    let end = Instant::now() + LIMIT;
    while guest.ring.fault() == 0 {
        assert!(Instant::now() < end);
        std::thread::yield_now();
    }
    assert_eq!(guest.ring.fault(), 3);
    client.write("/still", "here").unwrap();
}

#[test]
fn a_guest_that_takes_no_replies_stalls_only_itself() {
    let folder = Folder::new("stall");
    let mut world = World::new();
    let _server = Server::start(&folder.options(), Some(world.devices())).unwrap();
    let client = folder.client();
    introduce(&client, &world);
    client.write("/local/domain/7/big", [b'x'; 2000]).unwrap();
    let guest = &mut world.guest;
    let bytes: Vec<u8> = (0..200)
        .flat_map(|_| guest.message(Kind::READ, 0, join(["big"])))
        .collect();
    let mut rest = &bytes[..];
    // Until the ring stays full: the server has stopped to read.
    let mut idle = 0;
    while idle < 50 && !rest.is_empty() {
        let count = guest.ring.put(rest).unwrap();
        rest = &rest[count..];
        idle = if count == 0 { idle + 1 } else { 0 };
        guest.machine.guest_notifies(guest.domain, guest.port);
        client.write("/other", "served").unwrap();
    }
    assert!(
        !rest.is_empty(),
        "200 replies wait for a guest that takes none"
    );
    // It takes them after all: everything is answered.
    let mut answers = 0;
    while answers < 200 {
        let count = guest.ring.put(rest).unwrap();
        rest = &rest[count..];
        guest.machine.guest_notifies(guest.domain, guest.port);
        assert_eq!(guest.receive().body.len(), 2000);
        answers += 1;
    }
}

#[test]
fn a_guest_goes_on_after_the_server_began_anew() {
    let folder = Folder::new("anew");
    let mut world = World::new();
    let server = Server::start(&folder.options(), Some(world.devices())).unwrap();
    let client = folder.client();
    introduce(&client, &world);
    client.write("/kept", "yes").unwrap();
    let guest = &mut world.guest;
    guest.ask(Kind::WATCH, 0, &["data", "t"]);
    assert_eq!(guest.receive().kind, Kind::WATCH_EVENT);
    let transaction = guest.ask(Kind::TRANSACTION_START, 0, &[""]);
    let number: u32 = one(&transaction.body).unwrap().parse().unwrap();
    guest.ask(Kind::WRITE, number, &["data/lost", "x"]);
    // Half a request.
    let request = guest.message(Kind::WRITE, 0, join(["data/after"]));
    let (first, second) = request.split_at(20);
    guest.send(first);
    client.read("/kept").unwrap();
    drop(server);
    world.machine.close_evtchn();

    let _server = Server::start(&folder.options(), Some(world.devices())).unwrap();
    let client = folder.client();
    assert_eq!(client.read_text("/kept").unwrap().as_deref(), Some("yes"));
    assert!(client.is_introduced(GUEST).unwrap());
    let guest = &mut world.guest;
    guest.send(second);
    // Its watch is there still.
    let (mut event, mut reply) = (false, false);
    while !(event && reply) {
        let message = guest.receive();
        event |= message.kind == Kind::WATCH_EVENT && message.body == b"data/after\0t\0";
        reply |= message.kind == Kind::WRITE;
    }
    // Its transaction ends as one that was disturbed.
    let home = guest.ask(Kind::READ, number, &["/local/domain/7"]);
    assert_eq!(home.kind, Kind::READ);
    let end = guest.ask(Kind::TRANSACTION_END, number, &["T"]);
    assert_eq!(error(&end), Some(Errno::EAGAIN));
    assert_eq!(client.read("/local/domain/7/data/lost").unwrap(), None);
}

/// A guest that writes anything anywhere in its ring page, as fast as it can, beside one that
/// behaves and programs that use sockets.
#[test]
fn a_guest_that_scribbles_over_its_ring_disturbs_nobody() {
    let folder = Folder::new("scribble");
    let mut world = World::new();
    let evil = DomId(9);
    let handle = [9; 16];
    world.domains.set(evil, Some(Living { handle, ..ALIVE }));
    let page = world.machine.grant(evil, GrantRef(1));
    let port = world.machine.keep_port(evil, DomId::DOM0);
    let _server = Server::start(&folder.options(), Some(world.devices())).unwrap();
    let client = folder.client();
    introduce(&client, &world);
    client.introduce(evil, Mfn(0), port).unwrap();
    client.write("/local/domain/7/x", "kept").unwrap();
    let before = client.directory("/").unwrap();
    let mut random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    for round in 0..2000 {
        let mut bytes = [0; 64];
        random.fill_bytes(&mut bytes);
        match round % 4 {
            // Indices a little off, so that some are believed.
            0 => page.store_u32(2048 + 4 * (round % 7), u32::from(bytes[0]) * 5),
            1 => page.write(random.next_u32() as usize % 2048, &bytes),
            2 => {
                let message = Message {
                    kind: Kind(u32::from(bytes[0] % 24)),
                    request: 1,
                    transaction: u32::from(bytes[1] % 3),
                    body: bytes[2..].to_vec(),
                };
                let at = page.load_u32(2052) % 900;
                page.write(at as usize, &message.to_bytes());
                page.store_u32(2052, page.load_u32(2052).wrapping_add(78));
            }
            _ => page.store_u32(2048 + 4 * (bytes[0] as usize % 7), random.next_u32()),
        }
        world.machine.guest_notifies(evil, port);
        if round % 100 == 0 {
            // What it broke is mended by its tools, so that it can go on.
            client.introduce(evil, Mfn(0), port).unwrap_or_default();
            assert_eq!(world.guest.ask(Kind::READ, 0, &["x"]).body, b"kept");
        }
    }
    assert_eq!(client.directory("/").unwrap(), before);
    assert!(client.is_introduced(GUEST).unwrap());
}

#[test]
fn stopping_ends_the_thread() {
    let folder = Folder::new("stop");
    let server = Server::start(&folder.options(), None).unwrap();
    assert!(server.is_running());
    drop(server);
    assert!(Client::at(&folder.0.join("socket")).is_err());
}
