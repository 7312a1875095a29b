//! Queued signals to another process: each is delivered once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::sys::{self, CAUGHT};
use crate::{Failure, demand};

use super::Work;

/// Signals sent in one round.
const BURST: u64 = 50;

pub fn run(work: Work) -> Result<u64, Failure> {
    // A real-time signal: the kernel keeps a count of these, where ordinary ones melt into one.
    let signal = libc::SIGRTMIN() + 1;
    sys::count_signal(signal);
    sys::count_signal(libc::SIGUSR1);
    let me = i32::try_from(std::process::id()).map_err(|e| e.to_string())?;
    let mut rounds = 0;
    while work.goes_on() {
        CAUGHT.store(0, Ordering::SeqCst);
        let child = sys::fork(|| {
            let sent = (0..BURST).all(|number| sys::queue_signal(me, signal, number as usize));
            i32::from(!sent)
        });
        let status = child.ok_or("cannot fork")?.wait();
        demand(status == Some(0), || {
            format!("the sender ended with {status:?}")
        })?;
        // All were queued before the sender's end, so they are delivered by the next return to
        // user mode at the latest.
        std::thread::sleep(Duration::from_millis(1));
        let caught = CAUGHT.load(Ordering::SeqCst);
        demand(caught == BURST, || {
            format!("{caught} signals of {BURST} came")
        })?;
        demand(sys::kill(me, libc::SIGUSR1), || {
            "cannot signal itself".into()
        })?;
        let caught = CAUGHT.load(Ordering::SeqCst);
        demand(caught == BURST + 1, || {
            "a signal to itself did not come at once".into()
        })?;
        rounds += 1;
    }
    Ok(rounds)
}
