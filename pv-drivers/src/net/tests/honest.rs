//! With a backend that keeps to the protocol.

use proptest::prelude::*;

use super::*;

/// Sends and lets the backend run.
fn send(card: &mut Card<Domain>, back: &Back, parts: &[&[u8]], offload: Offload) {
    card.send(0, parts, offload).unwrap();
    card.push();
    back.lock().unwrap().poll().unwrap();
    card.poll().unwrap();
}

#[test]
fn frames_of_every_length_go_out_and_come_in() {
    let (machine, back, cable) = rig(1);
    let mut card = connected(&machine, options());
    assert_eq!(card.features().unwrap().most, MOST);
    let mut got = Vec::new();
    for len in [14, 15, 60, 1514, 4096, 4097, 8192, 9014, MOST] {
        if cfg!(miri) && len > 5000 {
            continue;
        }
        let data = frame(len, len);
        // In three places of the caller's.
        let (one, rest) = data.split_at(len / 3);
        let (two, three) = rest.split_at(rest.len() / 2);
        send(&mut card, &back, &[one, two, three], Offload::default());
        assert_eq!(cable.taken(), Some((data.clone(), Offload::default())));
        let received = Received {
            integrity: Integrity::Verified,
            segment: (len > 1514).then_some(1448),
        };
        cable.bring(data.clone(), received);
        back.lock().unwrap().poll().unwrap();
        assert_eq!(card.receive(&mut got), Ok(Some(received)));
        assert!(got == data, "{len} bytes");
        assert_eq!(card.receive(&mut got), Ok(None));
    }
    assert_eq!(card.failures(), (0, 0));
    assert_eq!(back.lock().unwrap().dropped(), 0);
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let (machine, _back, _cable) = rig(1);
    let mut card = Card::open(machine.domain(GUEST), HOME, options()).unwrap();
    let plain = Offload::default();
    let early = card.send(0, &[&frame(60, 0)], plain);
    assert_eq!(early, Err(Error::Disconnected));
    card.connect().unwrap();
    assert_eq!(card.send(0, &[&[0; 13]], plain), Err(Error::TooShort));
    let long = frame(MOST + 1, 0);
    assert_eq!(card.send(0, &[&long], plain), Err(Error::TooLong));
    let mut arp = frame(60, 0);
    arp[13] = 6;
    let cut = Offload {
        checksum: true,
        segment: Some(1000),
    };
    assert_eq!(card.send(0, &[&arp], cut), Err(Error::Unsupported));
    assert_eq!(card.send(7, &[&arp], plain), Err(Error::Disconnected));
    assert_eq!(card.address(), Ok([0, 0x16, 0x3e, 1, 2, 255]));
    assert_eq!(card.mtu(), Ok(1500));
    for (node, value) in [("mac", "00:16:3e:01:02"), ("mac", "x"), ("mtu", "0")] {
        let path = format!("{HOME}/{node}");
        machine.domain(GUEST).write(&path, value).unwrap();
        let bad = card.address().and(card.mtu().map(|_| [0; 6]));
        assert!(matches!(bad, Err(Error::Nodes(Fault::Bad(_)))));
    }
}

#[test]
fn a_full_ring_empties_again() {
    let (machine, back, cable) = rig(1);
    let mut card = connected(&machine, options());
    for round in 0..3 {
        let mut count = 0;
        while card
            .send(0, &[&frame(60, count)], Offload::default())
            .is_ok()
        {
            count += 1;
        }
        assert!(count >= 255, "{count} in round {round}");
        assert!(!card.fits(0, 60));
        card.push();
        back.lock().unwrap().poll().unwrap();
        card.poll().unwrap();
        for n in 0..count {
            assert_eq!(cable.taken().unwrap().0, frame(60, n));
        }
    }
}

#[test]
fn frames_wait_for_pages_and_pages_are_used_again() {
    let (machine, back, cable) = rig(1);
    let few = Options {
        receive_pages: 4,
        ..options()
    };
    let mut card = connected(&machine, few);
    let grants = machine.grants();
    let mut got = Vec::new();
    for n in 0..20 {
        cable.bring(frame(5000, n), Received::default());
    }
    for n in 0..20 {
        back.lock().unwrap().poll().unwrap();
        while card.receive(&mut got).unwrap().is_none() {
            assert!(!card.arm().unwrap());
            back.lock().unwrap().poll().unwrap();
        }
        assert!(got == frame(5000, n), "frame {n}");
    }
    assert_eq!(machine.grants(), grants);
}

#[test]
fn several_queues_are_used_if_both_sides_want_them() {
    for (front, offered, used) in [(4, 2, 2), (1, 8, 1), (3, 3, 3)] {
        let (machine, back, cable) = rig(offered);
        let some = Options {
            queues: front,
            receive_pages: 8,
            ..options()
        };
        let mut card = connected(&machine, some);
        assert_eq!(card.queues(), used);
        for n in 0..8 {
            let sent = card.send(n % used, &[&frame(100, n)], Offload::default());
            assert_eq!(sent, Ok(()));
            cable.bring(frame(100, n), Received::default());
        }
        card.push();
        back.lock().unwrap().poll().unwrap();
        let mut got = Vec::new();
        let mut all = Vec::new();
        while card.receive(&mut got).unwrap().is_some() {
            all.push(got.clone());
        }
        all.sort();
        let mut expected: Vec<_> = (0..8).map(|n| frame(100, n)).collect();
        expected.sort();
        assert_eq!(all, expected);
        assert_eq!(cable.sent.lock().unwrap().len(), 8);
    }
}

#[test]
fn a_backend_without_scatter_and_without_queues_is_taken_as_it_is() {
    let (machine, _back, _cable) = rig(1);
    let dom0 = machine.domain(BACK);
    for node in [
        "feature-sg",
        "multi-queue-max-queues",
        "feature-split-event-channels",
    ] {
        dom0.remove(&format!("{BACK_HOME}/{node}")).unwrap();
    }
    let mut card = connected(&machine, options());
    assert_eq!(card.features().unwrap().most, 4096);
    assert!(!card.features().unwrap().segment_v4);
    let long = card.send(0, &[&frame(4097, 0)], Offload::default());
    assert_eq!(long, Err(Error::TooLong));
}

#[test]
fn a_card_is_connected_anew() {
    let (machine, back, cable) = rig(2);
    let two = Options {
        queues: 2,
        ..options()
    };
    let mut card = connected(&machine, two);
    for _ in 0..3 {
        card.reconnect().unwrap();
        card.connect().unwrap();
        send(&mut card, &back, &[&frame(60, 1)], Offload::default());
        assert!(cable.taken().is_some());
    }
    let state = format!("{BACK_HOME}/state");
    machine.domain(BACK).write(&state, "5").unwrap();
    assert_eq!(card.poll(), Err(Error::Disconnected));
    card.reconnect().unwrap();
    card.connect().unwrap();
    send(&mut card, &back, &[&frame(60, 1)], Offload::default());
    card.close();
    back.lock().unwrap().poll().unwrap();
    assert!(machine.grants().is_empty(), "all is given back");
}

#[test]
fn a_restored_guest_has_its_card_again_without_a_word() {
    let (machine, back, cable) = rig(2);
    let mut card = connected(&machine, options());
    machine.restore(GUEST);
    machine.plug("vif", 0, GUEST, BACK);
    *back.lock().unwrap() =
        Server::open(machine.domain(BACK), BACK_HOME, cable.clone(), 2).unwrap();
    for _ in 0..5 {
        card.poll().unwrap();
        card.platform().wait(Duration::MAX);
    }
    send(&mut card, &back, &[&frame(60, 1)], Offload::default());
    assert!(cable.taken().is_some());
    card.close();
    back.lock().unwrap().poll().unwrap();
    assert!(machine.grants().is_empty(), "all is given back");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 64 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Frames arrive once, in order and whole, both ways.
    #[test]
    fn a_card_is_a_pair_of_queues(
        lengths in prop::collection::vec((any::<bool>(), 14..9000_usize), 1..40),
        pages in 4..64_usize,
    ) {
        let (machine, back, cable) = rig(1);
        let mut card = connected(&machine, Options { receive_pages: pages, ..options() });
        let (mut sent, mut brought) = (VecDeque::new(), VecDeque::new());
        let mut got = Vec::new();
        for (n, (out, len)) in lengths.into_iter().enumerate() {
            if out {
                let offload = Offload { checksum: n % 2 == 0, segment: None };
                if card.send(0, &[&frame(len, n)], offload).is_ok() {
                    sent.push_back((frame(len, n), offload));
                }
                card.push();
            } else {
                cable.bring(frame(len, n), Received::default());
                brought.push_back(frame(len, n));
            }
            back.lock().unwrap().poll().unwrap();
            card.poll().unwrap();
            while card.receive(&mut got).unwrap().is_some() {
                let next = brought.pop_front();
                prop_assert_eq!(Some(&got), next.as_ref());
            }
        }
        prop_assert!(*cable.sent.lock().unwrap() == sent);
    }
}
