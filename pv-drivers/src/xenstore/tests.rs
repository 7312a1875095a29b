//! The client against a small server of its own kind, and against nonsense.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use proptest::prelude::*;

use super::wire::{Assembler, Errno, Kind, Message, join, split};
use super::*;
use crate::event::Channel;
use crate::hypercall::fake::{Domain, Host};
use crate::hypercall::{DomId, RawPage};
use crate::ring::{Page, XenstoreServer};

static FIRED: AtomicU64 = AtomicU64::new(0);

/// A clock that runs faster than any server.
fn hasty() -> u64 {
    static TIME: AtomicU64 = AtomicU64::new(0);
    TIME.fetch_add(20_000_000_000, Ordering::SeqCst)
}

fn patient() -> u64 {
    0
}

fn fired() {
    FIRED.fetch_add(1, Ordering::SeqCst);
}

struct Line {
    page: RawPage,
    client: Channel<Domain>,
    server: Channel<Domain>,
    guest: Domain,
}

fn line() -> Line {
    let host = Host::default();
    let (guest, dom0) = (host.domain(1), host.domain(0));
    let page = guest.page(&Arc::default()).raw();
    let client = Channel::offer(guest.clone(), guest.bits(), DomId(0)).unwrap();
    let server = Channel::bind(dom0.clone(), dom0.bits(), DomId(1), client.port()).unwrap();
    Line {
        page,
        client,
        server,
        guest,
    }
}

fn store(line: Line, now: fn() -> u64) -> (Store<RawPage, Domain>, Channel<Domain>, RawPage) {
    let surroundings = Surroundings { now, fired };
    let connection = Connection::new(line.page, line.client, surroundings);
    (Store::new(connection, line.guest), line.server, line.page)
}

/// A server with one flat tree, whose first transaction ends always fail.
struct Server {
    ring: XenstoreServer<RawPage>,
    channel: Channel<Domain>,
    tree: BTreeMap<String, Vec<u8>>,
    watches: Vec<(String, String)>,
    disturb: u32,
}

impl Server {
    fn answer(&mut self, request: &Message) -> Vec<Message> {
        let strings: Vec<String> = split(&request.body)
            .map(|s| String::from_utf8_lossy(s).into_owned())
            .collect();
        let path = strings.first().cloned().unwrap_or_default();
        let mut events = Vec::new();
        let body = match request.kind {
            Kind::READ => self.tree.get(&path).cloned().ok_or(Errno::ENOENT),
            Kind::WRITE => {
                let value = request.body[path.len() + 1..].to_vec();
                self.tree.insert(path.clone(), value);
                for (watched, token) in &self.watches {
                    if path.starts_with(watched.as_str()) {
                        events.push(join([path.as_str(), token.as_str()]));
                    }
                }
                Ok(b"OK\0".to_vec())
            }
            Kind::RM => match self.tree.remove(&path) {
                Some(_) => Ok(b"OK\0".to_vec()),
                None => Err(Errno::ENOENT),
            },
            Kind::DIRECTORY => {
                let below = format!("{path}/");
                let names = self.tree.keys().filter_map(|key| key.strip_prefix(&below));
                let list = join(names);
                if list.len() > 4096 {
                    Err(Errno::E2BIG)
                } else {
                    Ok(list)
                }
            }
            Kind::DIRECTORY_PART => {
                let below = format!("{path}/");
                let names = self.tree.keys().filter_map(|key| key.strip_prefix(&below));
                let mut list = join(names);
                list.push(0);
                let offset: usize = strings[1].parse().unwrap();
                let end = list.len().min(offset + 4000);
                Ok([b"7\0", &list[offset..end]].concat())
            }
            Kind::WATCH => {
                self.watches.push((path.clone(), strings[1].clone()));
                events.push(join([path.as_str(), strings[1].as_str()]));
                Ok(b"OK\0".to_vec())
            }
            Kind::UNWATCH => {
                self.watches.retain(|watch| watch.1 != strings[1]);
                Ok(b"OK\0".to_vec())
            }
            Kind::TRANSACTION_START => Ok(b"5\0".to_vec()),
            Kind::TRANSACTION_END if self.disturb > 0 => {
                self.disturb -= 1;
                Err(Errno::EAGAIN)
            }
            _ => Ok(b"OK\0".to_vec()),
        };
        let (kind, body) = match body {
            Ok(body) => (request.kind, body),
            Err(errno) => (Kind::ERROR, join([errno.name()])),
        };
        // Events first: the client must not take them for the reply.
        let mut messages: Vec<Message> = events
            .into_iter()
            .map(|body| Message {
                kind: Kind::WATCH_EVENT,
                request: 0,
                transaction: 0,
                body,
            })
            .collect();
        messages.push(Message {
            kind,
            body,
            ..request.clone()
        });
        messages
    }

    fn serve(mut self, end: &AtomicBool) {
        let mut assembler = Assembler::default();
        let mut buffer = [0; 100];
        loop {
            while let count @ 1.. = self.ring.take(&mut buffer).unwrap() {
                assembler.push(&buffer[..count]);
                self.channel.notify();
            }
            while let Some(request) = assembler.next().unwrap() {
                let bytes: Vec<u8> = self
                    .answer(&request)
                    .iter()
                    .flat_map(Message::to_bytes)
                    .collect();
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    rest = &rest[self.ring.put(rest).unwrap()..];
                    self.channel.notify();
                    thread::yield_now();
                }
            }
            if end.load(Ordering::SeqCst) {
                return;
            }
            let _ = self.channel.take();
            thread::yield_now();
        }
    }
}

/// Runs `client` beside a server.
fn served(disturb: u32, client: impl FnOnce(&Store<RawPage, Domain>)) {
    let (store, channel, page) = store(line(), patient);
    let end = AtomicBool::new(false);
    let server = Server {
        ring: XenstoreServer::attach(page),
        channel,
        tree: BTreeMap::new(),
        watches: Vec::new(),
        disturb,
    };
    thread::scope(|scope| {
        scope.spawn(|| server.serve(&end));
        client(&store);
        end.store(true, Ordering::SeqCst);
    });
}

#[test]
fn nodes_are_written_read_listed_and_removed() {
    served(0, |store| {
        assert_eq!(store.read("a/b"), Err(Error::Refused(Errno::ENOENT)));
        store.write("a/b", b"1").unwrap();
        store.write("a/c", &[0, 255]).unwrap();
        assert_eq!(store.read_text("a/b").unwrap(), "1");
        assert_eq!(store.read("a/c").unwrap(), [0, 255]);
        assert_eq!(store.read_text("a/c"), Err(Error::Refused(Errno::EINVAL)));
        assert_eq!(store.list("a").unwrap(), ["b", "c"]);
        store.remove("a/b").unwrap();
        assert_eq!(store.list("a").unwrap(), ["c"]);
        assert_eq!(store.list("x").unwrap(), Vec::<String>::new());
    });
}

#[test]
fn what_cannot_be_sent_is_not() {
    served(0, |store| {
        assert_eq!(store.write("a", &[1; 4095]), Err(Error::Unfit));
        assert_eq!(store.read("a\0b"), Err(Error::Unfit));
        store.write("a", &[1; 4094]).unwrap();
        assert_eq!(store.read("a").unwrap().len(), 4094);
    });
}

#[test]
fn a_list_longer_than_a_message_comes_in_parts() {
    served(0, |store| {
        let wanted: Vec<String> = (0..60).map(|n| format!("child-{n:080}")).collect();
        for name in &wanted {
            store.write(&format!("a/{name}"), b"").unwrap();
        }
        assert_eq!(store.list("a").unwrap(), wanted);
    });
}

#[test]
fn a_watch_fires_at_once_then_at_changes_and_no_more_when_dropped() {
    served(0, |store| {
        let other = store.watch("b").unwrap();
        let watch = store.watch("a").unwrap();
        assert!(watch.fired() && !watch.fired());
        store.write("a/x", b"1").unwrap();
        store.write("a/y", b"1").unwrap();
        store.write("c", b"1").unwrap();
        assert_eq!(watch.changes().unwrap(), ["a/x", "a/y"]);
        assert_eq!(watch.changes(), None);
        assert!(other.fired() && !other.fired());
        drop(watch);
        store.write("a/x", b"2").unwrap();
        assert!(!other.fired());
        assert!(FIRED.load(Ordering::SeqCst) > 0);
    });
}

#[test]
fn a_disturbed_transaction_is_tried_again() {
    served(3, |store| {
        let mut tries = 0;
        let got = store.transaction(|transaction| {
            tries += 1;
            transaction.write("a", b"1")?;
            transaction.read("a")
        });
        assert_eq!((got.unwrap(), tries), (b"1".to_vec(), 4));
        let failed: Result<(), _> = store.transaction(|_| Err(Error::Unfit));
        assert_eq!(failed, Err(Error::Unfit));
    });
    served(u32::MAX, |store| {
        let got = store.transaction(|_| Ok(()));
        assert_eq!(got, Err(Error::Refused(Errno::EAGAIN)));
    });
}

#[test]
fn a_restored_guest_goes_on_with_another_server_and_its_watches() {
    let host = Host::default();
    let (guest, dom0) = (host.domain(1), host.domain(0));
    let page = guest.page(&Arc::default()).raw();
    let connect = || {
        let client = Channel::offer(guest.clone(), guest.bits(), DomId(0)).unwrap();
        let port = client.port();
        let server = Channel::bind(dom0.clone(), dom0.bits(), DomId(1), port).unwrap();
        (client, server)
    };
    let server = |channel| Server {
        ring: XenstoreServer::attach(page),
        channel,
        tree: BTreeMap::new(),
        watches: Vec::new(),
        disturb: 0,
    };
    let serve = |server: Server, work: &mut dyn FnMut()| {
        let end = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| server.serve(&end));
            work();
            end.store(true, Ordering::SeqCst);
        });
    };
    let (client, first) = connect();
    let surroundings = Surroundings {
        now: patient,
        fired,
    };
    let store = Store::new(Connection::new(page, client, surroundings), guest.clone());
    let mut watch = None;
    serve(server(first), &mut || {
        store.write("a", b"1").unwrap();
        watch = Some(store.watch("a").unwrap());
    });
    assert!(watch.as_ref().unwrap().fired());
    // The last server's last word stays half said.
    XenstoreServer::attach(page).put(&[15, 0, 0, 0, 0]).unwrap();
    guest.restore();
    let (client, second) = connect();
    let mut client = Some(client);
    serve(server(second), &mut || {
        store.renew(page, client.take().unwrap()).unwrap();
        // It ends while there is somebody to tell.
        let watch = watch.take().unwrap();
        assert!(watch.fired(), "another tree");
        assert_eq!(store.read("a"), Err(Error::Refused(Errno::ENOENT)));
        store.write("a/b", b"2").unwrap();
        assert_eq!(watch.changes().unwrap(), ["a/b"]);
    });
}

#[test]
fn a_silent_server_is_late_and_a_full_ring_ends_the_connection() {
    let (store, _server, _) = store(line(), hasty);
    assert_eq!(store.read("a"), Err(Error::Late));
    assert_eq!(store.write("a", &[0; 2000]), Err(Error::Late));
    assert_eq!(store.read("a"), Err(Error::Broken));
}

#[test]
fn a_late_reply_is_not_the_next_requests() {
    let (store, channel, page) = store(line(), hasty);
    assert_eq!(store.read("a"), Err(Error::Late));
    let mut server = XenstoreServer::attach(page);
    for (request, body) in [(1, b"late"), (2, b"good")] {
        let reply = Message {
            kind: Kind::READ,
            request,
            transaction: 0,
            body: body.to_vec(),
        };
        server.put(&reply.to_bytes()).unwrap();
    }
    channel.notify();
    assert_eq!(store.read("b").unwrap(), b"good");
}

thread_local! {
    /// What notifies the client whenever it looks at the clock.
    static STORM: RefCell<Option<Channel<Domain>>> = const { RefCell::new(None) };
    static TIME: Cell<u64> = const { Cell::new(0) };
}

/// A clock in whose every second an event comes; nobody may wait for an hour.
fn stormy() -> u64 {
    STORM.with_borrow(|channel| channel.iter().for_each(Channel::notify));
    let time = TIME.get() + 1_000_000_000;
    TIME.set(time);
    assert!(time < 3_600_000_000_000, "it waits for ever");
    time
}

#[test]
fn events_without_an_answer_are_no_reason_to_wait_for_ever() {
    let (store, channel, _) = store(line(), stormy);
    STORM.set(Some(channel));
    assert_eq!(store.read("a"), Err(Error::Late));
    assert_eq!(store.write("a", &[0; 2000]), Err(Error::Late));
    STORM.set(None);
}

/// A ring into which the server puts an event whenever it is looked at.
struct Flooded {
    page: RawPage,
    left: Cell<u32>,
}

impl Page for Flooded {
    fn read(&self, offset: usize, into: &mut [u8]) {
        self.page.read(offset, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.page.write(offset, from);
    }

    fn load(&self, offset: usize) -> u32 {
        let event = Message {
            kind: Kind::WATCH_EVENT,
            request: 0,
            transaction: 0,
            body: join(["a/b", "0"]),
        };
        self.left.set(
            self.left
                .get()
                .checked_sub(1)
                .expect("it takes them for ever"),
        );
        let _ = XenstoreServer::attach(self.page).put(&event.to_bytes());
        self.page.load(offset)
    }

    fn store(&self, offset: usize, value: u32) {
        self.page.store(offset, value);
    }
}

#[test]
#[cfg_attr(miri, ignore = "a million looks at a ring")]
fn a_server_that_sends_without_end_is_late_all_the_same() {
    let Line {
        page,
        client,
        server: _server,
        guest,
    } = line();
    let left = Cell::new(1_000_000);
    let surroundings = Surroundings { now: stormy, fired };
    let connection = Connection::new(Flooded { page, left }, client, surroundings);
    let store = Store::new(connection, guest);
    assert_eq!(store.read("a"), Err(Error::Late));
    assert!(store.watch("a").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nonsense_of_a_server_is_an_error(
        replies in proptest::collection::vec((0_u32..24, 0_u32..6, any::<Vec<u8>>()), 0..6),
        rubbish in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
        index in proptest::option::of((0_usize..7, any::<u32>())),
    ) {
        let (store, _channel, page) = store(line(), hasty);
        let mut server = XenstoreServer::attach(page);
        for (kind, request, body) in replies {
            let message = Message { kind: Kind(kind), request, transaction: 0, body };
            let _ = server.put(&message.to_bytes());
        }
        if let Some(rubbish) = rubbish {
            let _ = server.put(&rubbish);
        }
        if let Some((n, value)) = index {
            page.store(2048 + 4 * n, value);
        }
        let _ = store.read("a");
        let _ = store.list("a");
        if let Ok(watch) = store.watch("a") {
            let _ = (watch.fired(), watch.changes());
        }
        let _ = store.transaction(|t| t.write("a", b"1"));
    }
}
