//! Waiting for anything: an event on any channel of the guest, or a time.
//!
//! Any vCPU may wait. One that takes events off the shared bits counts up [`TAKEN`] and rings
//! the others that sleep, each of which has a channel to itself for that: so nobody sleeps on after
//! an event that another vCPU has taken.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use xen_abi::xen::XEN_LEGACY_MAX_VCPUS;

use super::{clock, shared, vcpu};
use crate::hypercall::{Hypervisor, Native, Port};

/// Ports that one sleep can wait for (Xen's limit).
const MOST: usize = 128;

/// With more ports than [`MOST`], sleeps are this short, in nanoseconds.
const SHORT: u64 = 1_000_000;

/// Ports that are waited for, a bit each.
static OPEN: [AtomicU64; 64] = [const { AtomicU64::new(0) }; 64];

/// How many words of [`OPEN`] ever had a bit: ports are given out from the lowest on.
static WORDS: AtomicUsize = AtomicUsize::new(0);

/// How often events were taken.
static TAKEN: AtomicU32 = AtomicU32::new(0);

/// What of [`TAKEN`] each vCPU knows.
static KNOWN: [AtomicU32; XEN_LEGACY_MAX_VCPUS] =
    [const { AtomicU32::new(0) }; XEN_LEGACY_MAX_VCPUS];

/// Which vCPUs sleep, or are about to.
static ASLEEP: [AtomicBool; XEN_LEGACY_MAX_VCPUS] =
    [const { AtomicBool::new(false) }; XEN_LEGACY_MAX_VCPUS];

/// The port by which other vCPUs wake each; 0: none yet.
static BELLS: [AtomicU32; XEN_LEGACY_MAX_VCPUS] =
    [const { AtomicU32::new(0) }; XEN_LEGACY_MAX_VCPUS];

fn find(port: Port) -> Option<(&'static AtomicU64, u64)> {
    let word = OPEN.get((port.0 / 64) as usize)?;
    Some((word, 1 << (port.0 % 64)))
}

/// The words of [`OPEN`] that are in use.
fn open() -> &'static [AtomicU64] {
    let words = WORDS.load(Ordering::SeqCst);
    OPEN.get(..words).unwrap_or(&OPEN)
}

/// From now on an event on this port ends waits.
pub(super) fn add(port: Port) {
    if let Some((word, bit)) = find(port) {
        WORDS.fetch_max((port.0 / 64) as usize + 1, Ordering::SeqCst);
        word.fetch_or(bit, Ordering::SeqCst);
    }
}

/// No longer.
pub(super) fn remove(port: Port) {
    if let Some((word, bit)) = find(port) {
        word.fetch_and(!bit, Ordering::SeqCst);
    }
}

/// The guest was restored: no port is what it was.
pub(super) fn renew() {
    for bell in &BELLS {
        bell.store(0, Ordering::SeqCst);
    }
    for word in &OPEN {
        word.store(0, Ordering::SeqCst);
    }
}

/// Says that something has happened, to all vCPUs that wait or will.
pub(super) fn ring_all() {
    TAKEN.fetch_add(1, Ordering::SeqCst);
    let own = vcpu::current() as usize;
    for (vcpu, (asleep, bell)) in ASLEEP.iter().zip(&BELLS).enumerate() {
        let bell = bell.load(Ordering::SeqCst);
        if vcpu != own && bell != 0 && asleep.load(Ordering::SeqCst) {
            // The port is open, so the hypervisor can say nothing that matters here.
            let _ = Native.send(Port(bell));
        }
    }
}

/// Takes what events there are, and tells everybody.
fn look() {
    if shared::bits().take_all(open()) {
        ring_all();
    }
}

/// The own bell, made at first use. Nobody else makes it.
fn bell(vcpu: u32) -> Option<Port> {
    let bell = BELLS.get(vcpu as usize)?;
    if let port @ 1.. = bell.load(Ordering::SeqCst) {
        return Some(Port(port));
    }
    let port = Native.bind_ipi(vcpu).ok()?;
    shared::bits().mask(port);
    bell.store(port.0, Ordering::SeqCst);
    Some(port)
}

/// Waits until an event arrives on any of the guest's channels, a watch fires, or system time is
/// `until`. Ends at once if something has happened since this vCPU's last call. May end for no
/// reason.
///
/// While the guest is suspended, vCPUs other than 0 stand still here (see [`vcpu::rest`]).
pub fn any(until: u64) {
    vcpu::rest();
    wait(until);
    vcpu::rest();
}

fn wait(until: u64) {
    let vcpu = vcpu::current();
    let (Some(known), Some(asleep)) = (KNOWN.get(vcpu as usize), ASLEEP.get(vcpu as usize)) else {
        return;
    };
    // Without a bell, a vCPU looks again and again.
    let bell = bell(vcpu);
    // Before the look: who takes an event after it sees this one asleep, and rings.
    asleep.store(true, Ordering::SeqCst);
    look();
    if !news(known) && clock::now() < until {
        sleep(bell, until);
        look();
    }
    asleep.store(false, Ordering::SeqCst);
    news(known);
}

/// Whether something has happened that this vCPU does not know of; now it does.
fn news(known: &AtomicU32) -> bool {
    let taken = TAKEN.load(Ordering::SeqCst);
    known.swap(taken, Ordering::SeqCst) != taken
}

fn sleep(bell: Option<Port>, until: u64) {
    let mut ports = [Port(0); MOST];
    let mut count = 0;
    let open = open().iter().zip(0..).flat_map(|(word, n)| {
        let mut left = word.load(Ordering::SeqCst);
        core::iter::from_fn(move || {
            let bit = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (bit < 64).then(|| Port(n * 64 + bit))
        })
    });
    let mut complete = bell.is_some();
    for port in bell.into_iter().chain(open) {
        match ports.get_mut(count) {
            Some(slot) => *slot = port,
            None => {
                complete = false;
                break;
            }
        }
        count += 1;
    }
    let until = if complete {
        until
    } else {
        until.min(clock::now() + SHORT)
    };
    let ports = ports.get(..count).unwrap_or_default();
    if Native.poll(ports, Some(until)).is_err() {
        // A port was closed at this moment.
        Native.yield_now();
    }
    if let Some(bell) = bell {
        let _ = shared::bits().take(bell);
    }
}
