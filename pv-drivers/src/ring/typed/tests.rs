//! Typed rings with honest and with hostile peers.

use std::collections::VecDeque;
use std::vec::Vec;

use proptest::prelude::*;
use xen_abi::blkif::{BlkifRequest, BlkifResponse};
use xen_abi::netif::{NetifRxRequest, NetifRxResponse, NetifTxRequest, NetifTxResponse};

use super::super::testing::TestPage;
use super::*;
use crate::ring::{Corrupt, Page};

type Front<'a> = FrontRing<u64, u64, &'a TestPage>;
type Back<'a> = BackRing<u64, u64, &'a TestPage>;

fn cases() -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 4 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

#[test]
fn rings_have_as_many_slots_as_the_headers_say() {
    type Block<'a> = FrontRing<BlkifRequest, BlkifResponse, &'a TestPage>;
    type Tx<'a> = FrontRing<NetifTxRequest, NetifTxResponse, &'a TestPage>;
    type Rx<'a> = BackRing<NetifRxRequest, NetifRxResponse, &'a TestPage>;
    assert_eq!((Block::SLOTS, Tx::SLOTS, Rx::SLOTS), (32, 256, 256));
}

#[test]
fn a_push_wakes_if_and_only_if_the_mark_is_passed() {
    assert!(wakes(0, 1, 1));
    assert!(!wakes(1, 2, 1));
    assert!(!wakes(0, 1, 2));
    assert!(wakes(0, 5, 3));
    assert!(wakes(u32::MAX, 2, 0));
    assert!(!wakes(u32::MAX, 2, 3));
}

#[test]
fn a_full_ring_takes_no_more_and_answers_need_requests() {
    let page = TestPage::new();
    let mut front = Front::new(&page);
    for n in 0..u64::from(Front::SLOTS) {
        front.put(&n).unwrap();
    }
    assert_eq!(front.put(&0), Err(Full));
    let mut back = Back::attach(&page);
    assert_eq!(back.take(), Ok(None), "not pushed yet");
    assert_eq!(back.put(&0), Err(Full));
    assert!(front.push());
    assert!(!front.push(), "nothing new");
    assert_eq!(back.take(), Ok(Some(0)));
    back.put(&100).unwrap();
    assert_eq!(back.put(&0), Err(Full));
    assert!(back.push());
    assert_eq!(front.take(), Ok(Some(100)));
    assert_eq!(front.room(), 1);
}

#[test]
fn a_claim_of_more_responses_than_requests_is_an_error_for_good() {
    let page = TestPage::new();
    let mut front = Front::new(&page);
    front.put(&1).unwrap();
    assert!(front.push());
    front.put(&2).unwrap();
    // The second was not pushed: nobody can have answered it.
    page.store(RSP_PROD, 2);
    assert_eq!(front.take(), Err(Corrupt));
    page.store(RSP_PROD, 1);
    assert_eq!(front.take(), Err(Corrupt));
    assert_eq!(front.arm(), Err(Corrupt));
}

#[test]
fn a_backend_goes_on_after_what_was_answered() {
    let page = TestPage::new();
    let mut front = Front::new(&page);
    let mut back = Back::attach(&page);
    front.put(&1).unwrap();
    front.put(&2).unwrap();
    assert!(front.push());
    back.take().unwrap();
    back.put(&1).unwrap();
    assert!(back.push());
    let mut next = Back::attach(&page);
    assert_eq!(next.take(), Ok(Some(2)));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(u8),
    Serve(u8),
    Collect(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..9_u8).prop_map(Step::Ask),
        (0..9_u8).prop_map(Step::Serve),
        (0..9_u8).prop_map(Step::Collect),
    ]
}

proptest! {
    #![proptest_config(cases())]

    /// Every request arrives once and in order, every response too, across the indices' wrap; and
    /// whoever armed its end and found nothing is notified of the next.
    #[test]
    fn all_arrives_once_and_in_order(
        steps in prop::collection::vec(step(), 1..if cfg!(miri) { 30 } else { 200 }),
        start in any::<u32>(),
    ) {
        let page = TestPage::new();
        let mut front = Front::new(&page);
        let mut back = Back::attach(&page);
        for index in [&mut front.put, &mut front.pushed, &mut front.taken] {
            *index = start;
        }
        for index in [&mut back.put, &mut back.pushed, &mut back.taken] {
            *index = start;
        }
        for (offset, value) in
            [(REQ_PROD, start), (RSP_PROD, start), (REQ_EVENT, start), (RSP_EVENT, start)]
        {
            page.store(offset, value);
        }
        let (mut next, mut asked, mut answered) = (0_u64, VecDeque::new(), VecDeque::new());
        let (mut back_sleeps, mut front_sleeps) = (false, false);
        for step in steps {
            match step {
                Step::Ask(count) => {
                    for _ in 0..count {
                        if front.put(&next).is_ok() {
                            asked.push_back(next);
                            next += 1;
                        }
                    }
                    let new = front.put != front.pushed;
                    let woken = front.push();
                    prop_assert!(woken || !(new && back_sleeps));
                    back_sleeps &= !woken;
                }
                Step::Serve(count) => {
                    for _ in 0..count {
                        let Some(request) = back.take().unwrap() else { break };
                        prop_assert_eq!(Some(request), asked.pop_front());
                        back.put(&(request * 3)).unwrap();
                        answered.push_back(request * 3);
                    }
                    let new = back.put != back.pushed;
                    let woken = back.push();
                    prop_assert!(woken || !(new && front_sleeps));
                    front_sleeps &= !woken;
                    back_sleeps = !back.arm().unwrap();
                }
                Step::Collect(count) => {
                    for _ in 0..count {
                        let Some(response) = front.take().unwrap() else { break };
                        prop_assert_eq!(Some(response), answered.pop_front());
                    }
                    front_sleeps = !front.arm().unwrap();
                }
            }
        }
    }

    /// Whatever the peer writes into the page: no panic, and no more comes out than was asked for.
    #[test]
    fn a_hostile_peer_gives_errors(
        writes in prop::collection::vec((0..4_usize, any::<u32>(), 0..3_u32), 1..50),
    ) {
        let page = TestPage::new();
        let mut front = Front::new(&page);
        let mut back = Back::attach(&page);
        let mut seen: Vec<u64> = Vec::new();
        for (word, value, near) in writes {
            let value = if near == 0 { value } else { front.pushed.wrapping_add(value % 40) };
            page.store(4 * word, value);
            let _ = front.put(&7);
            let _ = front.push();
            while let Ok(Some(response)) = front.take() {
                seen.push(response);
            }
            let _ = front.arm();
            prop_assert!(front.room() <= Front::SLOTS);
            while let Ok(Some(_)) = back.take() {
                let _ = back.put(&1);
            }
            let _ = back.push();
            let _ = back.arm();
        }
        prop_assert!(seen.len() <= 50);
    }
}
