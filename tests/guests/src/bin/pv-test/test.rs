//! Runs cases and counts verdicts.

use core::fmt::LowerHex;
use core::panic::Location;
use test_guests::{boot, power, println, shared, trap};

/// A question to the hypervisor.
pub struct Case {
    /// `group-question`.
    pub name: &'static str,
    /// Asks it.
    pub run: fn(&mut Test),
}

/// A running case.
pub struct Test {
    name: &'static str,
    failed: bool,
}

impl Test {
    fn fail(&mut self, at: &Location<'_>) {
        if !self.failed {
            println!("FAIL {}: see below", self.name);
        }
        self.failed = true;
        println!("  {}:{}:", at.file(), at.line());
    }

    /// Expects the result of a hypercall, for example `-EINVAL`.
    #[track_caller]
    pub fn rc(&mut self, got: i64, want: i64) {
        if got != want {
            self.fail(Location::caller());
            println!("    got {got}, want {want}");
        }
    }

    /// Expects a value.
    #[track_caller]
    pub fn eq<T: PartialEq + LowerHex>(&mut self, got: T, want: T) {
        if got != want {
            self.fail(Location::caller());
            println!("    got {got:#x}, want {want:#x}");
        }
    }

    /// Expects a condition.
    #[track_caller]
    pub fn yes(&mut self, condition: bool) {
        if !condition {
            self.fail(Location::caller());
        }
    }

    /// Runs code that must cause this exception; returns its frame.
    #[track_caller]
    pub fn traps(&mut self, vector: u64, f: impl FnOnce()) -> trap::Frame {
        match trap::attempt(f) {
            None => {
                self.fail(Location::caller());
                println!("    no trap, want {vector}");
                trap::Frame::default()
            }
            Some(frame) => {
                if frame.vector != vector {
                    self.fail(Location::caller());
                    println!("    trap {}, want {vector}: {frame:x?}", frame.vector);
                }
                frame
            }
        }
    }

    /// Runs code that must not cause an exception.
    #[track_caller]
    pub fn no_trap(&mut self, f: impl FnOnce()) {
        if let Some(frame) = trap::attempt(f) {
            self.fail(Location::caller());
            println!("    trap {frame:x?}");
        }
    }
}

/// Whether a word of the command line selects the case.
fn selects(word: &[u8], case: &Case) -> bool {
    case.name.as_bytes().starts_with(word)
}

/// Runs the selected cases and powers off.
pub fn run(cases: &[Case]) -> ! {
    let words = || {
        boot::cmd_line()
            .split(|&b| b == b' ')
            .filter(|w| !w.is_empty())
    };
    // The file's own name may be among the words.
    let selected = |case: &Case| words().any(|w| selects(w, case));
    let all = !cases.iter().any(&selected);
    trap::init();
    let (mut passed, mut failed) = (0, 0);
    for case in cases.iter().filter(|case| all || selected(case)) {
        let mut test = Test {
            name: case.name,
            failed: false,
        };
        shared::set_upcall_mask(1);
        let abandoned = trap::attempt(|| (case.run)(&mut test));
        trap::set_hook(None);
        if let Some(frame) = abandoned {
            test.fail(Location::caller());
            println!("    trap {frame:x?}");
        }
        if test.failed {
            failed += 1;
        } else {
            passed += 1;
            println!("PASS {}", case.name);
        }
    }
    println!("DONE {passed} passed, {failed} failed");
    power::off()
}
