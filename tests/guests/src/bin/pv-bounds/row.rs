//! One measurement.

use test_guests::hypercall::call;
use test_guests::{println, trap};
use xen_abi::xen::HYPERVISOR_ARCH_7;

/// The longest time with interrupts off since this was asked last, in instructions.
fn longest() -> i64 {
    call(HYPERVISOR_ARCH_7, [0; 5])
}

/// Makes sure that the hypervisor measures.
///
/// # Panics
/// If it does not.
pub fn check() {
    assert!(longest() >= 0, "this hypervisor does not measure");
}

/// Does `work` and prints the longest time with interrupts off meanwhile. `work` says whether the
/// hypervisor did what was asked of it.
pub fn row(name: &str, work: impl FnOnce() -> bool) {
    longest();
    let mut done = false;
    let trapped = trap::attempt(|| done = work());
    let longest = longest();
    if let Some(frame) = trapped {
        println!("  trap {} at {:#x}", frame.vector, frame.rip);
    }
    if done {
        println!("BOUND {name}: {longest}");
    } else {
        println!("FAILED {name}: {longest}");
    }
}

/// A row about a call that must answer with `want`.
pub fn answers(name: &str, want: i64, work: impl FnOnce() -> i64) {
    let mut got = 0;
    row(name, || {
        got = work();
        got == want
    });
    if got != want {
        println!("  got {got}, want {want}");
    }
}
