//! What a vCPU checks by itself.

use alloc::vec::Vec;

use pv_drivers::device::{Access, DomId, Foreign, Pages};
use pv_drivers::event::Channel;
use pv_drivers::hypercall::Native;
use pv_drivers::ring::Page;
use pv_drivers::runtime::{Guest, clock, peer, shared, vcpu};

use crate::check;

/// Numbers that one can compute again.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

pub fn run(rounds: u32) {
    let Ok(own) = peer::own_id() else {
        return check(false, "no store");
    };
    for n in 0..rounds {
        round(own, u64::from(n) << 8 | u64::from(vcpu::current()));
    }
}

/// Everything once.
pub fn round(own: DomId, seed: u64) {
    memory(seed);
    grants(own, seed);
    events(own);
}

/// Blocks of many sizes, alive at once.
fn memory(seed: u64) {
    let mut sizes = Numbers::new(seed);
    let blocks: Vec<(u64, Vec<u64>)> = (0..24)
        .map(|n| {
            let words = (sizes.next() % 2000) as usize;
            let mut numbers = Numbers::new(seed ^ n);
            (n, (0..words).map(|_| numbers.next()).collect())
        })
        .collect();
    for (n, block) in blocks.iter().rev() {
        let mut numbers = Numbers::new(seed ^ n);
        check(
            block.iter().all(|&word| word == numbers.next()),
            "memory has changed",
        );
    }
}

/// A page shared with oneself: by mapping and by copying the same bytes.
fn grants(own: DomId, seed: u64) {
    let Ok(page) = Guest.share(own, Access::Write) else {
        return check(false, "no page to share");
    };
    let mut numbers = Numbers::new(seed);
    let bytes: Vec<u8> = (0..512)
        .flat_map(|_| numbers.next().to_ne_bytes())
        .collect();
    page.write(0, &bytes);
    let mut seen = alloc::vec![0; 4096];
    match Guest.map(own, page.reference()) {
        Ok(mapped) => {
            mapped.read(0, &mut seen);
            check(seen == bytes, "a mapped page differs");
            mapped.store(64, 0x600d_600d);
            check(
                page.load(64) == 0x600d_600d,
                "a write through a mapping is lost",
            );
        }
        Err(_) => check(false, "cannot map"),
    }
    let copied = Guest.copy_from(own, page.reference(), 100, &mut seen[..1000]);
    check(
        copied.is_ok() && seen[..1000] == bytes[100..1100],
        "a copy differs",
    );
    let copied = Guest.copy_to(own, page.reference(), 4000, &bytes[..96]);
    page.read(4000, &mut seen[..96]);
    check(
        copied.is_ok() && seen[..96] == bytes[..96],
        "a copy does not arrive",
    );
    check(page.end().is_ok(), "a page that nobody uses is in use");
}

/// Events to oneself: each arrives, none twice.
fn events(own: DomId) {
    let offer = Channel::offer(Native, shared::bits(), own);
    let Ok(offer) = offer else {
        return check(false, "no port");
    };
    let Ok(bound) = Channel::bind(Native, shared::bits(), own, offer.port()) else {
        return check(false, "cannot bind");
    };
    for _ in 0..8 {
        bound.notify();
        bound.notify();
        check(
            offer.wait(Some(clock::now() + 1_000_000_000), clock::now),
            "an event is lost",
        );
        check(!offer.take(), "an event comes twice");
    }
}
