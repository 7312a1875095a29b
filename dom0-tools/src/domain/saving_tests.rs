//! Suspending on fakes: whatever fails, the domain goes on.

use std::cell::{Cell, RefCell};

use super::*;
use crate::device::fake::FakeStore;
use crate::sys::Mfn;

const DOMAIN: DomId = DomId(9);
const WORD: &str = "/local/domain/9/control/shutdown";

/// A domain that stops for this reason when it has taken note, and a machine that fails at a
/// step.
struct FakeMachine<'a> {
    store: &'a FakeStore,
    stops: Option<ShutdownReason>,
    paused: Cell<bool>,
    resumed: Cell<bool>,
    fails: Option<&'static str>,
    did: RefCell<Vec<&'static str>>,
}

impl<'a> FakeMachine<'a> {
    fn new(store: &'a FakeStore, stops: Option<ShutdownReason>) -> Self {
        // The guest takes note.
        let noted = (WORD.to_owned(), String::new());
        store.while_waiting.borrow_mut().push(noted);
        Self {
            store,
            stops,
            paused: Cell::new(false),
            resumed: Cell::new(false),
            fails: None,
            did: RefCell::default(),
        }
    }

    fn step(&self, step: &'static str) -> Result<(), Failure> {
        self.did.borrow_mut().push(step);
        if self.fails == Some(step) {
            return Err(Failure::new(FailureCode::Failed, format!("no {step}")));
        }
        Ok(())
    }

    fn run(&self, then: AfterSave) -> Outcome<()> {
        suspended(self, self.store, DOMAIN, then, || self.step("write"))
    }
}

impl Stops for FakeMachine<'_> {
    fn info(&self, domain: DomId) -> Result<DomainInfo, Failure> {
        if self.fails == Some("info") && self.store.read(WORD)?.is_some() {
            return Err(Failure::new(FailureCode::Failed, "no info"));
        }
        let noted = self.store.read(WORD)?.is_some_and(|word| word.is_empty());
        Ok(DomainInfo {
            domain,
            handle: [0; 16],
            dying: false,
            shutdown: self.stops.filter(|_| noted && !self.resumed.get()),
            paused: self.paused.get(),
            blocked: false,
            running: true,
            xenstore: false,
            pages: 1,
            max_pages: 1,
            outstanding_pages: 0,
            shared_info: Mfn(1),
            cpu_time: 0,
            vcpus_online: 1,
            vcpus: 1,
            cpupool: 0,
        })
    }

    fn pause(&self, _: DomId) -> Result<(), Failure> {
        self.step("pause")
    }

    fn resume(&self, _: DomId) -> Result<(), Failure> {
        self.step("resume")?;
        self.resumed.set(true);
        Ok(())
    }
}

fn text<T: std::fmt::Debug>(outcome: Outcome<T>) -> String {
    match outcome {
        Outcome::Failed(failure) | Outcome::Late(failure) => failure.text,
        done @ Outcome::Done(_) => panic!("{done:?}"),
    }
}

#[test]
fn what_becomes_of_a_saved_domain() {
    for (then, did) in [
        (AfterSave::Destroy, &["write"][..]),
        (AfterSave::Run, &["write", "resume"]),
        (AfterSave::Pause, &["write", "pause", "resume"]),
    ] {
        let store = FakeStore::default();
        let machine = FakeMachine::new(&store, Some(ShutdownReason::SUSPEND));
        assert_eq!(machine.run(then), Outcome::Done(()));
        assert_eq!(*machine.did.borrow(), did);
    }
}

#[test]
fn whatever_fails_it_goes_on() {
    for then in [AfterSave::Destroy, AfterSave::Run, AfterSave::Pause] {
        for fails in ["write", "pause"] {
            let store = FakeStore::default();
            let mut machine = FakeMachine::new(&store, Some(ShutdownReason::SUSPEND));
            machine.fails = Some(fails);
            let outcome = machine.run(then);
            if fails == "write" || then == AfterSave::Pause {
                assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
                assert_eq!(text(outcome), format!("no {fails}"));
                assert_eq!(machine.did.borrow().last(), Some(&"resume"));
            }
        }
    }
}

#[test]
fn one_that_does_not_go_on_is_tried_again() {
    let store = FakeStore::default();
    let mut machine = FakeMachine::new(&store, Some(ShutdownReason::SUSPEND));
    machine.fails = Some("resume");
    let outcome = machine.run(AfterSave::Run);
    assert!(matches!(outcome, Outcome::Late(_)), "{outcome:?}");
}

#[test]
fn nobody_listens() {
    let store = FakeStore::default();
    let machine = FakeMachine::new(&store, Some(ShutdownReason::SUSPEND));
    store.while_waiting.borrow_mut().clear();
    let outcome = machine.run(AfterSave::Destroy);
    assert!(matches!(outcome, Outcome::Late(_)), "{outcome:?}");
    // The word is taken back.
    assert_eq!(store.read(WORD).unwrap().as_deref(), Some(""));
    assert!(machine.did.borrow().is_empty());
}

#[test]
fn it_takes_note_and_does_nothing() {
    let store = FakeStore::default();
    let machine = FakeMachine::new(&store, None);
    let outcome = machine.run(AfterSave::Destroy);
    assert!(matches!(&outcome, Outcome::Late(f) if f.code == FailureCode::TimedOut));
}

#[test]
fn one_that_was_asked_may_suspend_itself_though_nobody_sees_it() {
    let store = FakeStore::default();
    let mut machine = FakeMachine::new(&store, Some(ShutdownReason::SUSPEND));
    machine.fails = Some("info");
    let outcome = machine.run(AfterSave::Run);
    assert!(matches!(outcome, Outcome::Late(_)), "{outcome:?}");
}

#[test]
fn it_ends_instead() {
    let store = FakeStore::default();
    let machine = FakeMachine::new(&store, Some(ShutdownReason::CRASH));
    let outcome = machine.run(AfterSave::Run);
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert!(text(outcome).contains("crash"));
    assert!(machine.did.borrow().is_empty());
}

#[test]
fn a_paused_one_is_not_asked() {
    let store = FakeStore::default();
    let machine = FakeMachine::new(&store, Some(ShutdownReason::SUSPEND));
    machine.paused.set(true);
    assert!(text(machine.run(AfterSave::Run)).contains("paused"));
    assert_eq!(store.read(WORD).unwrap(), None);
}
