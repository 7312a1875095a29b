//! FIFO delivery.

use super::*;
use proptest::prelude::*;

#[test]
fn fifo_errors() {
    let g = Guest::new(1, 1);
    let t = &g.table;
    let frame = || g.frame(&g.control);
    let expand = t.expand_array(frame(), &g, |_| ());
    assert_eq!(expand.unwrap_err().0, EventError::NotFifo);
    let bad = |v, o| t.init_control(v, o, frame(), &g).unwrap_err().0;
    assert_eq!(bad(1, 0), EventError::BadVcpu);
    assert_eq!(bad(0, 4), EventError::BadControl);
    assert_eq!(bad(0, 4096 - 64), EventError::BadControl);
    assert!(!t.is_fifo());
    t.init_control(0, 4096 - 72, frame(), &g).unwrap();
    assert_eq!(bad(0, 0), EventError::BadControl);
    let port = t.bind_ipi(0).unwrap().0;
    assert_eq!(t.set_priority(port, 16), Err(EventError::BadPriority));
    assert_eq!(t.set_priority(port, 15), Ok(()));
    assert_eq!(t.status(port).unwrap().priority, 15);
    for _ in 0..128 {
        t.expand_array(frame(), &g, |_| ()).unwrap();
    }
    let full = t.expand_array(frame(), &g, |_| ());
    assert_eq!(full.unwrap_err().0, EventError::ArrayFull);
    assert_eq!(t.close_some(16, &g, alone), Reset::Done);
    assert_eq!(t.end_fifo().unwrap().into_frames().count(), 129);
    assert!(!t.is_fifo());
}

#[test]
fn fifo_keeps_order_and_priority() {
    let g = Guest::fifo(1, 1);
    let ports: Vec<u32> = (0..5).map(|_| g.table.bind_ipi(0).unwrap().0).collect();
    g.table.set_priority(ports[3], 0).unwrap();
    assert_eq!(g.send(ports[2]).kick, Some(VcpuId(0)));
    for p in [4, 0, 3, 1] {
        assert_eq!(g.send(ports[p]).kick, None);
    }
    let order = [3, 2, 4, 0, 1].map(|p| ports[p]);
    assert_eq!(g.consume(0), order);
    assert_eq!(g.send(ports[1]).kick, Some(VcpuId(0)));
    assert_eq!(g.consume(0), [ports[1]]);
}

#[test]
fn fifo_raises_what_came_before_its_word() {
    let mut g = Guest::new(1, 1);
    let early = g.table.bind_ipi(0).unwrap().0;
    let _ = g.send(early);
    assert!(g.upcall(0));
    let frame = g.frame(&g.control);
    g.table.init_control(0, 0, frame, &g).unwrap();
    let late = g.table.bind_ipi(0).unwrap().0;
    assert_eq!(g.send(late), Delivery::NONE);
    let mut told = Vec::new();
    g.expand(|d| told.push(d));
    assert_eq!(told.len(), 2);
    assert_eq!(g.consume(0), [early, late]);
}

#[test]
fn a_closed_port_still_queued_is_not_given_out() {
    let g = Guest::fifo(1, 1);
    let port = g.table.bind_ipi(0).unwrap().0;
    let _ = g.send(port);
    g.table.close(port, &g, alone).unwrap();
    assert_eq!(g.table.bind_ipi(0), Ok(Port(2)));
    assert_eq!(g.consume(0), []);
    assert_eq!(g.table.bind_ipi(0), Ok(Port(1)));
}

#[derive(Clone, Debug)]
enum FifoAct {
    Send(u32),
    Mask(u32),
    Unmask(u32),
    Priority(u32, u32),
    Move(u32, u32),
    Consume(usize),
    Scribble(u32, u32),
}

fn fifo_act() -> impl Strategy<Value = FifoAct> {
    prop_oneof![
        6 => (1..9u32).prop_map(FifoAct::Send),
        1 => (1..9u32).prop_map(FifoAct::Mask),
        2 => (1..9u32).prop_map(FifoAct::Unmask),
        1 => (1..9u32, 0..16u32).prop_map(|(p, n)| FifoAct::Priority(p, n)),
        1 => (1..9u32, 0..3u32).prop_map(|(p, v)| FifoAct::Move(p, v)),
        2 => (0..3usize).prop_map(FifoAct::Consume),
    ]
}

/// Eight ports of a FIFO guest with three vCPUs, all movable.
fn fifo_guest() -> (Guest, Guest) {
    let g = Guest::fifo(1, 3);
    let peer = Guest::new(2, 1);
    for _ in 0..8 {
        let port = g.table.alloc_unbound(DomId(2)).unwrap();
        let (p, _) = peer
            .table
            .bind_interdomain(&g.table, port.0, &peer)
            .unwrap();
        assert_eq!(p, port);
    }
    (g, peer)
}

fn apply(g: &Guest, act: &FifoAct) {
    match *act {
        FifoAct::Send(p) => {
            let _ = g.table.receive(Port(p), DomId(2), p, g);
        }
        FifoAct::Mask(p) => {
            g.word(p).get().fetch_or(fifo::MASKED, Ordering::SeqCst);
        }
        FifoAct::Unmask(p) => {
            let _ = g.table.unmask(p, g).unwrap();
        }
        FifoAct::Priority(p, n) => g.table.set_priority(p, n).unwrap(),
        FifoAct::Move(p, v) => {
            let _ = g.table.bind_vcpu(p, v).unwrap();
        }
        FifoAct::Consume(v) => {
            let _ = g.consume(v);
        }
        FifoAct::Scribble(at, value) => {
            g.word(at % 1024).get().store(value, Ordering::SeqCst);
            let place = (at % 128 * 4) as usize;
            view(&g.control)
                .u32_at(place)
                .store(value, Ordering::SeqCst);
        }
    }
}

proptest! {
    #![proptest_config(cases(400))]

    /// Whatever the order of sends, masks, moves and upcalls: once every vCPU has
    /// taken its upcalls, no port is pending, unmasked and forgotten.
    #[test]
    fn fifo_loses_no_event(acts in prop::collection::vec(fifo_act(), 1..steps(120))) {
        let (g, _peer) = fifo_guest();
        for act in &acts {
            apply(&g, act);
        }
        for v in 0..3 {
            let _ = g.consume(v);
        }
        for port in 1..9 {
            let word = g.word(port).get().load(Ordering::SeqCst);
            let deliverable = word & (fifo::PENDING | fifo::MASKED) == fifo::PENDING;
            prop_assert!(!deliverable, "port {} lost: {:#x}", port, word);
            prop_assert_eq!(word & fifo::LINKED, 0);
        }
    }

    /// A guest that scribbles over words and heads only confuses itself.
    #[test]
    fn fifo_survives_scribbling(
        acts in prop::collection::vec(
            prop_oneof![
                fifo_act().prop_filter("the model guest follows links",
                    |a| !matches!(a, FifoAct::Consume(_))),
                (any::<u32>(), any::<u32>()).prop_map(|(a, v)| FifoAct::Scribble(a, v)),
            ], 1..steps(120)),
    ) {
        let (g, _peer) = fifo_guest();
        for act in &acts {
            apply(&g, act);
        }
    }
}
