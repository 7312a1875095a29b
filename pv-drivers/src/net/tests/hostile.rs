//! With a backend that lies.

use xen_abi::netif::{
    NETRXF_EXTRA_INFO, NETRXF_MORE_DATA, NetifRxRequest, NetifRxResponse, NetifTxRequest,
    NetifTxResponse,
};

use super::*;
use crate::device::{Foreign, GrantRef};
use crate::ring::{BackRing, Page};

type TxRing<P> = BackRing<NetifTxRequest, NetifTxResponse, P>;
type RxRing<P> = BackRing<NetifRxRequest, NetifRxResponse, P>;

/// A connected card whose backend is a bare pair of rings from now on.
fn stolen() -> (Machine, Card<Domain>, TxRing<impl Page>, RxRing<impl Page>) {
    let (machine, _back, _cable) = rig(1);
    let card = connected(&machine, options());
    machine.rest();
    let dom0 = machine.domain(BACK);
    let map = |node| {
        let path = format!("/local/domain/5/{HOME}/{node}");
        let grant = dom0.read(&path).unwrap().unwrap();
        dom0.map(GUEST, GrantRef(grant.parse().unwrap())).unwrap()
    };
    let (tx, rx) = (map("tx-ring-ref"), map("rx-ring-ref"));
    (machine, card, BackRing::attach(tx), BackRing::attach(rx))
}

/// Answers the next pages that were posted with these flags, offsets and lengths.
fn answer(ring: &mut RxRing<impl Page>, parts: &[(u16, u16, i16)]) {
    for &(flags, offset, status) in parts {
        let id = ring.take().unwrap().unwrap().id;
        ring.put(&NetifRxResponse {
            id,
            offset,
            flags,
            status,
        })
        .unwrap();
    }
    let _ = ring.push();
}

fn receive(card: &mut Card<Domain>) -> Result<Option<Received>, Error> {
    card.receive(&mut Vec::new())
}

fn ends(mut card: Card<Domain>, why: Misbehaviour) {
    assert_eq!(receive(&mut card), Err(Error::Misbehaved(why)));
    assert_eq!(receive(&mut card), Err(Error::Disconnected));
    let sent = card.send(0, &[&[0; 60]], Offload::default());
    assert_eq!(sent, Err(Error::Disconnected));
    assert_eq!(card.poll(), Ok(()));
    card.reconnect().unwrap();
}

#[test]
fn a_part_that_leaves_its_page() {
    for (offset, status) in [(4000, 97), (4096, 1), (u16::MAX, i16::MAX)] {
        let (_machine, card, _tx, mut rx) = stolen();
        answer(&mut rx, &[(0, offset, status)]);
        ends(card, Misbehaviour::Extent);
    }
}

#[test]
fn a_part_of_another_slot() {
    let (_machine, card, _tx, mut rx) = stolen();
    rx.take().unwrap();
    rx.put(&NetifRxResponse {
        id: 7,
        status: 60,
        ..NetifRxResponse::default()
    })
    .unwrap();
    let _ = rx.push();
    ends(card, Misbehaviour::Id);
}

#[test]
fn a_frame_without_end() {
    let (_machine, card, _tx, mut rx) = stolen();
    answer(&mut rx, &[(NETRXF_MORE_DATA, 0, 0); 100]);
    ends(card, Misbehaviour::Chain);
    let (_machine, card, _tx, mut rx) = stolen();
    answer(&mut rx, &[(NETRXF_MORE_DATA, 0, 4096); 17]);
    ends(card, Misbehaviour::Chain);
}

#[test]
fn an_extra_slot_of_no_kind() {
    for kind in [0, 5, 255] {
        let (_machine, card, _tx, mut rx) = stolen();
        answer(&mut rx, &[(NETRXF_EXTRA_INFO, 0, 60)]);
        rx.take().unwrap();
        let id = u16::from_le_bytes([kind, 0]);
        rx.put(&NetifRxResponse {
            id,
            ..NetifRxResponse::default()
        })
        .unwrap();
        let _ = rx.push();
        ends(card, Misbehaviour::Extra);
    }
}

#[test]
fn more_frames_than_pages() {
    let (machine, card, _tx, _rx) = stolen();
    let path = format!("/local/domain/5/{HOME}/rx-ring-ref");
    let grant = machine.domain(BACK).read(&path).unwrap().unwrap();
    let page = machine.page(GrantRef(grant.parse().unwrap())).unwrap();
    page.store(8, 257);
    ends(card, Misbehaviour::Indices);
}

#[test]
fn failed_and_short_frames_are_dropped_and_counted() {
    let (_machine, mut card, _tx, mut rx) = stolen();
    answer(&mut rx, &[(0, 0, -1), (0, 0, 13), (0, 0, 0)]);
    answer(&mut rx, &[(NETRXF_MORE_DATA, 0, 60), (0, 0, -2)]);
    answer(&mut rx, &[(0, 100, 60)]);
    assert_eq!(receive(&mut card), Ok(Some(Received::default())));
    assert_eq!(card.failures(), (0, 4));
}

#[test]
fn a_frame_that_comes_in_pieces_is_whole_when_the_last_has_come() {
    let (_machine, mut card, _tx, mut rx) = stolen();
    answer(&mut rx, &[(NETRXF_MORE_DATA, 0, 60)]);
    assert_eq!(receive(&mut card), Ok(None));
    answer(&mut rx, &[(0, 0, 40)]);
    let mut got = Vec::new();
    assert!(card.receive(&mut got).unwrap().is_some());
    assert_eq!(got.len(), 100);
}

#[test]
fn answers_to_nothing_that_was_sent() {
    for (id, status, why) in [
        (1, 0, Misbehaviour::Id),
        (u16::MAX, -1, Misbehaviour::Id),
        // An extra slot's answer, when there was none.
        (0, 1, Misbehaviour::Extra),
    ] {
        let (_machine, mut card, mut tx, _rx) = stolen();
        card.send(0, &[&[0; 60]], Offload::default()).unwrap();
        card.push();
        let asked = tx.take().unwrap().unwrap();
        let id = if status == 1 { 0 } else { asked.id ^ id };
        tx.put(&NetifTxResponse { id, status }).unwrap();
        let _ = tx.push();
        assert_eq!(card.poll(), Err(Error::Misbehaved(why)));
    }
}

#[test]
fn states_and_values_in_every_order_end_in_an_answer() {
    let states = if cfg!(miri) { 2 } else { 9_u32 };
    for sequence in 0..states.pow(3) {
        let machine = Machine::new();
        machine.plug("vif", 0, GUEST, BACK);
        let dom0 = machine.domain(BACK);
        let copy = format!("{BACK_HOME}/feature-rx-copy");
        dom0.write(&copy, "1").unwrap();
        let short = Options {
            patience: Duration::from_millis(20),
            receive_pages: 2,
            ..options()
        };
        let mut card = Card::open(machine.domain(GUEST), HOME, short).unwrap();
        let mut rest = sequence;
        machine.meanwhile(move || {
            let state = (rest % 9).to_string();
            rest /= 9;
            dom0.write(&format!("{BACK_HOME}/state"), &state).unwrap();
        });
        let _ = card.connect();
        let _ = receive(&mut card);
        let _ = card.reconnect();
        let _ = card.connect();
    }
    let (machine, _back, _cable) = rig(1);
    let queues = format!("{BACK_HOME}/multi-queue-max-queues");
    machine.domain(BACK).write(&queues, "-3").unwrap();
    let mut card = Card::open(machine.domain(GUEST), HOME, options()).unwrap();
    let bad = Fault::Bad("multi-queue-max-queues");
    assert_eq!(card.connect(), Err(Error::Nodes(bad)));
}

#[test]
fn our_backend_survives_a_frontend_that_lies() {
    for word in [0, 1] {
        let (machine, back, _cable) = rig(1);
        let mut card = connected(&machine, options());
        let node = ["tx-ring-ref", "rx-ring-ref"][word];
        let path = format!("/local/domain/5/{HOME}/{node}");
        let grant = machine.domain(BACK).read(&path).unwrap().unwrap();
        let page = machine.page(GrantRef(grant.parse().unwrap())).unwrap();
        page.store(0, 100_000);
        back.lock()
            .unwrap()
            .network()
            .bring(frame(60, 0), Received::default());
        let mut back = back.lock().unwrap();
        assert_eq!(back.poll(), Err(backend::Error::Ring));
        assert!(!back.is_connected());
        assert!(card.poll().is_err());
    }
}
