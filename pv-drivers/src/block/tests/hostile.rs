//! With a backend that lies.

use xen_abi::blkif::{BLKIF_OP_READ, BLKIF_OP_WRITE, BlkifRequest, BlkifResponse};

use super::*;
use crate::device::{Foreign, GrantRef, Store};
use crate::ring::{BackRing, Page};

/// A connected disk whose backend is a bare ring from now on.
fn stolen() -> (
    Machine,
    Disk<Domain>,
    BackRing<BlkifRequest, BlkifResponse, impl Page>,
) {
    let (machine, _back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    machine.rest();
    let dom0 = machine.domain(BACK);
    let grant = dom0
        .read("/local/domain/5/device/vbd/51712/ring-ref")
        .unwrap();
    let grant = GrantRef(grant.unwrap().parse().unwrap());
    let page = dom0.map(GUEST, grant).unwrap();
    (machine, disk, BackRing::attach(page))
}

fn submit(disk: &mut Disk<Domain>) -> Tag {
    let buffer = disk.buffer(0, 512).unwrap();
    let tag = disk
        .submit(0, Operation::Read { sector: 0, buffer })
        .unwrap();
    disk.push();
    tag
}

fn response(id: u64, operation: u8, status: i16) -> BlkifResponse {
    BlkifResponse {
        id,
        operation,
        status,
        ..BlkifResponse::default()
    }
}

/// After misbehaviour everything ends with that error, and the disk can be connected anew.
fn ends(mut disk: Disk<Domain>, why: Misbehaviour) {
    let error = Error::Misbehaved(why);
    assert_eq!(disk.poll(), Err(error));
    assert_eq!(disk.completed().unwrap().result, Err(error));
    assert_eq!(disk.outstanding(), 0);
    assert_eq!(disk.read(0, &mut [0; 512]), Err(Error::Disconnected));
    assert_eq!(disk.poll(), Ok(()));
    disk.reconnect().unwrap();
}

#[test]
fn an_answer_to_no_request() {
    let (_machine, mut disk, mut ring) = stolen();
    submit(&mut disk);
    let asked = ring.take().unwrap().unwrap();
    ring.put(&response(asked.id ^ 1 << 40, asked.operation, 0))
        .unwrap();
    let _ = ring.push();
    ends(disk, Misbehaviour::Id);
}

#[test]
fn an_answer_given_twice() {
    let (_machine, mut disk, mut ring) = stolen();
    submit(&mut disk);
    submit(&mut disk);
    let asked = ring.take().unwrap().unwrap();
    ring.take().unwrap().unwrap();
    for _ in 0..2 {
        ring.put(&response(asked.id, asked.operation, 0)).unwrap();
    }
    let _ = ring.push();
    assert_eq!(disk.poll(), Err(Error::Misbehaved(Misbehaviour::Id)));
    assert_eq!(disk.completed().unwrap().result, Ok(()));
    assert!(disk.completed().unwrap().result.is_err());
}

#[test]
fn an_answer_of_an_old_request_whose_place_is_used_again() {
    let (_machine, mut disk, mut ring) = stolen();
    submit(&mut disk);
    let old = ring.take().unwrap().unwrap();
    ring.put(&response(old.id, BLKIF_OP_READ, 0)).unwrap();
    let _ = ring.push();
    disk.poll().unwrap();
    disk.completed().unwrap();
    submit(&mut disk);
    let new = ring.take().unwrap().unwrap();
    assert_eq!(new.id & 0xff, old.id & 0xff);
    ring.put(&response(old.id, BLKIF_OP_READ, 0)).unwrap();
    let _ = ring.push();
    ends(disk, Misbehaviour::Id);
}

#[test]
fn an_answer_to_another_operation() {
    let (_machine, mut disk, mut ring) = stolen();
    submit(&mut disk);
    let asked = ring.take().unwrap().unwrap();
    ring.put(&response(asked.id, BLKIF_OP_WRITE, 0)).unwrap();
    let _ = ring.push();
    ends(disk, Misbehaviour::Operation);
}

#[test]
fn more_answers_than_requests() {
    let (machine, mut disk, _ring) = stolen();
    submit(&mut disk);
    // Word 2 of a ring's page.
    let grant = machine.grants()[0];
    machine.page(grant).unwrap().store(8, 100);
    ends(disk, Misbehaviour::Indices);
}

#[test]
fn an_unknown_status_is_a_failure() {
    let (_machine, mut disk, mut ring) = stolen();
    submit(&mut disk);
    let asked = ring.take().unwrap().unwrap();
    ring.put(&response(asked.id, asked.operation, 77)).unwrap();
    let _ = ring.push();
    disk.poll().unwrap();
    assert_eq!(disk.completed().unwrap().result, Err(Error::Failed));
}

#[test]
fn impossible_values_in_the_store() {
    for (node, value) in [
        ("sectors", "-1"),
        ("sectors", "99999999999999999999"),
        ("sectors", "36028797018963968"),
        ("sector-size", "0"),
        ("sector-size", "513"),
        ("sector-size", "65536"),
        ("info", "x"),
        ("feature-max-indirect-segments", "many"),
        ("discard-granularity", "-1"),
    ] {
        let (machine, _back) = rig(backend::Options::default());
        let dom0 = machine.domain(BACK);
        dom0.write(&format!("{BACK_HOME}/{node}"), value).unwrap();
        let mut disk = open(&machine, options());
        let error = disk.connect().unwrap_err();
        assert!(
            matches!(error, Error::Nodes(Fault::Bad(bad)) if bad == node),
            "{node}={value}: {error:?}"
        );
    }
    let (machine, _back) = rig(backend::Options::default());
    let dom0 = machine.domain(BACK);
    let queues = format!("{BACK_HOME}/multi-queue-max-queues");
    dom0.write(&queues, "four").unwrap();
    assert!(open(&machine, options()).connect().is_err());
    dom0.remove(BACK_HOME).unwrap();
    assert!(open(&machine, options()).connect().is_err());
}

#[test]
fn states_in_every_order_end_in_an_answer() {
    // Every sequence of four states.
    let states = if cfg!(miri) { 2 } else { 9_u32 };
    for sequence in 0..states.pow(4) {
        let machine = Machine::new();
        machine.plug("vbd", 51712, GUEST, BACK);
        let dom0 = machine.domain(BACK);
        dom0.write(&format!("{BACK_HOME}/sectors"), "8").unwrap();
        let patience = Duration::from_millis(20);
        let mut disk = open(
            &machine,
            Options {
                patience,
                ..options()
            },
        );
        let mut rest = sequence;
        machine.meanwhile(move || {
            let state = (rest % 9).to_string();
            rest /= 9;
            dom0.write(&format!("{BACK_HOME}/state"), &state).unwrap();
        });
        let connected = disk.connect();
        let works = disk.flush();
        assert!(works.is_err(), "{sequence}: {connected:?} {works:?}");
        let _ = disk.reconnect();
        assert!(disk.connect().is_err() || disk.geometry().is_some());
    }
}

#[test]
fn a_store_that_stops_answering_can_come_back() {
    let (machine, _back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    machine.refuse_store(true);
    assert!(matches!(disk.poll(), Err(Error::Nodes(Fault::Refused(_)))));
    machine.refuse_store(false);
    disk.connect().unwrap();
}

#[test]
fn our_backend_survives_a_frontend_that_lies() {
    let (machine, back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    machine.rest();
    let grant = machine.grants()[0];
    let page = machine.page(grant).unwrap();
    page.store(0, 1000);
    assert_eq!(back.lock().unwrap().poll(), Err(backend::Error::Ring));
    let dom0 = machine.domain(BACK);
    let state = dom0.read(&format!("{BACK_HOME}/state")).unwrap();
    assert_eq!(State::parse(state.as_deref()), State::Closed);
    // The frontend sees that, and both come together again.
    assert!(disk.poll().is_err());
    disk.reconnect().unwrap();
    let runs = Arc::clone(&back);
    machine.meanwhile(move || {
        runs.lock().unwrap().poll().unwrap();
    });
    disk.connect().unwrap();
}
