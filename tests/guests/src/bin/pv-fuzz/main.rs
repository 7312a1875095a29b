//! A guest that attacks: hypercalls with random and structured arguments, rings that contradict
//! themselves, page tables full of nonsense. A second vCPU, if there is one, does the same at the same
//! time on the same pages, and enters the hypervisor in odd ways.
//!
//! The guest may well kill itself; whoever starts it counts what its lives did and looks whether
//! anybody else noticed. Words of the command line: `mode=calls` (default), `mode=rings` or
//! `mode=tables`; `count=N` steps (default 100000); `seed=N`. Prints `FUZZ <mode> seed S step N`
//! now and then, with the number of hypercalls, at last `FUZZ done <mode> seed S step N calls C accepted A
//! trapped T second S`, and powers off. N counts both vCPUs' steps, and S those of the second. The seed
//! and a step's number make that step, not what happened before.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(unsafe_code, reason = "the kernel's entry has a name")]

#[cfg(target_os = "none")]
mod arena;
#[cfg(target_os = "none")]
mod calls;
#[cfg(target_os = "none")]
mod entries;
#[cfg(target_os = "none")]
mod random;
#[cfg(target_os = "none")]
mod rings;
#[cfg(target_os = "none")]
mod second;
#[cfg(target_os = "none")]
mod tables;

#[cfg(target_os = "none")]
mod kernel {
    use crate::arena::Arena;
    use crate::random::Random;
    use crate::{calls, rings, second, tables};
    use test_guests::{boot, power, println, shared, trap};

    /// Steps between two lines on the console.
    const REPORT: u64 = 1000;

    /// What a step came to.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub enum Step {
        /// The hypervisor did as it was told.
        Accepted,
        /// It refused.
        Refused,
    }

    /// The number behind `name=` on the command line.
    fn number(name: &[u8]) -> Option<u64> {
        let word = boot::cmd_line()
            .split(|&b| b == b' ')
            .find_map(|word| word.strip_prefix(name))?;
        word.iter().try_fold(0_u64, |sum, digit| {
            let digit = digit.checked_sub(b'0').filter(|d| *d < 10)?;
            sum.checked_mul(10)?.checked_add(u64::from(digit))
        })
    }

    /// How this life goes.
    #[derive(Clone, Copy)]
    struct Life {
        mode: &'static str,
        step: fn(&mut Arena, &mut Random) -> Step,
        count: u64,
        seed: u64,
    }

    /// What came of it.
    #[derive(Default)]
    struct Sum {
        steps: u64,
        accepted: u64,
        trapped: u64,
    }

    impl Life {
        fn from_command_line() -> Self {
            let has = |mode: &[u8]| boot::cmd_line().split(|&b| b == b' ').any(|w| w == mode);
            let (mode, step): (_, fn(&mut Arena, &mut Random) -> Step) = if has(b"mode=rings") {
                ("rings", rings::step)
            } else if has(b"mode=tables") {
                ("tables", tables::step)
            } else {
                ("calls", calls::step)
            };
            Self {
                mode,
                step,
                count: number(b"count=").unwrap_or(100_000),
                seed: number(b"seed=").unwrap_or(1),
            }
        }

        fn say(&self, sum: &Sum) {
            let steps = sum.steps + second::steps();
            let (mode, seed, calls) = (self.mode, self.seed, calls::made());
            println!("FUZZ {mode} seed {seed} step {steps} calls {calls}");
        }

        fn end(&self, sum: &Sum) -> ! {
            println!(
                "FUZZ done {} seed {} step {} calls {} accepted {} trapped {} second {}",
                self.mode,
                self.seed,
                sum.steps + second::steps(),
                calls::made(),
                sum.accepted,
                sum.trapped,
                second::steps()
            );
            power::off()
        }
    }

    fn kernel_main() -> ! {
        let life = Life::from_command_line();
        let mut arena = Arena::new();
        let mut sum = Sum::default();
        trap::init();
        shared::set_upcall_mask(1);
        life.say(&sum);
        // Rings are one program's; for the rest two are better than one.
        if life.mode != "rings" && !second::start(&arena, life.seed) {
            println!("FUZZ {} with one vCPU", life.mode);
        }
        while sum.steps + second::steps() < life.count {
            if arena.take_spoiled() || sum.steps.is_multiple_of(64) {
                trap::init();
                shared::set_upcall_mask(1);
            }
            let mut random = Random::of_step(!life.seed, sum.steps);
            let mut done = Step::Refused;
            sum.steps += 1;
            if trap::attempt(|| done = (life.step)(&mut arena, &mut random)).is_some() {
                sum.trapped += 1;
                arena.spoil();
                if !arena.repair() {
                    life.end(&sum);
                }
            }
            sum.accepted += u64::from(done == Step::Accepted);
            if sum.steps.is_multiple_of(REPORT) {
                life.say(&sum);
            }
        }
        life.end(&sum)
    }
    test_guests::entry!(raw kernel_main);
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("build this for x86_64-unknown-none");
}
