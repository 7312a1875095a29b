//! The store against simple models, and with guests that mean harm.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::journal::RingState;
use super::super::wire::{Assembler, one, split};
use super::*;

const GUEST: DomId = DomId(7);
const OTHER: DomId = DomId(8);

/// A host on which everything succeeds.
struct Willing;

impl Host for Willing {
    fn connect(&mut self, _: DomId, _: Mfn, _: Port) -> Result<(), Errno> {
        Ok(())
    }

    fn disconnect(&mut self, _: DomId) {}

    fn handle(&mut self, domain: DomId) -> [u8; 16] {
        [domain.0 as u8; 16]
    }
}

/// A store with dom0 on a socket and two guests that own their homes.
struct World {
    store: Store,
    dom0: ConnectionId,
    guest: ConnectionId,
    other: ConnectionId,
}

impl World {
    fn new() -> Self {
        let mut store = Store::new(Quota::default());
        let dom0 = store.connect(Origin::Socket { read_only: false });
        let mut world = Self {
            store,
            dom0,
            guest: dom0,
            other: dom0,
        };
        for domain in [GUEST, OTHER] {
            let home = Path::home(domain).to_string();
            world.done(dom0, Kind::WRITE, &[&home]);
            world.done(dom0, Kind::SET_PERMS, &[&home, &format!("n{domain}")]);
            world.done(dom0, Kind::INTRODUCE, &[&domain.to_string(), "0", "1"]);
        }
        world.guest = world.store.domains[&GUEST].connection;
        world.other = world.store.domains[&OTHER].connection;
        world
    }

    fn raw(&mut self, id: ConnectionId, kind: Kind, transaction: u32, body: Vec<u8>) {
        let message = Message {
            kind,
            request: 5,
            transaction,
            body,
        };
        self.store.handle(id, &message, &mut Willing);
    }

    fn messages(&mut self, id: ConnectionId) -> Vec<Message> {
        let mut assembler = Assembler::default();
        while let Some(bytes) = self.store.output(id) {
            let count = bytes.len();
            assembler.push(bytes);
            self.store.sent(id, count);
        }
        std::iter::from_fn(|| assembler.next().unwrap()).collect()
    }

    /// Asks; the reply, and drops events.
    fn within(&mut self, id: ConnectionId, transaction: u32, kind: Kind, s: &[&str]) -> Reply {
        // A value has no zero at its end.
        let mut body = join(s);
        if kind == Kind::WRITE && s.len() > 1 {
            body.pop();
        }
        self.raw(id, kind, transaction, body);
        let messages = self.messages(id);
        let reply = messages.into_iter().find(|m| m.kind != Kind::WATCH_EVENT);
        let reply = reply.expect("a reply");
        if reply.kind == Kind::ERROR {
            return Err(Errno::of_name(one(&reply.body).unwrap()).unwrap());
        }
        Ok(reply.body)
    }

    fn ask(&mut self, id: ConnectionId, kind: Kind, strings: &[&str]) -> Reply {
        self.within(id, 0, kind, strings)
    }

    fn done(&mut self, id: ConnectionId, kind: Kind, strings: &[&str]) {
        self.ask(id, kind, strings).unwrap();
    }

    fn start(&mut self, id: ConnectionId) -> u32 {
        let reply = self.ask(id, Kind::TRANSACTION_START, &[""]).unwrap();
        one(&reply).unwrap().parse().unwrap()
    }

    /// Paths of events that came.
    fn events(&mut self, id: ConnectionId) -> Vec<String> {
        let messages = self.messages(id).into_iter();
        let events = messages.filter(|m| m.kind == Kind::WATCH_EVENT);
        events
            .map(|m| String::from_utf8(split(&m.body).next().unwrap().to_vec()).unwrap())
            .collect()
    }
}

fn contents(tree: &Tree) -> BTreeMap<String, (Vec<u8>, String)> {
    let mut all = BTreeMap::new();
    tree.walk(|path, node| {
        let value = (node.value().to_vec(), node.permissions().to_string());
        all.insert(path.to_string(), value);
    });
    all
}

#[test]
fn missing_nodes_are_hidden_from_those_who_may_not_know() {
    let mut world = World::new();
    let guest = world.guest;
    assert_eq!(world.ask(guest, Kind::READ, &["none"]), Err(Errno::ENOENT));
    assert_eq!(world.ask(guest, Kind::READ, &["/none"]), Err(Errno::EACCES));
    let other = "/local/domain/8/x";
    assert_eq!(world.ask(guest, Kind::READ, &[other]), Err(Errno::EACCES));
    assert_eq!(
        world.ask(guest, Kind::WRITE, &[other, "1"]),
        Err(Errno::EACCES)
    );
    assert_eq!(world.ask(guest, Kind::RM, &["/"]), Err(Errno::EACCES));
    let dom0 = world.dom0;
    assert_eq!(world.ask(dom0, Kind::RM, &["/"]), Err(Errno::EINVAL));
    assert_eq!(world.ask(dom0, Kind::RM, &["/no/such"]), Err(Errno::ENOENT));
    assert_eq!(world.ask(dom0, Kind::RM, &["/none"]), Ok(done()));
}

#[test]
fn new_nodes_inherit_permissions_and_belong_to_their_maker() {
    let mut world = World::new();
    let (dom0, guest) = (world.dom0, world.guest);
    world.done(dom0, Kind::MKDIR, &["/shared"]);
    world.done(dom0, Kind::SET_PERMS, &["/shared", "n0", "b7", "r8"]);
    world.done(guest, Kind::WRITE, &["/shared/a/b", "1"]);
    let permissions = world.ask(dom0, Kind::GET_PERMS, &["/shared/a"]).unwrap();
    assert_eq!(permissions, b"n7\0b7\0r8\0");
    world.done(dom0, Kind::WRITE, &["/shared/a/c", "1"]);
    let permissions = world.ask(dom0, Kind::GET_PERMS, &["/shared/a/c"]).unwrap();
    assert_eq!(permissions, b"n7\0b7\0r8\0");
    // It owns it, but cannot give it away, and cannot change what it may only write.
    world.done(guest, Kind::SET_PERMS, &["/shared/a", "r7"]);
    let away = world.ask(guest, Kind::SET_PERMS, &["/shared/a", "n8"]);
    assert_eq!(away, Err(Errno::EPERM));
    let shared = world.ask(guest, Kind::SET_PERMS, &["/shared", "n0"]);
    assert_eq!(shared, Err(Errno::EACCES));
}

#[test]
fn a_removal_is_heard_above_below_and_nowhere_else() {
    let mut world = World::new();
    let dom0 = world.dom0;
    for path in ["/a/b/c", "/a/b/d", "/a/e"] {
        world.done(dom0, Kind::WRITE, &[path]);
    }
    for path in ["/a", "/a/b/c", "/a/e", "/a/b/none"] {
        world.done(dom0, Kind::WATCH, &[path, "t"]);
    }
    world.raw(dom0, Kind::RM, 0, join(["/a/b"]));
    assert_eq!(world.events(dom0), ["/a/b/c", "/a/b"]);
}

#[test]
fn who_may_not_read_hears_nothing() {
    let mut world = World::new();
    let (dom0, guest, other) = (world.dom0, world.guest, world.other);
    world.done(guest, Kind::WATCH, &["/", "t"]);
    world.done(other, Kind::WATCH, &["/local/domain/7", "t"]);
    world.done(dom0, Kind::WRITE, &["/tool/x", "1"]);
    world.done(dom0, Kind::WRITE, &["/local/domain/7/x", "1"]);
    assert_eq!(world.events(guest), ["/local/domain/7/x"]);
    assert!(world.events(other).is_empty());
    // Who loses the right hears of that.
    world.done(dom0, Kind::WRITE, &["/tool/y", "1"]);
    world.done(dom0, Kind::SET_PERMS, &["/tool/y", "n0", "r7"]);
    world.done(dom0, Kind::SET_PERMS, &["/tool/y", "n0"]);
    assert_eq!(
        world.events(guest),
        ["/tool/y"],
        "twice the same waits once"
    );
}

#[test]
fn an_event_that_waits_is_not_repeated() {
    let mut world = World::new();
    let (dom0, guest) = (world.dom0, world.guest);
    world.done(guest, Kind::WATCH, &["x", "t"]);
    for value in ["1", "2", "3"] {
        world.done(dom0, Kind::WRITE, &["/local/domain/7/x", value]);
    }
    assert_eq!(world.events(guest), ["x"]);
}

#[test]
fn special_watches_are_for_those_who_are_permitted() {
    let mut world = World::new();
    let (dom0, guest) = (world.dom0, world.guest);
    world.done(guest, Kind::WATCH, &["@releaseDomain", "t"]);
    world.store.domain_down(OTHER);
    assert!(world.events(guest).is_empty());
    world.done(dom0, Kind::SET_PERMS, &["@releaseDomain", "n0", "r7"]);
    world.done(dom0, Kind::RESUME, &["8"]);
    world.store.domain_down(OTHER);
    world.store.domain_down(OTHER);
    assert_eq!(world.events(guest), ["@releaseDomain"]);
    let permissions = world.ask(guest, Kind::SET_PERMS, &["@releaseDomain", "b7"]);
    assert_eq!(permissions, Err(Errno::EACCES));
}

#[test]
fn what_a_dead_domain_owned_and_was_permitted_is_gone() {
    let mut world = World::new();
    let dom0 = world.dom0;
    world.done(dom0, Kind::WRITE, &["/backend", "kept"]);
    world.done(dom0, Kind::SET_PERMS, &["/backend", "n0", "b7", "r8"]);
    world.store.domain_gone(GUEST, &mut Willing);
    let home = world.ask(dom0, Kind::READ, &["/local/domain/7"]);
    assert_eq!(home, Err(Errno::ENOENT));
    let permissions = world.ask(dom0, Kind::GET_PERMS, &["/backend"]).unwrap();
    assert_eq!(permissions, b"n0\0r8\0");
    assert_eq!(world.store.tree.usage(GUEST).nodes, 0);
    assert_eq!(world.ask(dom0, Kind::RELEASE, &["7"]), Err(Errno::ENOENT));
}

#[test]
fn a_target_lends_its_rights() {
    let mut world = World::new();
    let (dom0, guest) = (world.dom0, world.guest);
    let path = "/local/domain/8/x";
    assert!(world.ask(guest, Kind::WRITE, &[path, "1"]).is_err());
    world.done(dom0, Kind::SET_TARGET, &["7", "8"]);
    world.done(guest, Kind::WRITE, &[path, "1"]);
    world.store.domain_gone(OTHER, &mut Willing);
    assert!(world.ask(guest, Kind::WRITE, &[path, "1"]).is_err());
}

#[test]
fn quotas_hold() {
    let mut world = World::new();
    let guest = world.guest;
    let quota = Quota::default();
    let nodes = (0..).find(|n| world.ask(guest, Kind::MKDIR, &[&format!("d/{n}")]).is_err());
    // The names of children count for the node that has them, so it is full first.
    assert!(nodes.unwrap() < quota.nodes);
    let deep = (0..)
        .find(|n| {
            world
                .ask(guest, Kind::MKDIR, &[&format!("e/{}/{n}", n % 50)])
                .is_err()
        })
        .unwrap();
    assert!(world.store.tree.usage(GUEST).nodes <= quota.nodes, "{deep}");
    let big = "x".repeat(quota.node_bytes);
    assert_eq!(
        world.ask(guest, Kind::WRITE, &["", &big]),
        Err(Errno::EINVAL)
    );
    assert_eq!(
        world.ask(guest, Kind::WRITE, &["d", &big]),
        Err(Errno::ENOSPC)
    );
    let watches = (0..).find(|n| {
        world
            .ask(guest, Kind::WATCH, &["d", &n.to_string()])
            .is_err()
    });
    assert_eq!(watches, Some(quota.watches));
    for _ in 0..quota.transactions {
        world.start(guest);
    }
    let more = world.ask(guest, Kind::TRANSACTION_START, &[""]);
    assert_eq!(more, Err(Errno::ENOSPC));
    world.done(guest, Kind::RESET_WATCHES, &[""]);
    world.start(guest);
    let many = ["d", "n7", "r1", "r2", "r3", "r4", "r5"];
    assert_eq!(world.ask(guest, Kind::SET_PERMS, &many), Err(Errno::ENOSPC));
}

#[test]
fn a_guest_that_asks_without_listening_is_asked_nothing_more() {
    let mut world = World::new();
    let guest = world.guest;
    for _ in 0..Quota::default().outstanding {
        assert!(world.store.may_ask(guest));
        world.raw(guest, Kind::READ, 0, join([""]));
    }
    assert!(!world.store.may_ask(guest));
    world.messages(guest);
    assert!(world.store.may_ask(guest));
}

#[test]
fn transactions_that_add_different_children_do_not_disturb_each_other() {
    let mut world = World::new();
    let dom0 = world.dom0;
    let (one, two) = (world.start(dom0), world.start(dom0));
    for (transaction, path) in [(one, "/vm/1"), (two, "/libxl/2")] {
        world
            .within(dom0, transaction, Kind::WRITE, &[path])
            .unwrap();
    }
    world
        .within(dom0, one, Kind::TRANSACTION_END, &["T"])
        .unwrap();
    world
        .within(dom0, two, Kind::TRANSACTION_END, &["T"])
        .unwrap();
    // One that has listed the children is disturbed.
    let three = world.start(dom0);
    world
        .within(dom0, three, Kind::DIRECTORY, &["/vm"])
        .unwrap();
    world.within(dom0, three, Kind::WRITE, &["/x"]).unwrap();
    world.done(dom0, Kind::WRITE, &["/vm/3"]);
    let end = world.within(dom0, three, Kind::TRANSACTION_END, &["T"]);
    assert_eq!(end, Err(Errno::EAGAIN));
    assert_eq!(world.ask(dom0, Kind::READ, &["/x"]), Err(Errno::ENOENT));
    let over = world.within(dom0, three, Kind::READ, &["/vm"]);
    assert_eq!(over, Err(Errno::ENOENT));
}

/// What somebody does, by the number of one of three transactions.
#[derive(Clone, Debug)]
enum Step {
    Read(usize, String),
    List(usize, String),
    Write(usize, String, u8),
    Remove(usize, String),
    End(usize, bool),
}

fn place() -> impl Strategy<Value = String> {
    let name = || prop_oneof![Just("a"), Just("b")];
    prop_oneof![
        name().prop_map(|a| format!("/t/{a}")),
        (name(), name()).prop_map(|(a, b)| format!("/t/{a}/{b}")),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_usize..4, place()).prop_map(|(t, p)| Step::Read(t, p)),
        (0_usize..4, place()).prop_map(|(t, p)| Step::List(t, p)),
        (0_usize..4, place(), 48_u8..58).prop_map(|(t, p, v)| Step::Write(t, p, v)),
        (0_usize..4, place()).prop_map(|(t, p)| Step::Remove(t, p)),
        (1_usize..4, prop::bool::weighted(0.8)).prop_map(|(t, c)| Step::End(t, c)),
    ]
}

/// The store as a map of paths, changed by one request after the other.
type Model = BTreeMap<String, Vec<u8>>;

/// Kind, path, value and reply of a request in a transaction.
type Asked = (Kind, String, Vec<u8>, Reply);

fn ask_model(model: &mut Model, kind: Kind, path: &str, value: &[u8]) -> Reply {
    let below = format!("{path}/");
    match kind {
        Kind::READ => model.get(path).cloned().ok_or(Errno::ENOENT),
        Kind::DIRECTORY => {
            model.get(path).ok_or(Errno::ENOENT)?;
            let names = model.keys().filter_map(|key| key.strip_prefix(&below));
            Ok(join(names.filter(|name| !name.contains('/'))))
        }
        Kind::WRITE => {
            let mut parent = path;
            while let Some((up, _)) = parent.rsplit_once('/').filter(|(up, _)| !up.is_empty()) {
                model.entry(up.to_owned()).or_default();
                parent = up;
            }
            model.insert(path.to_owned(), value.to_vec());
            Ok(done())
        }
        _ => {
            let parent = path.rsplit_once('/').unwrap().0;
            model.get(parent).ok_or(Errno::ENOENT)?;
            model.retain(|key, _| key != path && !key.starts_with(&below));
            Ok(done())
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is committed is as if it had been done in one piece when it was committed.
    #[test]
    fn transactions_happen_one_after_the_other(steps in vec(step(), 1..80)) {
        let mut world = World::new();
        let dom0 = world.dom0;
        world.done(dom0, Kind::WRITE, &["/t"]);
        let mut model = Model::from([("/t".to_owned(), Vec::new())]);
        // Transaction 0 is none.
        let mut open: [Option<u32>; 4] = [Some(0), None, None, None];
        let mut logs: [Vec<Asked>; 4] = Default::default();
        for step in steps {
            let (t, kind, path, value) = match step {
                Step::Read(t, path) => (t, Kind::READ, path, Vec::new()),
                Step::List(t, path) => (t, Kind::DIRECTORY, path, Vec::new()),
                Step::Write(t, path, value) => (t, Kind::WRITE, path, vec![value]),
                Step::Remove(t, path) => (t, Kind::RM, path, Vec::new()),
                Step::End(t, commit) => {
                    let Some(number) = open[t].take() else { continue };
                    let log = std::mem::take(&mut logs[t]);
                    let how = if commit { "T" } else { "F" };
                    let end = world.within(dom0, number, Kind::TRANSACTION_END, &[how]);
                    let changes = |(kind, _, _, reply): &Asked| {
 matches!(*kind, Kind::WRITE | Kind::RM) && reply.is_ok()
 };
                    match end {
                        Ok(_) if commit && log.iter().any(changes) => {
                            for (kind, path, value, reply) in log {
                                let expected = ask_model(&mut model, kind, &path, &value);
                                prop_assert_eq!(reply, expected, "{:?} {}", kind, path);
                            }
                        }
                        Ok(_) => {}
                        Err(e) => prop_assert_eq!(e, Errno::EAGAIN),
                    }
                    continue;
                }
            };
            let number = match open[t] {
                Some(number) => number,
                None => *open[t].insert(world.start(dom0)),
            };
            let text = String::from_utf8(value.clone()).unwrap();
            let strings = [&*path, &*text];
            let strings = if kind == Kind::WRITE { &strings[..] } else { &strings[..1] };
            let reply = world.within(dom0, number, kind, strings);
            if t == 0 {
                let expected = ask_model(&mut model, kind, &path, &value);
                prop_assert_eq!(reply, expected, "{:?} {}", kind, path);
            } else {
                logs[t].push((kind, path, value, reply));
            }
        }
        let tree = contents(&world.store.tree);
        let tree = tree.into_iter().filter(|(path, _)| path.starts_with("/t") && !path.starts_with("/tool"));
        let tree: Model = tree.map(|(path, (value, _))| (path, value)).collect();
        prop_assert_eq!(tree, model);
    }

    /// A guest may say what it wants: it changes its own part alone, takes no more than its quota,
    /// and a daemon that takes over knows the same.
    #[test]
    fn a_hostile_guest_harms_nobody(
        messages in vec(
            (0_u32..26, 0_u32..4, hostile_body(), any::<bool>()),
            1..200,
        ),
    ) {
        let mut world = World::new();
        let guest = world.guest;
        let before = foreign(&world.store.tree);
        let mut records = world.store.take_records();
        for (kind, transaction, body, listens) in messages {
            if world.store.may_ask(guest) {
                world.raw(guest, Kind(kind), transaction, body);
            }
            if listens {
                world.messages(guest);
            }
            records.extend(world.store.take_records());
            prop_assert!(world.store.waiting(guest) <= 2 * Quota::default().bytes);
        }
        prop_assert_eq!(foreign(&world.store.tree), before);
        prop_assert!(world.store.tree.usage(GUEST).nodes <= Quota::default().nodes);
        let (again, _) = Store::restore(Quota::default(), records);
        prop_assert_eq!(contents(again.tree()), contents(&world.store.tree));
        let known = again.domains[&GUEST].connection;
        prop_assert_eq!(again.watches.usage(known), world.store.watches.usage(guest));
        let state = BTreeMap::from([(GUEST, RingState::default())]);
        let (third, rings) = Store::restore(Quota::default(), world.store.snapshot(&state));
        prop_assert_eq!(contents(third.tree()), contents(&world.store.tree));
        prop_assert_eq!(rings, state);
        let known = third.domains[&GUEST].connection;
        prop_assert_eq!(third.waiting(known), world.store.waiting(guest));
    }
}

/// All that is not the guest's.
fn foreign(tree: &Tree) -> BTreeMap<String, (Vec<u8>, String)> {
    let mut all = contents(tree);
    all.retain(|path, _| !path.starts_with("/local/domain/7"));
    all
}

/// Bodies that nearly make sense.
fn hostile_body() -> impl Strategy<Value = Vec<u8>> {
    let path = prop_oneof![
        Just("a"),
        Just("a/b"),
        Just(""),
        Just("/"),
        Just("/local/domain/8/x"),
        Just("/tool"),
        Just("@releaseDomain"),
        Just("../x"),
        Just("a//b"),
        Just("/local/domain/7"),
    ];
    let word = prop_oneof![
        Just("T"),
        Just("F"),
        Just("n7"),
        Just("b7"),
        Just("r8"),
        Just("n0"),
        Just("x"),
        Just("7"),
        Just("65535"),
        Just("-1"),
        Just("token"),
    ];
    prop_oneof![
        8 => (path.clone(), vec(word, 0..4)).prop_map(|(path, words)| {
            join(std::iter::once(path).chain(words))
        }),
        2 => (path, 0_usize..4000).prop_map(|(path, count)| {
            let mut body = join([path]);
            body.extend(std::iter::repeat_n(b'v', count));
            body
        }),
        1 => vec(any::<u8>(), 0..60),
    ]
}
