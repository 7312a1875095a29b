//! Ports, bindings and 2-level delivery.

use super::*;
use proptest::prelude::*;
use std::vec;

#[test]
fn ports_start_at_one_and_the_lowest_free_is_next() {
    let g = Guest::new(1, 2);
    assert_eq!(g.table.bind_ipi(0), Ok(Port(1)));
    assert_eq!(g.table.bind_ipi(1), Ok(Port(2)));
    assert_eq!(g.table.bind_virq(0, 1), Ok(Port(3)));
    g.table.close(2, &g, alone).unwrap();
    assert_eq!(g.table.alloc_unbound(DomId(0)), Ok(Port(2)));
    assert_eq!(g.table.open_ports(), 3);
}

#[test]
fn errors_of_binding() {
    let g = Guest::new(1, 2);
    let t = &g.table;
    assert_eq!(t.bind_ipi(2), Err(EventError::BadVcpu));
    assert_eq!(t.bind_virq(24, 0), Err(EventError::BadVirq));
    assert_eq!(t.bind_virq(3, 1), Err(EventError::BadVirq));
    assert_eq!(t.bind_virq(0, 2), Err(EventError::BadVcpu));
    for n in 0..24 {
        t.bind_virq(n, 0).unwrap();
        assert_eq!(t.bind_virq(n, 0), Err(EventError::Bound));
    }
    assert_eq!(g.bind_pirq(16), Err(EventError::BadPirq));
    let pirq = g.bind_pirq(15).unwrap();
    assert_eq!(g.bind_pirq(15), Err(EventError::Bound));
    assert_eq!(t.send(pirq.0, &g), Err(EventError::BadPort));
    assert_eq!(t.send(0, &g), Err(EventError::BadPort));
    assert_eq!(t.send(1, &g), Err(EventError::BadPort));
    assert_eq!(t.send(u32::MAX, &g), Err(EventError::BadPort));
    // Port 1 is VIRQ_TIMER of vCPU 0, port 4 a global one.
    assert_eq!(t.bind_vcpu(1, 1), Err(EventError::FixedVcpu));
    assert_eq!(t.bind_vcpu(1, 2), Err(EventError::BadVcpu));
    assert_eq!(t.bind_vcpu(4, 1), Ok(None));
    assert_eq!(t.bind_vcpu(pirq.0, 1), Ok(Some(15)));
    assert_eq!(t.bind_vcpu(60, 1), Err(EventError::BadPort));
    assert_eq!(t.set_priority(1, 0), Err(EventError::NoPriorities));
    assert_eq!(t.close(63, &g, alone), Err(EventError::BadPort));
    assert_eq!(t.status(63).unwrap().binding, Binding::Closed);
    assert_eq!(t.status(64), Err(EventError::BadPort));
    assert_eq!(t.close(pirq.0, &g, alone), Ok(()));
    // The line cannot be had: no port is left open.
    let open = t.open_ports();
    let refused = t.bind_pirq(15, &g, || Err(EventError::NoMemory));
    assert_eq!(refused, Err(EventError::NoMemory));
    assert_eq!((t.open_ports(), t.pirq_port(15)), (open, None));
    assert!(g.bind_pirq(15).is_ok());
    t.set_dying();
    assert_eq!(t.bind_ipi(0), Err(EventError::Dying));
}

#[test]
fn the_port_limit_holds() {
    let g = Guest {
        table: PortTable::new(DomId(1), 1, 0, 100).unwrap(),
        ..Guest::new(1, 1)
    };
    for n in 1..=100 {
        assert_eq!(g.table.bind_ipi(0), Ok(Port(n)));
    }
    assert_eq!(g.table.bind_ipi(0), Err(EventError::NoPort));
    g.table.close(77, &g, alone).unwrap();
    assert_eq!(g.table.bind_ipi(0), Ok(Port(77)));
    assert_eq!(g.table.bind_ipi(0), Err(EventError::NoPort));
}

#[test]
#[cfg_attr(miri, ignore = "slow")]
fn two_level_ports_end_at_4095() {
    let g = Guest::new(1, 1);
    for n in 1..4096 {
        assert_eq!(g.table.bind_ipi(0), Ok(Port(n)));
    }
    assert_eq!(g.table.bind_ipi(0), Err(EventError::NoPort));
    assert!(g.send(4095).kick.is_some());
    assert_eq!(g.info[1].load(Ordering::Relaxed), 1 << 63);
}

#[test]
fn two_level_delivery() {
    let g = Guest::new(1, 2);
    let port = g.table.bind_ipi(1).unwrap();
    let first = Delivery {
        kick: Some(VcpuId(1)),
        raised: Some(port),
    };
    assert_eq!(g.send(port.0), first);
    assert!(g.pending(port.0));
    assert_eq!(g.send(port.0), Delivery::NONE);
    // Masked: pending but nobody is told, until it is unmasked.
    g.info[256].store(0, Ordering::Relaxed);
    g.info[9].store(0, Ordering::Relaxed);
    assert!(g.upcall(1));
    g.mask(port.0).fetch_or(1 << port.0, Ordering::Relaxed);
    let masked = Delivery {
        kick: None,
        raised: Some(port),
    };
    assert_eq!(g.send(port.0), masked);
    assert!(g.table.is_masked(port.0, &g).unwrap());
    let unmasked = Delivery {
        kick: Some(VcpuId(1)),
        raised: None,
    };
    assert_eq!(g.table.unmask(port.0, &g), Ok(unmasked));
    assert_eq!(g.table.unmask(port.0, &g), Ok(Delivery::NONE));
    // A second port while the upcall is still pending: no second kick.
    let other = g.table.bind_ipi(1).unwrap();
    assert_eq!(g.send(other.0).kick, None);
}

#[test]
fn interdomain_connects_sends_and_closes() {
    let a = Guest::new(0, 1);
    let b = Guest::new(5, 2);
    let there = b.table.alloc_unbound(DomId(0)).unwrap();
    assert_eq!(b.table.send(there.0, &b), Ok(Sent::Dropped));
    assert_eq!(
        b.table.bind_interdomain(&a.table, there.0, &b),
        Err(EventError::NotForCaller)
    );
    assert_eq!(
        a.table.bind_interdomain(&b.table, 64, &a),
        Err(EventError::BadPort)
    );
    let (here, d) = a.table.bind_interdomain(&b.table, there.0, &a).unwrap();
    assert_eq!(d.kick, Some(VcpuId(0)));
    assert!(a.pending(here.0));
    assert_eq!(
        a.table.bind_interdomain(&b.table, there.0, &a),
        Err(EventError::NotForCaller)
    );
    let _ = b.table.bind_vcpu(there.0, 1).unwrap();
    let Ok(Sent::Remote { domain, port }) = a.table.send(here.0, &a) else {
        panic!();
    };
    assert_eq!((domain, port), (DomId(5), there));
    let d = b.table.receive(port, DomId(0), here.0, &b);
    assert_eq!(d.kick, Some(VcpuId(1)));
    assert_eq!(b.table.receive(port, DomId(7), here.0, &b), Delivery::NONE);
    a.table
        .close(here.0, &a, |d| (d == DomId(5)).then_some(&b))
        .unwrap();
    assert_eq!(b.table.receive(port, DomId(0), here.0, &b), Delivery::NONE);
    assert!(!a.pending(here.0));
    assert_eq!(
        b.table.status(there.0).unwrap().binding,
        Binding::Unbound { remote: DomId(0) }
    );
    let (_, _) = a.table.bind_interdomain(&b.table, there.0, &a).unwrap();
    assert_eq!(b.table.status(there.0).unwrap().vcpu, VcpuId(1));
}

#[test]
fn loopback() {
    let g = Guest::new(3, 1);
    let far = g.table.alloc_unbound(DomId(3)).unwrap();
    let (near, _) = g.table.bind_interdomain(&g.table, far.0, &g).unwrap();
    let Ok(Sent::Remote { domain, port }) = g.table.send(near.0, &g) else {
        panic!();
    };
    assert_eq!((domain, port), (DomId(3), far));
    g.table.close(far.0, &g, alone).unwrap();
    assert_eq!(
        g.table.status(near.0).unwrap().binding,
        Binding::Unbound { remote: DomId(3) }
    );
}

#[test]
fn interrupts_reach_their_port() {
    let g = Guest::new(0, 2);
    assert_eq!(g.table.set_virq(VcpuId(1), Virq::TIMER, &g), Delivery::NONE);
    let timer = g.table.bind_virq(0, 1).unwrap();
    assert_eq!(
        g.table.set_virq(VcpuId(1), Virq::TIMER, &g),
        Delivery {
            kick: Some(VcpuId(1)),
            raised: Some(timer)
        }
    );
    assert_eq!(g.table.set_virq(VcpuId(0), Virq::TIMER, &g), Delivery::NONE);
    let console = g.table.bind_virq(2, 0).unwrap();
    let _ = g.table.bind_vcpu(console.0, 1).unwrap();
    let _ = g.upcall(1);
    g.info[9].store(0, Ordering::Relaxed);
    assert_eq!(
        g.table.set_virq(VcpuId(0), Virq::CONSOLE, &g).kick,
        Some(VcpuId(1))
    );
    g.table.close(console.0, &g, alone).unwrap();
    assert_eq!(
        g.table.set_virq(VcpuId(0), Virq::CONSOLE, &g),
        Delivery::NONE
    );
    let line = g.bind_pirq(4).unwrap();
    assert_eq!(g.table.pirq_port(4), Some(line));
    assert_eq!(g.table.set_pirq(4, &g).raised, Some(line));
    assert_eq!(g.table.set_pirq(99, &g), Delivery::NONE);
}

#[test]
fn a_vcpu_without_info_keeps_its_events_for_later() {
    let g = Guest::new(1, 2);
    let lost = Guest {
        slots: vec![],
        ..Guest::new(1, 2)
    };
    let port = lost.table.bind_ipi(0).unwrap();
    assert_eq!(lost.send(port.0).kick, None);
    assert!(lost.pending(port.0));
    let slot = InfoSlot::default();
    assert!(!vcpu_info::register(&slot, view(&g.info), 4096 - 56));
    assert!(slot.get().is_none());
    assert!(vcpu_info::register(&slot, view(&g.info), 4096 - 64));
    let info = slot.get().unwrap();
    assert_eq!(info.upcall_mask().load(Ordering::Relaxed), 1);
    assert_eq!(info.upcall_pending().load(Ordering::Relaxed), 1);
    assert_eq!(info.pending_sel().load(Ordering::Relaxed), u64::MAX);
    info.cr2().store(77, Ordering::Relaxed);
    info.upcall_mask().store(0, Ordering::Relaxed);
    assert!(vcpu_info::register(&slot, view(&g.info), 1024));
    let moved = slot.get().unwrap();
    assert_eq!(moved.cr2().load(Ordering::Relaxed), 77);
    assert_eq!(moved.upcall_mask().load(Ordering::Relaxed), 0);
}

#[test]
fn a_reset_closes_in_steps() {
    let a = Guest::new(0, 1);
    let b = Guest::new(1, 1);
    for _ in 0..10 {
        let far = b.table.alloc_unbound(DomId(0)).unwrap();
        let _ = a.table.bind_interdomain(&b.table, far.0, &a).unwrap();
    }
    let line = b.bind_pirq(3).unwrap();
    let mut rounds = 1;
    while b.table.close_some(4, &b, |_| Some(&a)) == Reset::More {
        rounds += 1;
    }
    // Three to close eleven ports, and one for the closed ones behind them.
    assert_eq!(rounds, 4);
    assert!(!b.lines[3].load(Ordering::SeqCst));
    assert_eq!(b.table.open_ports(), 0);
    assert_eq!(b.table.status(line.0).unwrap().binding, Binding::Closed);
    for port in 1..=10 {
        assert_eq!(
            a.table.status(port).unwrap().binding,
            Binding::Unbound { remote: DomId(1) },
        );
    }
}

#[derive(Clone, Debug)]
enum BindAct {
    Unbound(usize, u16),
    Connect(usize, usize, u32),
    Virq(usize, u32, u32),
    Pirq(usize, u32),
    Ipi(usize, u32),
    Move(usize, u32, u32),
    Close(usize, u32),
}

fn bind_act() -> impl Strategy<Value = BindAct> {
    let dom = 0..2usize;
    let port = 0..70u32;
    prop_oneof![
        (dom.clone(), 0..3u16).prop_map(|(d, r)| BindAct::Unbound(d, r)),
        (dom.clone(), dom.clone(), 0..12u32).prop_map(|(d, r, p)| BindAct::Connect(d, r, p)),
        (dom.clone(), 0..25u32, 0..3u32).prop_map(|(d, n, v)| BindAct::Virq(d, n, v)),
        (dom.clone(), 0..17u32).prop_map(|(d, n)| BindAct::Pirq(d, n)),
        (dom.clone(), 0..3u32).prop_map(|(d, v)| BindAct::Ipi(d, v)),
        (dom.clone(), port.clone(), 0..3u32).prop_map(|(d, p, v)| BindAct::Move(d, p, v)),
        (dom, port).prop_map(|(d, p)| BindAct::Close(d, p)),
    ]
}

fn check_table(g: &Guest, all: &[Guest]) {
    let mut open = 0;
    for port in 0..128 {
        let Ok(channel) = g.table.status(port) else {
            break;
        };
        open += u32::from(channel.binding != Binding::Closed);
        match channel.binding {
            Binding::Interdomain { remote, port: far } => {
                let peer = all[usize::from(remote.0)].table.status(far.0).unwrap();
                let back = Binding::Interdomain {
                    remote: g.table.owner(),
                    port: Port(port),
                };
                assert_eq!(peer.binding, back);
            }
            Binding::Virq(n) => {
                let virq = Virq::from_guest(n).unwrap();
                let home = if virq.is_global() {
                    VcpuId(0)
                } else {
                    channel.vcpu
                };
                assert_eq!(g.table.virq_port(home, virq), Some(Port(port)));
            }
            Binding::Pirq(n) => assert_eq!(g.table.pirq_port(n), Some(Port(port))),
            Binding::Closed => assert_eq!(channel, Channel::CLOSED),
            Binding::Unbound { .. } | Binding::Ipi => {}
        }
    }
    assert_eq!(open, g.table.open_ports());
}

proptest! {
    #![proptest_config(cases(300))]

    /// Bindings stay symmetric whatever two domains do.
    #[test]
    fn bindings_stay_consistent(acts in prop::collection::vec(bind_act(), 1..steps(100))) {
        let all = [Guest::new(0, 2), Guest::new(1, 2)];
        let find = |d: DomId| all.get(usize::from(d.0));
        for act in acts {
            match act {
                BindAct::Unbound(d, r) => drop(all[d].table.alloc_unbound(DomId(r))),
                BindAct::Connect(d, r, p) => {
                    let _ = all[d].table.bind_interdomain(&all[r].table, p, &all[d]);
                }
                BindAct::Virq(d, n, v) => drop(all[d].table.bind_virq(n, v)),
                BindAct::Pirq(d, n) => drop(all[d].bind_pirq(n)),
                BindAct::Ipi(d, v) => drop(all[d].table.bind_ipi(v)),
                BindAct::Move(d, p, v) => drop(all[d].table.bind_vcpu(p, v)),
                BindAct::Close(d, p) => _ = all[d].table.close(p, &all[d], find),
            }
            for g in &all {
                check_table(g, &all);
            }
        }
    }
}

#[test]
fn records_pack_and_unpack() {
    let bindings = [
        Binding::Unbound {
            remote: DomId(0x7fef),
        },
        Binding::Interdomain {
            remote: DomId(9),
            port: Port(131_071),
        },
        Binding::Pirq(4095),
        Binding::Virq(23),
        Binding::Ipi,
    ];
    for binding in bindings {
        let channel = Channel {
            binding,
            vcpu: VcpuId(8191),
            priority: 15,
        };
        assert_eq!(Channel::unpack(channel.pack()), channel);
    }
    assert_eq!(Channel::CLOSED.pack(), 0);
}

/// Two vCPUs: one binds an interrupt, the other closes whatever port it may be. A line is
/// connected exactly while it has a port, and what is bound can be bound again at once.
#[test]
fn a_line_and_its_port_are_bound_and_closed_together() {
    let g = Guest::new(1, 2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..steps(20_000) {
                let _ = g.bind_pirq(3);
            }
        });
        scope.spawn(|| {
            for _ in 0..steps(20_000) {
                let _ = g.table.close(1, &g, alone);
            }
        });
    });
    let connected = g.lines[3].load(Ordering::SeqCst);
    assert_eq!(connected, g.table.pirq_port(3).is_some());
}

#[test]
fn ports_opened_behind_a_reset_that_was_left_are_closed_by_the_next() {
    let a = Guest::new(1, 1);
    for _ in 0..40 {
        let _ = a.table.alloc_unbound(DomId(0)).unwrap();
    }
    let step = || a.table.close_some(4, &a, alone);
    // The caller of this reset dies, and the lowest ports are opened again.
    for _ in 0..3 {
        assert_eq!(step(), Reset::More);
    }
    let reopened = a.table.alloc_unbound(DomId(0)).unwrap();
    assert!(reopened.0 < 12);
    let mut steps = 0;
    while step() == Reset::More {
        steps += 1;
        assert!(steps < 40, "it goes on where it was");
    }
    assert_eq!(a.table.open_ports(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "opens every port")]
fn closed_ports_are_not_passed_over_without_end() {
    let a = Guest::new(1, 1);
    let mut last = Port(0);
    while let Ok(port) = a.table.alloc_unbound(DomId(0)) {
        last = port;
    }
    for port in 1..last.0 {
        a.table.close(port, &a, alone).unwrap();
    }
    // One port is open; a step passes over 16 closed ones for each that it may close.
    let mut steps = 1;
    while a.table.close_some(1, &a, alone) == Reset::More {
        steps += 1;
    }
    assert!(
        steps > last.0 / 16 && steps < last.0 / 8,
        "{steps} for {last:?}"
    );
    assert_eq!(a.table.open_ports(), 0);
}
