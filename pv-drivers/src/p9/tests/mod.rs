//! Files of a backend in memory, and of one that lies.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::vec::Vec;

use super::testing::Server;
use super::*;
use crate::device::testing::{Domain, Machine};
use crate::device::{DomId, Store};
use crate::ring::Page;

const GUEST: DomId = DomId(5);
const BACK: DomId = DomId(0);
const HOME: &str = "device/9pfs/0";
const BACK_HOME: &str = "/local/domain/0/backend/9pfs/5/0";

type Back = Arc<Mutex<Server<Domain>>>;

/// A machine with a backend that runs while the guest waits.
fn rig() -> (Machine, Back) {
    let machine = Machine::new();
    machine.plug("9pfs", 0, GUEST, BACK);
    let mut server = Server::open(machine.domain(BACK), BACK_HOME).unwrap();
    server.files().insert("etc/motd".into(), b"Hello.\n".into());
    let back = Arc::new(Mutex::new(server));
    let runs = Arc::clone(&back);
    machine.meanwhile(move || {
        let _ = runs.lock().unwrap().poll();
    });
    (machine, back)
}

fn connected(machine: &Machine) -> Files<Domain> {
    let options = Options {
        patience: Duration::from_secs(2),
        ..Options::default()
    };
    let mut files = Files::open(machine.domain(GUEST), HOME, options).unwrap();
    files.connect().unwrap();
    files
}

#[test]
fn a_file_is_found_read_and_closed() {
    let (machine, back) = rig();
    let mut files = connected(&machine);
    let file = files.open_file("/etc/motd", Access::Read).unwrap();
    let mut text = [0; 100];
    assert_eq!(files.read(&file, 0, &mut text), Ok(7));
    assert_eq!(&text[..7], b"Hello.\n");
    assert_eq!(files.read(&file, 7, &mut text), Ok(0));
    let found = files.stat_file(&file).unwrap();
    assert_eq!(
        (found.kind, found.size, found.owner),
        (Kind::Regular, 7, (1, 2))
    );
    assert_eq!(found.permissions, 0o644);
    assert_eq!(found.modified, Duration::new(77, 5));
    files.close(file).unwrap();
    assert_eq!(files.stat("etc").unwrap().kind, Kind::Directory);
    assert_eq!(files.stat("").unwrap().kind, Kind::Directory);
    // The root's number is all that is left.
    assert_eq!(back.lock().unwrap().held(), 1);
}

#[test]
fn a_file_of_many_messages_comes_back_as_it_was_written() {
    let (machine, back) = rig();
    let mut files = connected(&machine);
    let file = files.create("etc/big", Access::ReadWrite, 0o600).unwrap();
    let data: Vec<u8> = (0..200_000_usize)
        .map(|n| (n * 31 + n / 251) as u8)
        .collect();
    let mut at = 0;
    while at < data.len() {
        let count = files.write(&file, at as u64, &data[at..]).unwrap();
        let most = data.len() - at;
        assert!(
            count == most || count > 4096,
            "a message is longer than a page"
        );
        at += count;
    }
    let mut found = vec![0; data.len()];
    at = 0;
    while at < found.len() {
        at += files.read(&file, at as u64, &mut found[at..]).unwrap();
    }
    assert_eq!(found, data);
    assert_eq!(files.stat("etc/big").unwrap().size, 200_000);
    files.close(file).unwrap();
    assert_eq!(back.lock().unwrap().held(), 1);
}

#[test]
fn what_is_not_there_is_refused_and_costs_no_number() {
    let (machine, back) = rig();
    let mut files = connected(&machine);
    for _ in 0..3 {
        for path in ["nothing", "etc/nothing", "etc/motd/nothing"] {
            let opened = files.open_file(path, Access::Read);
            assert_eq!(opened.err(), Some(Error::Refused(2)), "{path}");
        }
        let made = files.create("etc/motd", Access::Write, 0o600);
        assert_eq!(made.err(), Some(Error::Refused(17)));
        let deep = ["x"; 40].join("/");
        assert_eq!(files.stat(&deep), Err(Error::Refused(2)));
    }
    assert_eq!(back.lock().unwrap().held(), 1);
    assert!(files.stat("etc/motd").is_ok());
    assert_eq!(files.next, 2, "numbers are used again");
}

#[test]
fn a_long_path_is_walked_in_parts() {
    let (machine, back) = rig();
    let path = (0..50)
        .map(|n| std::format!("folder-{n}"))
        .collect::<Vec<_>>();
    let path = path.join("/");
    back.lock().unwrap().files().insert(path.clone(), vec![1]);
    let mut files = connected(&machine);
    assert_eq!(files.stat(&path).unwrap().size, 1);
    assert_eq!(
        files.stat(&std::format!("{path}/more")),
        Err(Error::Refused(2))
    );
    assert_eq!(back.lock().unwrap().held(), 1);
}

#[test]
fn a_backend_that_begins_anew_is_found_again() {
    let (machine, back) = rig();
    let mut files = connected(&machine);
    let old = files.open_file("etc/motd", Access::Read).unwrap();
    files.reconnect().unwrap();
    assert_eq!(files.stat("etc/motd"), Err(Error::Disconnected));
    files.connect().unwrap();
    assert_eq!(files.read(&old, 0, &mut [0; 4]), Err(Error::Disconnected));
    assert_eq!(files.stat("etc/motd").unwrap().size, 7);
    assert_eq!(back.lock().unwrap().held(), 1);
    files.end();
    back.lock().unwrap().poll().unwrap();
    assert!(machine.grants().is_empty());
}

/// What comes of answers that are changed so, and that the connection can be made again.
fn lied(tamper: fn(&mut Vec<u8>)) -> Error {
    let (machine, back) = rig();
    let mut files = connected(&machine);
    let file = files.open_file("etc/motd", Access::Read).unwrap();
    back.lock().unwrap().tamper = Some(tamper);
    let mut into = [0; 4];
    let error = files.read(&file, 0, &mut into).unwrap_err();
    back.lock().unwrap().tamper = None;
    assert_eq!(files.stat("etc/motd"), Err(Error::Disconnected));
    files.reconnect().unwrap();
    files.connect().unwrap();
    assert_eq!(files.stat("etc/motd").unwrap().size, 7);
    error
}

#[test]
fn answers_that_cannot_be_end_the_connection() {
    let length = Error::Misbehaved(Misbehaviour::Length);
    let kind = Error::Misbehaved(Misbehaviour::Kind);
    let count = Error::Misbehaved(Misbehaviour::Count);
    assert_eq!(lied(|answer| answer[0] = 6), length);
    assert_eq!(lied(|answer| answer[3] = 1), length);
    assert_eq!(lied(|answer| answer[4] = 119), kind);
    assert_eq!(lied(|answer| answer[5] ^= 1), kind);
    // More data than the answer has, and less.
    assert_eq!(lied(|answer| answer[7] += 1), length);
    assert_eq!(lied(|answer| answer[7] -= 1), length);
    // More than was asked for.
    let more = |answer: &mut Vec<u8>| {
        answer.push(0);
        answer[0] += 1;
        answer[7] += 1;
    };
    assert_eq!(lied(more), count);
    // A part of an answer, and no more.
    assert_eq!(lied(|answer| answer.truncate(9)), Error::TimedOut);
    assert_eq!(lied(Vec::clear), Error::TimedOut);
}

#[test]
fn impossible_indices_end_the_connection() {
    let (machine, _back) = rig();
    let mut files = connected(&machine);
    // The first page that was shared: how far answers have come.
    let indices = machine.page(machine.grants()[0]).unwrap();
    indices.store(4, indices.load(4).wrapping_add(1 << 20));
    assert_eq!(
        files.stat("etc/motd"),
        Err(Error::Misbehaved(Misbehaviour::Indices))
    );
}

#[test]
fn a_backend_of_another_kind_is_not_connected_to() {
    let (machine, _back) = rig();
    let options = Options::default();
    let dom0 = machine.domain(BACK);
    dom0.write(&std::format!("{BACK_HOME}/versions"), "2,3")
        .unwrap();
    let mut files = Files::open(machine.domain(GUEST), HOME, options).unwrap();
    let error = files.connect().unwrap_err();
    assert_eq!(
        error,
        Error::Nodes(crate::device::xenbus::Fault::Bad("versions"))
    );
}
