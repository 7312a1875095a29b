//! Rings with honest and with hostile peers.

use std::thread;
use std::vec::Vec;

use proptest::prelude::*;

use super::testing::TestPage;
use super::*;

const CONSOLE_INDICES: [usize; 4] = [3072, 3076, 3080, 3084];
const XENSTORE_INDICES: [usize; 4] = [2048, 2052, 2056, 2060];

/// Cases of a property: few under Miri, which is slow.
fn cases() -> ProptestConfig {
    let cases = if cfg!(miri) { 2 } else { 256 };
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// Miri takes a second for a few hundred bytes.
const STEPS: usize = if cfg!(miri) { 4 } else { 60 };

#[test]
fn console_bytes_arrive_in_order_across_the_end_and_across_index_wrap() {
    let page = TestPage::new();
    for offset in CONSOLE_INDICES {
        page.store(offset, u32::MAX - 5);
    }
    let mut guest = ConsoleFrontend::attach(&page);
    let mut tool = ConsoleBackend::attach(&page);
    let mut sent = Vec::new();
    let mut got = Vec::new();
    for round in 0..20_u8 {
        let text: Vec<u8> = (0..=200).map(|n| round.wrapping_mul(7) ^ n).collect();
        assert_eq!(guest.put(&text), Ok(text.len()));
        sent.extend_from_slice(&text);
        let mut buffer = [0; 512];
        let count = tool.take(&mut buffer).unwrap();
        got.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(sent, got);
    assert_eq!(tool.put(b"ls\n"), Ok(3));
    let mut buffer = [0; 8];
    assert_eq!(guest.take(&mut buffer), Ok(3));
    assert_eq!(&buffer[..3], b"ls\n");
}

#[test]
fn a_full_ring_takes_no_more() {
    let page = TestPage::new();
    let mut tool = ConsoleBackend::attach(&page);
    assert_eq!(tool.put(&[1; 2000]), Ok(1024));
    assert_eq!(tool.put(&[1]), Ok(0));
    assert_eq!(tool.room(), Ok(0));
}

#[test]
fn impossible_indices_move_nothing() {
    let page = TestPage::new();
    let mut tool = ConsoleBackend::attach(&page);
    page.store(3084, 2049);
    assert_eq!(tool.take(&mut [0; 16]), Err(Corrupt));
    assert_eq!(page.load(3080), 0);
    page.store(3084, 2048);
    assert_eq!(tool.waiting(), Ok(2048));
    // Input consumed that was never produced.
    page.store(3072, 1);
    assert_eq!(tool.put(b"x"), Err(Corrupt));
}

#[test]
fn own_index_overwritten_by_the_peer_changes_nothing() {
    let page = TestPage::new();
    let mut server = XenstoreServer::attach(&page);
    let mut client = XenstoreClient::attach(&page);
    client.put(b"abcdef").unwrap();
    let mut buffer = [0; 3];
    server.take(&mut buffer).unwrap();
    page.store(2048, 0);
    server.take(&mut buffer).unwrap();
    assert_eq!(&buffer, b"def");
    assert_eq!(page.load(2048), 6);
}

#[test]
fn a_client_that_asks_begins_anew() {
    let page = TestPage::new();
    let mut server = XenstoreServer::attach(&page);
    let mut client = XenstoreClient::attach(&page);
    assert!(!client.ask_reset());
    server.announce();
    client.put(b"half a request").unwrap();
    assert!(client.ask_reset());
    assert!(server.wants_reset() && !client.is_connected());
    server.reset();
    assert!(client.is_connected());
    let mut client = XenstoreClient::attach(&page);
    client.put(b"whole").unwrap();
    let mut buffer = [0; 16];
    assert_eq!(server.take(&mut buffer), Ok(5));
    server.refuse(RingFault::Protocol);
    assert_eq!(client.fault(), 3);
}

#[test]
fn two_threads_share_a_ring() {
    let total: u32 = if cfg!(miri) { 300 } else { 200_000 };
    let page = TestPage::new();
    thread::scope(|scope| {
        let (mut server, mut client) =
            (XenstoreServer::attach(&page), XenstoreClient::attach(&page));
        scope.spawn(move || {
            let mut sent = 0;
            while sent < total {
                let run: Vec<u8> = (sent..total.min(sent + 97)).map(|n| n as u8).collect();
                sent += client.put(&run).unwrap() as u32;
                thread::yield_now();
            }
        });
        let mut got = 0_u32;
        let mut buffer = [0; 64];
        while got < total {
            let count = server.take(&mut buffer).unwrap();
            for &byte in &buffer[..count] {
                assert_eq!(byte, got as u8);
                got += 1;
            }
            thread::yield_now();
        }
    });
}

/// What a hostile peer and the honest side do in turn.
#[derive(Clone, Debug)]
enum Step {
    Scribble(usize, u32),
    Take(usize),
    Put(usize),
    Reset,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_usize..7, any::<u32>()).prop_map(|(n, v)| Step::Scribble(n, v)),
        (0_usize..7, 0_u32..3000).prop_map(|(n, v)| Step::Scribble(n, v)),
        (0_usize..5000).prop_map(Step::Take),
        (0_usize..5000).prop_map(Step::Put),
        Just(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn a_hostile_xenstore_client_gets_errors_only(
        steps in proptest::collection::vec(step(), 1..STEPS),
    ) {
        let page = TestPage::new();
        let mut server = XenstoreServer::attach(&page);
        for step in steps {
            match step {
                Step::Scribble(n, value) => page.store(2048 + 4 * n, value),
                Step::Take(count) => {
                    if let Ok(taken) = server.take(&mut vec![0; count]) {
                        prop_assert!(taken <= 1024.min(count));
                    }
                }
                Step::Put(count) => {
                    if let Ok(put) = server.put(&vec![0; count]) {
                        prop_assert!(put <= 1024.min(count));
                    }
                }
                Step::Reset => server.reset(),
            }
        }
    }

    #[test]
    fn a_hostile_guest_console_gets_errors_only(
        steps in proptest::collection::vec(step(), 1..STEPS),
    ) {
        let page = TestPage::new();
        let mut tool = ConsoleBackend::attach(&page);
        for step in steps {
            match step {
                Step::Scribble(n, value) => page.store(CONSOLE_INDICES[n % 4], value),
                Step::Take(count) => {
                    if let Ok(taken) = tool.take(&mut vec![0; count]) {
                        prop_assert!(taken <= 2048.min(count));
                    }
                }
                Step::Put(count) => {
                    if let Ok(put) = tool.put(&vec![0; count]) {
                        prop_assert!(put <= 1024.min(count));
                    }
                }
                Step::Reset => tool = ConsoleBackend::attach(&page),
            }
        }
    }

    #[test]
    fn what_is_put_is_taken(
        start: u32,
        runs in proptest::collection::vec((0_usize..1500, 0_usize..1500), 1..=STEPS / 2),
    ) {
        let page = TestPage::new();
        for offset in XENSTORE_INDICES {
            page.store(offset, start);
        }
        let mut server = XenstoreServer::attach(&page);
        let mut client = XenstoreClient::attach(&page);
        let (mut sent, mut got) = (0_usize, 0_usize);
        for (put, take) in runs {
            let run: Vec<u8> = (sent..sent + put).map(|n| (n % 251) as u8).collect();
            sent += server.put(&run).unwrap();
            let mut buffer = vec![0; take];
            let count = client.take(&mut buffer).unwrap();
            for byte in &buffer[..count] {
                prop_assert_eq!(usize::from(*byte), got % 251);
                got += 1;
            }
            prop_assert!(sent - got <= 1024);
        }
    }
}
