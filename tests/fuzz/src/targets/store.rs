//! xenstore: messages, and the journal.

use std::collections::BTreeMap;

use dom0_tools::store::core::{ConnectionId, Host, Origin, Store};
use dom0_tools::store::journal::Record;
use dom0_tools::store::path::Path;
use dom0_tools::store::permissions::Permissions;
use dom0_tools::store::quota::Quota;
use dom0_tools::store::tree::Tree;
use dom0_tools::store::wire::{Assembler, Errno, Kind, Message, XENSTORE_PAYLOAD_MAX, join};
use dom0_tools::sys::{DomId, Mfn, Port};

const GUEST: DomId = DomId(7);
const OTHER: DomId = DomId(8);
const SECRET: &[u8] = b"another's secret";

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

/// A store with two guests that own their homes, and the ring of the first.
fn store() -> (Store, ConnectionId) {
    let mut store = Store::new(Quota::default());
    let dom0 = store.connect(Origin::Socket { read_only: false });
    for domain in [GUEST, OTHER] {
        let home = Path::home(domain);
        let mut value = join([home.as_str()]);
        value.extend_from_slice(SECRET);
        let owner = join([home.to_string(), format!("n{domain}")]);
        let ring = join([domain.to_string(), "0".into(), "1".into()]);
        for (kind, body) in [
            (Kind::WRITE, value),
            (Kind::SET_PERMS, owner),
            (Kind::INTRODUCE, ring),
        ] {
            store.handle(dom0, &message(kind, 0, body), &mut Willing);
        }
    }
    let ring = store.domains().find(|(domain, _)| *domain == GUEST);
    let ring = ring.expect("a guest").1.connection;
    (store, ring)
}

fn message(kind: Kind, transaction: u32, body: Vec<u8>) -> Message {
    Message {
        kind,
        request: 1,
        transaction,
        body,
    }
}

/// A guest's ring, then a program's socket.
pub fn messages(data: &[u8]) {
    let (mut store, ring) = store();
    talk(&mut store, ring, data);
    let home = Path::home(OTHER);
    let other = store.tree().get(&home).expect("another guest's home");
    assert_eq!(&**other.value(), SECRET, "a guest wrote to another's home");
    assert_eq!(**other.permissions(), Permissions::only(OTHER));
    let (used, quota) = (store.tree().usage(GUEST), Quota::default());
    assert!(used.nodes <= quota.nodes && used.bytes <= quota.bytes);
    survives(&mut store);
    let socket = store.connect(Origin::Socket { read_only: false });
    talk(&mut store, socket, data);
    survives(&mut store);
}

/// Says the bytes over a connection; what comes back are messages, and nobody's secret.
fn talk(store: &mut Store, id: ConnectionId, data: &[u8]) {
    let mut requests = Assembler::default();
    let mut replies = Assembler::default();
    for piece in data.chunks(1000) {
        requests.push(piece);
        while let Ok(Some(request)) = requests.next() {
            assert!(request.body.len() <= XENSTORE_PAYLOAD_MAX);
            if !store.may_ask(id) {
                return;
            }
            store.handle(id, &request, &mut Willing);
            while let Some(bytes) = store.output(id) {
                let count = bytes.len();
                replies.push(bytes);
                store.sent(id, count);
            }
            let mut answered = 0;
            while let Some(reply) = replies.next().expect("a reply of ours") {
                answered += u32::from(reply.kind != Kind::WATCH_EVENT);
            }
            // A released ring hears nothing any more.
            assert!(answered <= 1 && replies.is_empty());
        }
    }
}

/// A new daemon has the same tree.
fn survives(store: &mut Store) {
    let (restored, _) = Store::restore(Quota::default(), store.snapshot(&BTreeMap::new()));
    assert_eq!(contents(restored.tree()), contents(store.tree()));
    store.take_records();
}

fn contents(tree: &Tree) -> Vec<(String, Vec<u8>, String)> {
    let mut all = Vec::new();
    tree.walk(|path, node| {
        let permissions = node.permissions().to_string();
        all.push((path.to_string(), node.value().to_vec(), permissions));
    });
    all.sort();
    all
}

/// Records that are nonsense are passed over.
pub fn journal(data: &[u8]) {
    if let Ok(records) = postcard::from_bytes::<Vec<Record>>(data) {
        let (store, rings) = Store::restore(Quota::default(), records);
        let (again, _) = Store::restore(Quota::default(), store.snapshot(&rings));
        assert_eq!(contents(again.tree()), contents(store.tree()));
    }
}

pub fn conversations() -> Vec<Vec<u8>> {
    let say = |all: &[(Kind, u32, &[u8])]| {
        let messages = all
            .iter()
            .map(|&(kind, tx, body)| message(kind, tx, body.to_vec()));
        messages.flat_map(|message| message.to_bytes()).collect()
    };
    vec![
        say(&[
            (Kind::WRITE, 0, b"data/a\0value"),
            (Kind::MKDIR, 0, b"data/b\0"),
            (Kind::SET_PERMS, 0, b"data/a\0n7\0r8\0b0\0"),
            (Kind::GET_PERMS, 0, b"data/a\0"),
            (Kind::READ, 0, b"data/a\0"),
            (Kind::DIRECTORY, 0, b"data\0"),
            (Kind::DIRECTORY_PART, 0, b"data\x000\0"),
            (Kind::RM, 0, b"data/b\0"),
        ]),
        say(&[
            (Kind::WATCH, 0, b"data\0token\0"),
            (Kind::WATCH, 0, b"@releaseDomain\0t\0"),
            (Kind::TRANSACTION_START, 0, b"\0"),
            (Kind::WRITE, 1, b"data/x\x001"),
            (Kind::TRANSACTION_END, 1, b"T\0"),
            (Kind::UNWATCH, 0, b"data\0token\0"),
            (Kind::RESET_WATCHES, 0, b"\0"),
        ]),
        say(&[
            (Kind::GET_DOMAIN_PATH, 0, b"8\0"),
            (Kind::IS_DOMAIN_INTRODUCED, 0, b"8\0"),
            (Kind::INTRODUCE, 0, b"9\x001234\x005\0"),
            (Kind::RESUME, 0, b"9\0"),
            (Kind::SET_TARGET, 0, b"9\x008\0"),
            (Kind::RELEASE, 0, b"9\0"),
            (Kind::CONTROL, 0, b"print\0x\0"),
        ]),
    ]
}

pub fn journals() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for conversation in conversations() {
        let (mut store, ring) = store();
        talk(&mut store, ring, &conversation);
        seeds.extend(postcard::to_stdvec(&store.take_records()));
        seeds.extend(postcard::to_stdvec(&store.snapshot(&BTreeMap::new())));
    }
    seeds
}
