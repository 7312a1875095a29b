//! Frontends and backends of `pv-drivers`, each while its other half and everything they share is
//! meddled with.
//!
//! An input is a program: what the frontend does, and what happens behind its back while it waits.
//! Nothing may panic or wait for ever, and afterwards both halves must come together again.

mod block;
mod console;
mod net;
mod p9;
mod store;
mod wire;

pub use block::{block, steps as block_steps};
pub use console::{console, steps as console_steps};
pub use net::{net, steps as net_steps};
pub use p9::{p9, steps as p9_steps};
pub use store::{steps as store_steps, store};

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pv_drivers::device::handshake::FrontendError;
use pv_drivers::device::testing::Machine;
use pv_drivers::device::{DomId, Store};
use pv_drivers::ring::Page;

use crate::mutate::Random;

const GUEST: DomId = DomId(5);
const BACK: DomId = DomId(0);
/// How long a frontend waits for its backend, by the machine's clock.
const PATIENCE: Duration = Duration::from_millis(50);
/// One operation may look around so often: it waits for at most a few hundred answers, each for
/// [`PATIENCE`] in steps of at least a millisecond.
const MOST_WAITS: usize = 20_000;

/// The input, read from both sides.
#[derive(Clone)]
pub struct Program {
    bytes: Arc<Mutex<(Vec<u8>, usize)>>,
    /// Steps done.
    steps: Arc<AtomicUsize>,
    /// Waits since the frontend's last operation began.
    waits: Arc<AtomicUsize>,
}

impl Program {
    fn new(data: &[u8]) -> Self {
        Self {
            bytes: Arc::new(Mutex::new((data.to_vec(), 0))),
            steps: Arc::default(),
            waits: Arc::default(),
        }
    }

    /// The next byte; none at the end.
    fn byte(&self) -> Option<u8> {
        let mut bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, at) = &mut *bytes;
        let byte = all.get(*at).copied()?;
        *at += 1;
        Some(byte)
    }

    /// A number below `end`.
    fn below(&self, end: usize) -> usize {
        let [low, high] = [self.byte(), self.byte()].map(|byte| usize::from(byte.unwrap_or(0)));
        (high << 8 | low) % end.max(1)
    }

    /// The frontend begins an operation.
    fn begins(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        self.waits.store(0, Ordering::Relaxed);
    }

    /// The frontend waits.
    fn waits(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        let waits = self.waits.fetch_add(1, Ordering::Relaxed);
        assert!(waits < MOST_WAITS, "an operation waits for ever");
    }

    fn steps(&self) -> usize {
        self.steps.load(Ordering::Relaxed)
    }
}

/// What the backend does when it has its turn.
#[derive(Clone, Copy)]
enum Turn {
    /// What it should.
    Work,
    /// It dies, and another one takes its place that knows nothing of it.
    Restart,
}

/// What meddles.
struct Meddler {
    machine: Machine,
    program: Program,
    /// The backend's folder.
    back: String,
    /// The frontend's.
    front: String,
    /// Nodes worth a change, in either.
    nodes: &'static [&'static str],
    /// Pages that the other side keeps for no good reason.
    kept: Vec<Arc<dyn Page + Send + Sync>>,
}

/// Values that nodes do not have, or should not.
const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "2",
    "4",
    "8",
    "512",
    "4096",
    "-1",
    "65536",
    "4294967295",
    "4294967296",
    "18446744073709551615",
    "99999999999999999999",
    "1.5",
    "x86_32-abi",
    "\u{221e}",
    " 1",
    "+1",
    "0x10",
    "1\0",
    LONG,
];

/// Longer than any value that means something.
const LONG: &str = match core::str::from_utf8(&[b'9'; 2000]) {
    Ok(text) => text,
    Err(_) => "",
};

/// The backend of a kind of devices.
trait Backend: Sized + Send + 'static {
    const KIND: &'static str;
    const ID: u32;
    /// Nodes worth a change, in either half.
    const NODES: &'static [&'static str];

    /// The half in this folder, if its nodes are there.
    fn open(machine: &Machine, back: &str) -> Result<Self, FrontendError>;

    /// Does what there is to do. Whatever it finds wrong, it goes on with the next.
    fn work(&mut self);
}

/// A machine with one device, for its frontend to be tried on.
struct Stage<B> {
    machine: Machine,
    back: String,
    backend: PhantomData<B>,
}

impl<B: Backend> Stage<B> {
    /// Whenever the guest waits, everything behind its back is meddled with as the program says.
    fn hostile(program: &Program) -> Self {
        let machine = Machine::new();
        machine.plug(B::KIND, B::ID, GUEST, BACK);
        let back = format!("/local/domain/0/backend/{}/{}/{}", B::KIND, GUEST.0, B::ID);
        let stage = Self {
            machine,
            back,
            backend: PhantomData,
        };
        let mut meddler = Meddler::new(&stage, program);
        let mut server = stage.open();
        let program = program.clone();
        let (host, home) = (stage.machine.clone(), stage.back.clone());
        stage.machine.meanwhile(move || {
            program.waits();
            meddler.meddle(&mut |turn| match turn {
                Turn::Work => server.work(),
                // Without its nodes there is no other one.
                Turn::Restart => {
                    if let Ok(next) = B::open(&host, &home) {
                        server = next;
                    }
                }
            });
        });
        stage
    }

    fn open(&self) -> B {
        B::open(&self.machine, &self.back).expect("a device")
    }

    /// The guest is restored, and has a device whose backend works as it should.
    fn honest(&self) {
        Meddler::repair(&self.machine, &self.back);
        self.machine.plug(B::KIND, B::ID, GUEST, BACK);
        let mut server = self.open();
        self.machine.meanwhile(move || server.work());
        self.machine.restore(GUEST);
    }
}

impl<B> Drop for Stage<B> {
    fn drop(&mut self) {
        // Its hook holds the machine itself.
        self.machine.rest();
    }
}

impl Meddler {
    fn new<B: Backend>(stage: &Stage<B>, program: &Program) -> Self {
        Self {
            machine: stage.machine.clone(),
            program: program.clone(),
            back: stage.back.clone(),
            front: format!("/local/domain/{}/device/{}/{}", GUEST.0, B::KIND, B::ID),
            nodes: B::NODES,
            kept: Vec::new(),
        }
    }

    /// Some deeds at once. `serve` lets the backend run as it should.
    fn meddle(&mut self, serve: &mut dyn FnMut(Turn)) {
        for _ in 0..1 + self.program.below(4) {
            self.deed(serve);
        }
    }

    fn deed(&mut self, serve: &mut dyn FnMut(Turn)) {
        let Some(deed) = self.program.byte() else {
            return;
        };
        let program = &self.program;
        match deed % 40 {
            // An index or a mark of some page, near where it is.
            0 | 1 => {
                if let Some(page) = self.page() {
                    let at = program.below(4) * 4;
                    let near = page.load(at).wrapping_add(program.below(600) as u32);
                    page.store(at, near.wrapping_sub(5));
                }
            }
            // A word of a slot.
            2 | 3 => {
                if let Some(page) = self.page() {
                    let value = program.below(1 << 16) as u32 * 0x1_0001;
                    page.store(program.below(64) * 4, value);
                }
            }
            4 => {
                if let Some(page) = self.page() {
                    let at = program.below(4096);
                    page.write(at, &[program.byte().unwrap_or(0)]);
                }
            }
            5 => {
                let node = self.nodes[program.below(self.nodes.len())];
                self.write(&format!("{}/{node}", self.folder()), value(program));
            }
            6 => {
                let state = program.below(10).to_string();
                self.write(&format!("{}/state", self.folder()), &state);
            }
            7 => self.machine.storm(GUEST, 0),
            8 => {
                self.machine.limit_grants(program.below(400));
            }
            9 => self.machine.limit_grants(usize::MAX),
            10 => self.machine.refuse_store(program.below(8) == 0),
            // The newest response, or the one before.
            14..=16 => {
                if let Some(page) = self.page() {
                    let newest = page.load(8) as usize + 256 - 1 - program.below(2);
                    let slot = match program.below(3) {
                        0 => newest % 32 * 112,
                        1 => newest % 256 * 12,
                        _ => newest % 256 * 8,
                    };
                    page.write(64 + slot + program.below(12), &[program.below(256) as u8]);
                }
            }
            12 | 13 => self.machine.refuse_store(false),
            // A byte of a message, near its beginning.
            22 | 23 => {
                if let Some(page) = self.page() {
                    page.write(program.below(40), &[program.below(256) as u8]);
                }
            }
            11 => {
                if let Some(page) = self.page() {
                    self.kept.push(page);
                    self.kept.truncate(16);
                }
            }
            17 => {
                // A node, or all.
                let path = match program.below(8) {
                    0 => self.folder().to_owned(),
                    _ => {
                        let node = self.nodes[program.below(self.nodes.len())];
                        format!("{}/{node}", self.folder())
                    }
                };
                let _ = self.machine.domain(BACK).remove(&path);
            }
            18 => {
                let told = (program.below(4) != 0).then(|| value(program));
                self.machine.lie(program.below(12), told);
            }
            19 => {
                let grants = self.machine.grants();
                if let Some(&grant) = grants.get(program.below(grants.len())) {
                    self.machine.revoke(grant);
                }
            }
            20 => {
                self.machine.hang_up(BACK);
                serve(Turn::Restart);
            }
            21 => self.machine.storm(GUEST, program.below(2000) as u32),
            _ => serve(Turn::Work),
        }
    }

    /// The backend's folder, or now and then the frontend's.
    fn folder(&self) -> &str {
        match self.program.below(4) {
            0 => &self.front,
            _ => &self.back,
        }
    }

    fn page(&self) -> Option<Arc<pv_drivers::ring::testing::TestPage>> {
        let grants = self.machine.grants();
        // Rings were shared first, and matter most.
        let most = match self.program.below(3) {
            0 => grants.len(),
            _ => grants.len().min(4),
        };
        self.machine.page(*grants.get(self.program.below(most))?)
    }

    fn write(&self, path: &str, value: &str) {
        // A store that refuses is one of the deeds.
        let _ = self.machine.domain(BACK).write(path, value);
    }

    /// Ends all that stands in the way, as a toolstack does that plugs the device anew.
    fn repair(machine: &Machine, back: &str) {
        machine.rest();
        machine.calm();
        machine.refuse_store(false);
        machine.limit_grants(usize::MAX);
        machine
            .domain(BACK)
            .remove(back)
            .expect("the store answers again");
    }
}

/// A value of the list.
fn value(program: &Program) -> &'static str {
    VALUES[program.below(VALUES.len())]
}

/// Programs of some length.
pub fn programs() -> Vec<Vec<u8>> {
    let mut random = Random::new(4);
    [40, 400, 1500]
        .into_iter()
        .flat_map(|length| [length; 4])
        .map(|length| (0..length).map(|_| random.next() as u8).collect())
        .collect()
}
