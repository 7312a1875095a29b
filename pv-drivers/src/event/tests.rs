//! Channels between two domains of a fake host.

use std::thread;

use super::*;
use crate::hypercall::fake::Host;
use crate::hypercall::{DomId, Errno, Hypervisor, Port};

#[test]
fn an_event_is_taken_once_and_a_burst_is_one() {
    let host = Host::default();
    let (one, two) = (host.domain(1), host.domain(2));
    let offer = Channel::offer(one.clone(), one.bits(), DomId(2)).unwrap();
    let bound = Channel::bind(two.clone(), two.bits(), DomId(1), offer.port()).unwrap();
    bound.notify();
    bound.notify();
    assert!(offer.take());
    assert!(!offer.take());
    offer.notify();
    assert!(bound.wait(None, || 0));
    assert!(!bound.wait(Some(5), || 6));
}

#[test]
fn a_dropped_channel_is_closed_and_an_adopted_one_is_not() {
    let host = Host::default();
    let one = host.domain(1);
    let port = Channel::offer(one.clone(), one.bits(), DomId(2))
        .unwrap()
        .port();
    assert_eq!(one.close(port), Err(Errno(22)));
    let port = one.alloc_unbound(DomId(2)).unwrap();
    drop(Channel::adopt(one.clone(), one.bits(), port));
    assert_eq!(one.close(port), Ok(()));
}

#[test]
fn nobody_but_the_named_domain_binds_an_offer() {
    let host = Host::default();
    let (one, three) = (host.domain(1), host.domain(3));
    let offer = Channel::offer(one.clone(), one.bits(), DomId(2)).unwrap();
    let refused = Channel::bind(three.clone(), three.bits(), DomId(1), offer.port());
    assert_eq!(refused.err(), Some(Errno(22)));
}

#[test]
fn the_next_owner_of_a_port_finds_no_event_of_the_last() {
    let host = Host::default();
    let (one, two) = (host.domain(1), host.domain(2));
    let offer = Channel::offer(one.clone(), one.bits(), DomId(2)).unwrap();
    let bound = Channel::bind(two.clone(), two.bits(), DomId(1), offer.port()).unwrap();
    bound.notify();
    let port = offer.port();
    drop(offer);
    // The peer goes on sending into nothing.
    bound.notify();
    let again = Channel::offer(one.clone(), one.bits(), DomId(2)).unwrap();
    assert_eq!(again.port(), port);
    assert!(!again.take());
}

#[test]
fn a_channel_of_before_a_restore_does_nothing_to_who_has_its_port_now() {
    let host = Host::default();
    let (one, two) = (host.domain(1), host.domain(2));
    let old = Channel::offer(one.clone(), one.bits(), DomId(2)).unwrap();
    let bound = Channel::bind(two.clone(), two.bits(), DomId(1), old.port()).unwrap();
    one.restore();
    let new = Channel::offer(one.clone(), one.bits(), DomId(2)).unwrap();
    assert_eq!(new.port(), old.port());
    let again = Channel::bind(two.clone(), two.bits(), DomId(1), new.port()).unwrap();
    let _ = (bound.take(), again.take());
    assert!(old.is_dead() && !new.is_dead());
    old.notify();
    assert!(!again.take());
    again.notify();
    assert!(!old.take() && !old.wait(None, || 0));
    drop(old);
    assert!(new.take());
    new.notify();
    assert!(again.take());
}

#[test]
fn impossible_ports_are_never_pending() {
    let host = Host::default();
    let bits = host.domain(1).bits();
    for port in [PORTS, u32::MAX] {
        bits.mask(Port(port));
        bits.unmask(Port(port));
        assert!(!bits.is_pending(Port(port)) && !bits.take(Port(port)));
    }
}

#[test]
fn two_threads_play_ping_pong_without_losing_an_event() {
    let rounds = if cfg!(miri) { 20 } else { 2000 };
    let host = Host::default();
    let (one, two) = (host.domain(1), host.domain(2));
    let offer = Channel::offer(one.clone(), one.bits(), DomId(2)).unwrap();
    let bound = Channel::bind(two.clone(), two.bits(), DomId(1), offer.port()).unwrap();
    // A port that is bound may start pending: it is no turn of the game.
    let _ = bound.take();
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..rounds {
                assert!(bound.wait(None, || 0));
                bound.notify();
            }
        });
        for _ in 0..rounds {
            offer.notify();
            assert!(offer.wait(None, || 0));
        }
    });
}

#[test]
fn a_port_that_is_closed_takes_no_event_of_its_next_owner() {
    let rounds = if cfg!(miri) { 10 } else { 5000 };
    let host = Host::default();
    let one = host.domain(1);
    thread::scope(|scope| {
        for _ in 0..4 {
            let one = one.clone();
            scope.spawn(move || {
                for _ in 0..rounds {
                    let offer = Channel::offer(one.clone(), one.bits(), DomId(1)).unwrap();
                    let bound =
                        Channel::bind(one.clone(), one.bits(), DomId(1), offer.port()).unwrap();
                    bound.notify();
                    assert!(offer.take(), "an event is lost");
                }
            });
        }
    });
}
