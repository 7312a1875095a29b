//! An unprivileged guest that means harm: a million hypercalls with random and structured
//! arguments, rings that contradict themselves, page tables full of nonsense.
//!
//! The guest may well kill itself; whoever starts it counts what its lives did and looks whether
//! anybody else noticed. Words of the command line: `mode=calls` (default), `mode=rings` or
//! `mode=tables`; `count=N` steps (default 100000); `seed=N`. Prints `FUZZ <mode> seed S step N`
//! now and then, at last `FUZZ done <mode> seed S steps N accepted A trapped T`, and powers off.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![allow(unsafe_code, reason = "the kernel's entry has a name")]

#[cfg(target_os = "none")]
mod arena;
#[cfg(target_os = "none")]
mod calls;
#[cfg(target_os = "none")]
mod random;
#[cfg(target_os = "none")]
mod rings;
#[cfg(target_os = "none")]
mod tables;

#[cfg(target_os = "none")]
mod kernel {
    use crate::arena::Arena;
    use crate::random::Random;
    use crate::{calls, rings, tables};
    use test_guests::{boot, power, println, shared, trap};

    /// Steps between two lines on the console.
    const REPORT: u64 = 250;

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

    fn kernel_main() -> ! {
        let has = |mode: &[u8]| boot::cmd_line().split(|&b| b == b' ').any(|w| w == mode);
        let count = number(b"count=").unwrap_or(100_000);
        let seed = number(b"seed=").unwrap_or(1);
        let (mode, step): (_, fn(&mut Arena, &mut Random) -> Step) = if has(b"mode=rings") {
            ("rings", rings::step)
        } else if has(b"mode=tables") {
            ("tables", tables::step)
        } else {
            ("calls", calls::step)
        };
        let mut random = Random::new(seed);
        let mut arena = Arena::new();
        let (mut accepted, mut trapped) = (0_u64, 0_u64);
        println!("FUZZ {mode} seed {seed} step 0");
        for n in 1..=count {
            // What random calls may have spoiled.
            trap::init();
            shared::set_upcall_mask(1);
            let mut done = Step::Refused;
            if trap::attempt(|| done = step(&mut arena, &mut random)).is_some() {
                trapped += 1;
                if !arena.repair() {
                    println!(
                        "FUZZ done {mode} seed {seed} steps {n} accepted {accepted} trapped {trapped}"
                    );
                    power::off();
                }
            }
            accepted += u64::from(done == Step::Accepted);
            if n % REPORT == 0 {
                println!("FUZZ {mode} seed {seed} step {n}");
            }
        }
        println!(
            "FUZZ done {mode} seed {seed} steps {count} accepted {accepted} trapped {trapped}"
        );
        power::off()
    }
    test_guests::entry!(raw kernel_main);
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("build this for x86_64-unknown-none");
}
