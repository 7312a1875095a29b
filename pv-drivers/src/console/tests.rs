//! A console whose backend reads, reads slowly, or lies.

use std::cell::Cell;
use std::thread;

use super::*;
use crate::hypercall::fake::{Domain, Host};
use crate::hypercall::{DomId, RawPage};
use crate::ring::ConsoleBackend;

struct Bench {
    console: Console<RawPage, Domain>,
    backend: ConsoleBackend<RawPage>,
    channel: Channel<Domain>,
    page: RawPage,
}

fn bench() -> Bench {
    let host = Host::default();
    let (guest, dom0) = (host.domain(1), host.domain(0));
    let page = guest.page(&Default::default()).raw();
    let front = Channel::offer(guest.clone(), guest.bits(), DomId(0)).unwrap();
    let channel = Channel::bind(dom0.clone(), dom0.bits(), DomId(1), front.port()).unwrap();
    Bench {
        console: Console::new(page, front),
        backend: ConsoleBackend::attach(page),
        channel,
        page,
    }
}

#[test]
fn more_than_the_ring_holds_arrives_in_order() {
    let Bench {
        mut console,
        mut backend,
        channel,
        ..
    } = bench();
    let text: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
    let wanted = text.clone();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut got = Vec::new();
            let mut buffer = [0; 700];
            while got.len() < wanted.len() {
                assert!(channel.wait(None, || 0));
                while let count @ 1.. = backend.take(&mut buffer).unwrap() {
                    got.extend_from_slice(&buffer[..count]);
                }
                channel.notify();
            }
            assert_eq!(got, wanted);
        });
        console.write(&text, None, || 0).unwrap();
        console.drain(None, || 0).unwrap();
    });
}

#[test]
fn a_backend_that_takes_nothing_is_given_up_at_the_deadline() {
    let mut bench = bench();
    let late = Err(Trouble::Late);
    assert_eq!(bench.console.write(&[1; 5000], Some(9), || 10), late);
    assert_eq!(bench.console.drain(Some(9), || 10), late);
}

#[test]
fn a_backend_that_only_notifies_is_given_up_at_the_deadline() {
    let Bench {
        mut console,
        channel,
        ..
    } = bench();
    let time = Cell::new(0);
    let now = || {
        channel.notify();
        time.set(time.get() + 1);
        assert!(time.get() < 1000, "it waits for ever");
        time.get()
    };
    let late = Err(Trouble::Late);
    assert_eq!(console.write(&[1; 5000], Some(9), now), late);
    assert_eq!(console.drain(Some(9), now), late);
}

#[test]
fn a_backend_that_lies_ends_the_writing() {
    let mut bench = bench();
    bench.console.put(b"hello").unwrap();
    // More taken than was written.
    bench.page.store(3080, 6);
    assert_eq!(bench.console.put(b"x"), Err(Corrupt));
    assert_eq!(bench.console.drain(None, || 0), Err(Trouble::Corrupt));
}

#[test]
fn what_is_typed_arrives_and_the_backend_hears_of_it() {
    let mut bench = bench();
    let _ = bench.channel.take();
    assert_eq!(bench.backend.put(b"ls\n"), Ok(3));
    let mut buffer = [0; 8];
    assert_eq!(bench.console.take(&mut buffer), Ok(3));
    assert_eq!(&buffer[..3], b"ls\n");
    assert!(bench.channel.take());
}
