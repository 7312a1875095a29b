//! What two guests measure together.

use pv_drivers::ring::Page;
use pv_drivers::runtime::{clock, peer};
use pv_drivers::xenstore::Error;

use crate::row;

/// Round trips of a round.
const COUNT: u64 = 32;

/// Longest wait for the other one, in nanoseconds.
const PATIENCE: u64 = 10_000_000_000;

/// Sends every event back, until the other one says that it is done.
pub fn serve() -> Result<(), Error> {
    let shared = peer::serve()?;
    while shared.page.load(0) == 0 {
        if shared
            .channel
            .wait(Some(clock::now() + PATIENCE), clock::now)
        {
            shared.channel.notify();
        }
    }
    Ok(())
}

/// Sends events and waits for each to come back.
pub fn visit() -> Result<(), Error> {
    let shared = peer::visit()?;
    let mut lost = false;
    // The other one's first: it notices that somebody has come.
    let round_trips = || {
        for _ in 0..COUNT {
            shared.channel.notify();
            lost |= !shared
                .channel
                .wait(Some(clock::now() + PATIENCE), clock::now);
        }
    };
    row("event to another guest and back", COUNT, round_trips);
    shared.page.store(0, 1);
    shared.channel.notify();
    if lost { Err(Error::Late) } else { Ok(()) }
}
