//! What is checked again and again while the guest is saved, restored, copied and made smaller: that
//! memory, time, disk, store, grants and events go on as if nothing had been.

use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use core::time::Duration;

use pv_drivers::block::{Disk, Options};
use pv_drivers::println;
use pv_drivers::runtime::power::{self, Request, Requests};
use pv_drivers::runtime::suspend::{Resumed, suspend};
use pv_drivers::runtime::{Guest, clock, peer, store, vcpu};

use crate::alone::{self, Numbers};
use crate::{ERRORS, check};

/// Words that each vCPU keeps: 1 MiB.
const WORDS: usize = 1 << 17;
/// Time between two rounds.
const PAUSE: Duration = Duration::from_millis(20);
/// Latest that a wait may end, and longest that the guest's time may take for a suspension that ends
/// elsewhere, in nanoseconds.
const LATE: u64 = 60_000_000_000;
/// Sectors of the disk that are used.
const SECTORS: u64 = 64;
/// vCPUs that are watched.
const MOST: usize = 32;

/// Rounds of each vCPU.
static ROUNDS: [AtomicU32; MOST] = [const { AtomicU32::new(0) }; MOST];
/// How often the guest was suspended.
static SUSPENDED: AtomicU32 = AtomicU32::new(0);

/// What a vCPU keeps, and looks at in every round.
struct Kept {
    seed: u64,
    words: Vec<u64>,
}

impl Kept {
    fn new() -> Self {
        let seed = 77 + u64::from(vcpu::current());
        let mut numbers = Numbers::new(seed);
        Self {
            seed,
            words: (0..WORDS).map(|_| numbers.next()).collect(),
        }
    }

    fn round(&self) {
        let mut numbers = Numbers::new(self.seed);
        let same = self.words.iter().all(|&word| word == numbers.next());
        check(same, "kept memory has changed");
        match peer::own_id() {
            Ok(own) => alone::round(own, self.seed),
            Err(_) => check(false, "no store"),
        }
        let suspended = SUSPENDED.load(Ordering::SeqCst);
        let until = clock::now() + PAUSE.as_nanos() as u64;
        peer::pause(PAUSE);
        // Where the guest goes on in place, the time of its standing still has passed.
        let undisturbed = SUSPENDED.load(Ordering::SeqCst) == suspended;
        check(
            !undisturbed || clock::now() < until + LATE,
            "a wait is late",
        );
        if let Some(rounds) = ROUNDS.get(vcpu::current() as usize) {
            rounds.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The disk, and what every sector holds.
struct Sectors {
    disk: Disk<Guest>,
    /// Seeds of what was written.
    written: [u64; SECTORS as usize],
    turn: u64,
}

fn sector(seed: u64) -> Vec<u8> {
    let mut numbers = Numbers::new(seed);
    (0..64).flat_map(|_| numbers.next().to_ne_bytes()).collect()
}

impl Sectors {
    fn open() -> Option<Self> {
        let mut disk = Disk::open(Guest, "device/vbd/51712", Options::default()).ok()?;
        let connected = disk.connect();
        check(connected.is_ok(), "the disk does not connect");
        Some(Self {
            disk,
            written: [0; SECTORS as usize],
            turn: 0,
        })
    }

    /// Writes a sector and reads another one.
    fn round(&mut self) {
        self.turn += 1;
        let number = self.turn % SECTORS;
        let seed = self.turn << 8;
        let wrote = self.disk.write(number, &sector(seed));
        check(wrote.is_ok(), "the disk does not write");
        self.written[number as usize] = seed;
        let number = self.turn * 7 % SECTORS;
        let seed = self.written[number as usize];
        let mut got = [0; 512];
        let read = self.disk.read(number, &mut got);
        check(read.is_ok(), "the disk does not read");
        check(seed == 0 || got == *sector(seed), "a sector has changed");
        if number == 0 {
            check(self.disk.flush().is_ok(), "the disk does not flush");
        }
    }
}

/// Until the end of the guest.
fn other() {
    let kept = Kept::new();
    loop {
        kept.round();
    }
}

/// Whether the store takes a value and a watch hears of it.
fn store_works(number: u32) -> bool {
    let Some(store) = store() else { return false };
    let Ok(watch) = store.watch("data/stress") else {
        return false;
    };
    let _ = watch.fired();
    let value = format!("{number}");
    store.write("data/stress", value.as_bytes()).is_ok()
        && watch.fired()
        && store.read_text("data/stress") == Ok(value)
}

fn suspended() -> Option<Resumed> {
    let (time, wall) = (clock::now(), clock::wall());
    let resumed = suspend();
    SUSPENDED.fetch_add(1, Ordering::SeqCst);
    let resumed = match resumed {
        Ok(resumed) => resumed,
        Err(why) => {
            println!("stress: not suspended: {why}");
            return None;
        }
    };
    let now = clock::now();
    check(now >= time, "time goes back");
    check(
        resumed == Resumed::Here || now < time + LATE,
        "time has jumped",
    );
    check(
        clock::wall() + Duration::from_secs(2) > wall,
        "the date goes back",
    );
    Some(resumed)
}

/// Checks until the toolstack asks for an end. Each time that the guest was suspended, and every vCPU
/// has found all sound since, a line says so.
pub fn run(vcpus: u32) {
    let Ok(requests) = Requests::listen() else {
        return check(false, "no store");
    };
    for vcpu in 1..vcpus {
        check(vcpu::start(vcpu, other).is_ok(), "it does not start");
    }
    let kept = Kept::new();
    let mut disk = Sectors::open();
    println!(
        "stress: watching on {vcpus} vCPUs, disk: {}",
        disk.is_some()
    );
    // What is still to be told, and what every vCPU has to reach first.
    let mut telling: Option<(Resumed, Vec<u32>)> = None;
    loop {
        match requests.take() {
            Some(Request::PowerOff | Request::Reboot) => return,
            Some(Request::Suspend) => {
                if let Some(resumed) = suspended() {
                    let rounds = ROUNDS.iter().take(vcpus as usize);
                    let goals = rounds.map(|r| r.load(Ordering::SeqCst) + 2).collect();
                    telling = Some((resumed, goals));
                }
            }
            Some(Request::Resize { kib }) => println!("stress: {} KiB", power::resize(kib)),
            None => {}
        }
        kept.round();
        if let Some(disk) = &mut disk {
            disk.round();
        }
        let reached = |goals: &Vec<u32>| {
            let rounds = ROUNDS.iter().map(|rounds| rounds.load(Ordering::SeqCst));
            rounds.zip(goals).all(|(rounds, goal)| rounds >= *goal)
        };
        if let Some((resumed, _)) = telling.take_if(|(_, goals)| reached(goals)) {
            let number = SUSPENDED.load(Ordering::SeqCst);
            check(store_works(number), "the store does not work");
            let place = match resumed {
                Resumed::Here => "here",
                Resumed::Elsewhere => "elsewhere",
            };
            let errors = ERRORS.load(Ordering::Relaxed);
            println!("stress: suspended {number} times, {place}, {errors} errors");
        }
    }
}
