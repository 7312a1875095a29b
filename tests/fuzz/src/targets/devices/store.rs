//! A guest's client of xenstore, whose server answers what it likes, when it likes.

use pv_drivers::ring::{Page, XenstoreServer};
use pv_drivers::xenstore::wire::{Kind, Message};
use pv_drivers::xenstore::{Connection, Store, Surroundings};

use super::{Program, wire};

/// From `req_cons` on: indices, features, state, error.
const INDICES: usize = 2048;

/// Bodies that mean something to someone, or nearly.
const BODIES: &[&[u8]] = &[
    b"",
    b"\0",
    b"OK\0",
    b"1\0",
    b"0\0",
    b"4294967296\0",
    b"ENOENT\0",
    b"E2BIG\0",
    b"EAGAIN\0",
    b"EWHAT\0",
    b"a/b\0\x30\0",
    b"a/b\x001\0",
    b"a\0b\0c\0",
    b"7\0a\0b\0",
    b"7\0a\0\0",
    b"7\0",
    b"\xff\xfe\0\xff",
];

/// The target.
pub fn store(data: &[u8]) {
    steps(data);
}

/// A reply to one of the last requests, or to none; mostly of the kind that is waited for.
fn reply(program: &Program, asked: &Message) -> Message {
    let request = match program.below(4) {
        0 => program.below(1 << 16) as u32,
        near => asked.request.wrapping_add(near as u32).wrapping_sub(2),
    };
    let kind = match program.below(8) {
        0 => Kind(program.below(40) as u32),
        1 => Kind::ERROR,
        2 => Kind::WATCH_EVENT,
        _ => asked.kind,
    };
    let body = match program.below(6) {
        0 => vec![program.byte().unwrap_or(0); program.below(4097)],
        _ => BODIES[program.below(BODIES.len())].to_vec(),
    };
    Message {
        kind,
        request,
        transaction: asked.transaction,
        body,
    }
}

/// Runs a program; returns how many steps it had.
pub fn steps(data: &[u8]) -> usize {
    let program = Program::new(data);
    let (page, peers) = wire::page();
    let meddled = program.clone();
    let mut server = XenstoreServer::attach(peers.clone());
    let mut asked = Message {
        kind: Kind::READ,
        request: 1,
        transaction: 0,
        body: Vec::new(),
    };
    let (channel, _ended) = wire::connect(&program, move || {
        let program = &meddled;
        let Some(deed) = program.byte() else { return };
        match deed % 12 {
            0 => {
                let at = INDICES + 4 * program.below(7);
                let near = peers.load(at).wrapping_add(program.below(2000) as u32);
                peers.store(at, near.wrapping_sub(20));
            }
            1 => peers.write(program.below(4096), &[program.byte().unwrap_or(0)]),
            2 => {
                let _ = server.put(&vec![program.byte().unwrap_or(0); program.below(600)]);
            }
            3 => {}
            4 => server = XenstoreServer::attach(peers.clone()),
            5 => wire::event(),
            // A request has come; what it is may be seen by its head.
            _ => {
                let mut bytes = [0; 1024];
                let got = server.take(&mut bytes).unwrap_or(0);
                if let Some(&[kind, request, transaction, _]) =
                    bytes[..got].as_chunks::<4>().0.first_chunk::<4>()
                {
                    asked.kind = Kind(u32::from_le_bytes(kind));
                    asked.request = u32::from_le_bytes(request);
                    asked.transaction = u32::from_le_bytes(transaction);
                }
                let _ = server.put(&reply(program, &asked).to_bytes());
                wire::event();
            }
        }
    });
    let surroundings = Surroundings {
        now: wire::now,
        fired: || {},
    };
    let connection = Connection::new(page.clone(), channel, surroundings);
    let store = Store::new(connection, wire::Wire);
    let mut watches = Vec::new();
    while let Some(deed) = program.byte() {
        program.begins();
        match deed % 8 {
            0 => drop(store.read("a")),
            1 => drop(store.write("a/b", &vec![1; program.below(4200)])),
            2 => drop(store.list("a")),
            3 => drop(store.remove("a")),
            4 => {
                let watch = store.watch("a");
                watches.extend(watch.ok().filter(|_| watches.len() < 8));
            }
            5 => drop(watches.pop()),
            6 => watches
                .iter()
                .for_each(|watch| drop((watch.fired(), watch.changes()))),
            _ => drop(store.transaction(|t| t.read("a").and_then(|_| t.write("a", b"1")))),
        }
    }
    program.steps()
}
