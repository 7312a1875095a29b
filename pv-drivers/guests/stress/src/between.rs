//! What two copies check together: a page goes to and fro, and each turns every word into the next.

use pv_drivers::event::Channel;
use pv_drivers::hypercall::Native;
use pv_drivers::ring::Page;
use pv_drivers::runtime::{clock, peer};
use pv_drivers::xenstore::Error;

use crate::alone::Numbers;
use crate::check;

/// Turns of a round.
const TURNS: u32 = 20;

/// Longest wait for the other one, in nanoseconds.
const PATIENCE: u64 = 60_000_000_000;

/// What both know a word to be in a turn.
fn word(turn: u32, index: usize) -> u32 {
    let seed = u64::from(turn) << 16 | index as u64;
    Numbers::new(seed).next() as u32
}

/// Whose turn it is: the number of turns that are over, in the last word.
const TURN: usize = 4092;

/// Takes every other turn, beginning with `first`.
fn play(page: &impl Page, channel: &Channel<Native>, rounds: u32, first: u32) -> Result<(), Error> {
    let mut turn = first;
    while turn < rounds * TURNS {
        while page.load(TURN) < turn {
            if !channel.wait(Some(clock::now() + PATIENCE), clock::now) {
                return Err(Error::Late);
            }
        }
        for index in 0..1000 {
            let found = page.load(index * 4);
            check(
                turn == 0 || found == word(turn, index),
                "the peer's word is wrong",
            );
            page.store(index * 4, word(turn + 1, index));
        }
        page.store(TURN, turn + 1);
        channel.notify();
        turn += 2;
    }
    Ok(())
}

pub fn serve(rounds: u32) -> Result<(), Error> {
    let shared = peer::serve()?;
    play(&*shared.page, &shared.channel, rounds, 0)?;
    // The last turn is the other one's; it maps the page until it has had it.
    let mut page = shared.page;
    let end = clock::now() + PATIENCE;
    while let Err(still) = page.end() {
        if clock::now() > end {
            return Err(Error::Late);
        }
        page = still;
        peer::pause(core::time::Duration::from_millis(5));
    }
    Ok(())
}

pub fn visit(rounds: u32) -> Result<(), Error> {
    let shared = peer::visit()?;
    play(&shared.page, &shared.channel, rounds, 1)
}
