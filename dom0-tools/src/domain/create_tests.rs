//! Creation on fakes: whatever step fails, nothing is left.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::device::fake::FakeStore;
use crate::sys::{Mfn, Port};

/// A machine that counts what is there, and fails at a step.
#[derive(Default)]
struct FakeMaker {
    things: Rc<RefCell<Vec<String>>>,
    fail_at: Cell<Option<u32>>,
    steps: Cell<u32>,
}

impl FakeMaker {
    fn step(&self) -> Result<(), String> {
        let step = self.steps.get();
        self.steps.set(step + 1);
        if self.fail_at.get() == Some(step) {
            return Err(format!("step {step}"));
        }
        Ok(())
    }

    fn add(&self, thing: impl Into<String>) -> Result<(), String> {
        self.step()?;
        self.things.borrow_mut().push(thing.into());
        Ok(())
    }

    fn remove(&self, thing: &str) -> Result<(), String> {
        let mut things = self.things.borrow_mut();
        let place = things.iter().position(|t| t == thing);
        things.remove(place.ok_or_else(|| format!("{thing} is not there"))?);
        Ok(())
    }
}

const DOMAIN: DomId = DomId(9);

/// The fake of a domain in the making.
struct New {
    things: Option<Rc<RefCell<Vec<String>>>>,
}

impl Drop for New {
    fn drop(&mut self) {
        if let Some(things) = &self.things {
            // The domain is the last to go.
            assert_eq!(*things.borrow(), ["domain"]);
            things.borrow_mut().clear();
        }
    }
}

impl Maker for FakeMaker {
    type Error = String;
    type New = New;

    fn make(&self, _: Uuid, _: &DomainConfig) -> Result<New, String> {
        self.add("domain")?;
        Ok(New {
            things: Some(Rc::clone(&self.things)),
        })
    }

    fn id(&self, _: &New) -> DomId {
        DOMAIN
    }

    fn keep(&self, mut new: New) {
        new.things = None;
    }

    fn build(
        &self,
        _: &New,
        _: &DomainConfig,
        source: Source<'_>,
        _: Progress<'_>,
    ) -> Result<Rings, String> {
        if let Source::Stream(saved) = source {
            let mut content = String::new();
            saved
                .stream
                .read_to_string(&mut content)
                .map_err(|error| error.to_string())?;
        }
        self.step()?;
        Ok(Rings {
            store_frame: Mfn(1),
            store_port: Port(1),
            console_frame: Mfn(2),
            console_port: Port(2),
        })
    }

    fn introduce(&self, _: DomId, _: &Rings) -> Result<(), String> {
        self.add("introduced")
    }

    fn release(&self, _: DomId) -> Result<(), String> {
        self.remove("introduced")
    }

    fn open_console(&self, _: DomId, _: &DomainConfig) -> Result<(), String> {
        self.add("console")
    }

    fn close_console(&self, _: DomId) {
        self.remove("console").unwrap();
    }

    fn attach_disk(&self, _: DomId, disk: &Disk) -> Result<(), String> {
        self.add(disk.vdev.to_string())
    }

    fn detach_disk(&self, _: DomId, disk: &Disk) -> Result<(), String> {
        self.remove(&disk.vdev.to_string())
    }

    fn attach_vif(&self, _: DomId, vif: &Vif) -> Result<(), String> {
        self.add(vif.mac.unwrap().to_string())
    }

    fn detach_vif(&self, _: DomId, vif: &Vif) -> Result<(), String> {
        self.remove(&vif.mac.unwrap().to_string())
    }

    fn unpause(&self, _: DomId) -> Result<(), String> {
        self.add("runs")
    }
}

const UUID: Uuid = Uuid([3; 16]);

fn config() -> DomainConfig {
    let text = "
name = \"web\"
kernel = \"/k\"
memory = \"64M\"
[[disk]]
vdev = \"xvda\"
target = \"/a\"
[[disk]]
vdev = \"xvdb\"
target = \"/b\"
[[vif]]
[[vif]]
";
    let mut config = DomainConfig::from_toml(text, "test").unwrap();
    complete(&mut config, UUID);
    config
}

fn attempt(maker: &FakeMaker, store: &FakeStore) -> Result<DomId, String> {
    attempt_from(false, maker, store)
}

/// From its kernel, or from a saved one.
fn attempt_from(saved: bool, maker: &FakeMaker, store: &FakeStore) -> Result<DomId, String> {
    let mut stream = &b"a guest"[..];
    let mut progress = |_: &str, _: u64, _: u64| {};
    let source = if saved {
        let stream = &mut stream;
        Source::Stream(Saved { stream, begins: 0 })
    } else {
        Source::Kernel
    };
    let how = How {
        uuid: UUID,
        now: 0,
        paused: false,
        source,
        progress: &mut progress,
    };
    create(maker, store, &config(), how).map_err(|error| error.to_string())
}

#[test]
fn all_steps_in_order() {
    let (maker, store) = (FakeMaker::default(), FakeStore::default());
    assert_eq!(attempt(&maker, &store), Ok(DOMAIN));
    let things = maker.things.borrow();
    assert_eq!(
        things[..5],
        ["domain", "introduced", "console", "xvda", "xvdb"]
    );
    assert_eq!(things.last().unwrap(), "runs");
    assert!(
        store
            .paths()
            .contains(&"/local/domain/9/console/port".into())
    );
}

#[test]
fn whatever_step_fails_nothing_is_left() {
    let steps = {
        let (maker, store) = (FakeMaker::default(), FakeStore::default());
        attempt(&maker, &store).unwrap();
        maker.steps.get()
    };
    for step in 0..steps {
        let (maker, store) = (FakeMaker::default(), FakeStore::default());
        maker.fail_at.set(Some(step));
        assert_eq!(attempt(&maker, &store), Err(format!("step {step}")));
        assert!(
            maker.things.borrow().is_empty(),
            "step {step}: {:?}",
            maker.things
        );
        assert!(store.paths().is_empty(), "step {step}: {:?}", store.paths());
    }
}

#[test]
fn a_full_store_leaves_nothing() {
    for (change, saved) in [(0, false), (1, false), (0, true), (1, true)] {
        let (maker, store) = (FakeMaker::default(), FakeStore::default());
        store.changes_left.set(Some(change));
        let error = attempt_from(saved, &maker, &store).unwrap_err();
        assert!(error.contains("ENOSPC"), "{error}");
        assert!(maker.things.borrow().is_empty(), "{:?}", maker.things);
        assert!(store.paths().is_empty(), "{:?}", store.paths());
    }
}
