//! With a backend that keeps to the protocol.

use proptest::prelude::*;

use super::*;

#[test]
fn what_is_written_is_read_in_every_length() {
    let (machine, back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    assert_eq!(disk.read(0, &mut [0; 512]), Err(Error::Disconnected));
    disk.connect().unwrap();
    let geometry = *disk.geometry().unwrap();
    assert_eq!((geometry.sectors, geometry.segments), (SECTORS, 64));
    // One sector; a page; the longest direct request; one that needs a list; several of these.
    let most = if cfg!(miri) { 13 } else { 200 };
    for (n, pages) in [1, 11, 12, most].into_iter().enumerate() {
        let data = pattern(pages * PAGE - 512, n);
        disk.write(3 + n as u64, &data).unwrap();
        let mut got = vec![0; data.len()];
        disk.read(3 + n as u64, &mut got).unwrap();
        assert!(got == data, "{pages} pages");
    }
    disk.flush().unwrap();
    disk.discard(8..16, false).unwrap();
    let back = back.lock().unwrap();
    assert_eq!(back.medium().flushes, 1);
    assert_eq!(back.medium().discarded, [(8, 8)]);
    assert_eq!(disk.outstanding(), 0);
}

#[test]
fn what_cannot_be_is_refused_before_the_backend_hears_of_it() {
    let (machine, _back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    let end = SECTORS;
    assert_eq!(disk.read(end, &mut [0; 512]), Err(Error::OutOfRange));
    assert_eq!(disk.read(end - 1, &mut [0; 1024]), Err(Error::OutOfRange));
    assert_eq!(disk.write(u64::MAX, &[0; 512]), Err(Error::OutOfRange));
    assert_eq!(disk.read(0, &mut [0; 100]), Err(Error::Unaligned));
    assert_eq!(disk.discard(0..SECTORS + 1, false), Err(Error::OutOfRange));
    assert_eq!(disk.discard(0..8, true), Err(Error::Unsupported));
    #[expect(clippy::reversed_empty_ranges, reason = "it is the test")]
    let backwards = disk.discard(8..0, false);
    assert_eq!(backwards, Err(Error::Unaligned));
    let too_long = disk.buffer(0, 65 * PAGE).map(|_| ());
    assert_eq!(too_long, Err(Error::TooLong));
    assert_eq!(disk.read(0, &mut []), Ok(()));
}

#[test]
fn several_rings_are_used_if_both_sides_want_them() {
    for (front, back, used) in [(4, 2, 2), (1, 8, 1), (3, 3, 3)] {
        let (machine, server) = rig(backend::Options {
            queues: back,
            ..backend::Options::default()
        });
        let mut disk = open(
            &machine,
            Options {
                queues: front,
                ..options()
            },
        );
        disk.connect().unwrap();
        assert_eq!(disk.queues(), used);
        let data = pattern(100 * PAGE, used);
        let data = if cfg!(miri) { &data[..PAGE] } else { &data };
        disk.write(0, data).unwrap();
        assert!(server.lock().unwrap().medium().bytes[..data.len()] == *data);
    }
}

#[test]
fn many_requests_are_under_way_at_once() {
    let (machine, _back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    let mut tags = Vec::new();
    loop {
        let mut buffer = disk.buffer(0, 512).unwrap();
        buffer.write(0, &[tags.len() as u8; 512]);
        let sector = tags.len() as u64;
        match disk.submit(0, Operation::Write { sector, buffer }) {
            Ok(tag) => tags.push(tag),
            Err(rejected) => {
                assert_eq!(rejected.error, Error::Busy);
                disk.recycle(0, rejected.buffer.unwrap());
                break;
            }
        }
    }
    assert_eq!((tags.len(), disk.outstanding()), (32, 32));
    disk.push();
    // A blocking call among them finds its own, and leaves theirs.
    let mut sector = [0; 512];
    disk.read(31, &mut sector).unwrap();
    assert_eq!(sector, [31; 512]);
    for _ in 0..32 {
        let completion = disk.completed().unwrap();
        assert_eq!(completion.result, Ok(()));
        tags.retain(|tag| *tag != completion.tag);
    }
    assert!(tags.is_empty() && disk.completed().is_none());
}

#[test]
fn pages_are_shared_once_and_used_again() {
    let (machine, _back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    disk.write(0, &pattern(4 * PAGE, 0)).unwrap();
    let before = machine.grants();
    for n in 0..5 {
        disk.read(n, &mut [0; 4 * PAGE]).unwrap();
    }
    assert_eq!(machine.grants(), before);
    drop(disk);
    assert!(
        machine.grants().len() <= 1,
        "the backend still has the ring"
    );
}

#[test]
fn little_memory_makes_smaller_requests() {
    let (machine, _back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    machine.limit_grants(4);
    let data = pattern(20 * PAGE, 3);
    disk.write(0, &data).unwrap();
    let mut got = vec![0; data.len()];
    disk.read(0, &mut got).unwrap();
    assert!(got == data);
    machine.limit_grants(0);
    let mut disk = open(&machine, options());
    assert_eq!(disk.connect(), Err(Error::Busy));
}

#[test]
fn a_failing_medium_is_an_error_of_that_request_only() {
    let (machine, back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    let fail = |bad| {
        let mut server = back.lock().unwrap();
        server.medium_mut().bad = bad;
    };
    fail(100);
    assert_eq!(disk.write(90, &[1; 20 * 512]), Err(Error::Failed));
    assert_eq!(disk.write(10, &[1; 20 * 512]), Ok(()));
    fail(u64::MAX);
    assert_eq!(disk.write(90, &[1; 20 * 512]), Ok(()));
}

#[test]
fn a_backend_that_is_started_anew_is_connected_anew() {
    let (machine, back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    disk.write(7, &[7; 512]).unwrap();
    // The backend closes, with a request under way.
    let buffer = disk.buffer(0, 512).unwrap();
    let tag = disk
        .submit(0, Operation::Read { sector: 7, buffer })
        .unwrap();
    machine
        .domain(BACK)
        .write(&format!("{BACK_HOME}/state"), "6")
        .unwrap();
    assert_eq!(disk.poll(), Err(Error::Disconnected));
    let completion = disk.completed().unwrap();
    assert_eq!(completion.tag, tag);
    assert_eq!(completion.result, Err(Error::Disconnected));
    assert!(completion.buffer.is_none());
    disk.reconnect().unwrap();
    disk.connect().unwrap();
    let mut got = [0; 512];
    disk.read(7, &mut got).unwrap();
    assert_eq!(got, [7; 512]);
    assert!(back.lock().unwrap().is_connected());
    // And once more, by the frontend's own wish.
    disk.reconnect().unwrap();
    disk.connect().unwrap();
    disk.read(7, &mut got).unwrap();
}

/// What a toolstack and a host do when the guest is restored: all is new but the medium.
fn restore(machine: &Machine, back: &Back) {
    machine.restore(GUEST);
    machine.plug("vbd", 51712, GUEST, BACK);
    let mut old = back.lock().unwrap();
    let medium = std::mem::replace(old.medium_mut(), Ram::new());
    let options = backend::Options::default();
    *old = Server::open(machine.domain(BACK), BACK_HOME, medium, options).unwrap();
}

#[test]
fn a_restored_guest_has_its_disk_again_without_a_word() {
    let (machine, back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    disk.write(7, &[7; 512]).unwrap();
    let buffer = disk.buffer(0, 512).unwrap();
    let tag = disk
        .submit(0, Operation::Read { sector: 7, buffer })
        .unwrap();
    restore(&machine, &back);
    let mut got = [0; 512];
    disk.read(7, &mut got).unwrap();
    assert_eq!(got, [7; 512]);
    // Who does not wait is told that nobody knows.
    let completion = disk.completed().unwrap();
    assert_eq!(completion.tag, tag);
    assert_eq!(completion.result, Err(Error::Disconnected));
    // One that nobody connects again is found by its next user, also when it was closed.
    machine
        .domain(BACK)
        .write(&format!("{BACK_HOME}/state"), "6")
        .unwrap();
    assert_eq!(disk.poll(), Err(Error::Disconnected));
    restore(&machine, &back);
    disk.flush().unwrap();
    disk.close();
    back.lock().unwrap().poll().unwrap();
    assert!(machine.grants().is_empty(), "all is given back");
}

#[test]
fn a_guest_restored_in_the_middle_of_a_write_writes_all_of_it() {
    for moment in 0..if cfg!(miri) { 3 } else { 25 } {
        let (machine, back) = rig(backend::Options::default());
        let mut disk = open(&machine, options());
        disk.connect().unwrap();
        let (world, mut waits) = (machine.clone(), 0);
        let runs = Arc::clone(&back);
        machine.meanwhile(move || {
            // One request at a time, or all is done at the first wait.
            if waits == moment {
                restore(&world, &runs);
            }
            waits += 1;
            if waits % 3 == 0 {
                runs.lock().unwrap().poll().unwrap();
            }
        });
        let bytes = pattern(40 * 512, moment);
        disk.write(3, &bytes).unwrap();
        disk.flush().unwrap();
        let mut got = vec![0; bytes.len()];
        disk.read(3, &mut got).unwrap();
        assert_eq!(got, bytes, "restored at wait {moment}");
        machine.rest();
    }
}

#[test]
fn a_guest_restored_without_its_disk_is_told() {
    let (machine, _back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    machine.restore(GUEST);
    machine
        .domain(BACK)
        .remove("/local/domain/5/device/vbd/51712")
        .unwrap();
    let missing = Error::Nodes(Fault::Missing("backend"));
    assert_eq!(disk.read(0, &mut [0; 512]), Err(missing));
    assert_eq!(disk.poll(), Err(missing));
}

#[test]
fn memory_of_an_earlier_connection_is_of_no_use() {
    let (machine, _back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    let buffer = disk.buffer(0, 512).unwrap();
    disk.reconnect().unwrap();
    disk.connect().unwrap();
    let rejected = disk
        .submit(0, Operation::Read { sector: 0, buffer })
        .unwrap_err();
    assert_eq!(rejected.error, Error::Disconnected);
}

#[test]
fn the_disk_may_grow_while_it_is_used() {
    let (machine, _back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    let back = machine.domain(BACK);
    back.write(&format!("{BACK_HOME}/sectors"), "9000").unwrap();
    back.write(&format!("{BACK_HOME}/state"), "4").unwrap();
    disk.poll().unwrap();
    assert_eq!(disk.geometry().unwrap().sectors, 9000);
}

#[test]
fn a_silent_backend_costs_patience_and_nothing_more() {
    let (machine, _back) = rig(backend::Options::default());
    let mut disk = open(&machine, options());
    disk.connect().unwrap();
    machine.rest();
    let before = crate::device::Clock::now(disk.platform());
    assert_eq!(disk.flush(), Err(Error::TimedOut));
    assert_eq!(disk.read(0, &mut [0; 512]), Err(Error::TimedOut));
    let after = crate::device::Clock::now(disk.platform());
    assert_eq!(after - before, 2 * options().patience);
    assert_eq!(disk.outstanding(), 2);
    assert!(disk.completed().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 2 } else { 64 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The disk holds what an array would.
    #[test]
    fn a_disk_is_an_array(
        steps in prop::collection::vec((any::<bool>(), 0..600_u64, 1..40_usize), 1..20),
        queues in 1..4_usize,
        segments in 1..40_usize,
    ) {
        let (machine, _back) = rig(backend::Options { queues: 2, segments: 32 });
        let mut disk = open(&machine, Options { queues, segments, ..options() });
        disk.connect().unwrap();
        let mut model = vec![0; 1000 * 512];
        for (n, (write, sector, count)) in steps.into_iter().enumerate() {
            let range = sector as usize * 512..(sector as usize + count) * 512;
            if write {
                let data = pattern(count * 512, n);
                disk.write(sector, &data).unwrap();
                model[range].copy_from_slice(&data);
            } else {
                let mut got = vec![1; count * 512];
                disk.read(sector, &mut got).unwrap();
                prop_assert!(got == model[range]);
            }
        }
    }
}
