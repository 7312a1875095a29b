//! Fork and exec storms: children check the memory they inherit and answer with a number.

use crate::random::Random;
use crate::sys::{self, Child, Mapping, Program};
use crate::{Failure, demand};

use super::Work;

/// Children alive at a time.
const BROOD: u64 = 4;

/// Inherited memory, in bytes: each child reads all and writes (so copies) half of it.
const INHERITED: usize = 64 * sys::PAGE;

/// Forks children that check and change inherited memory; the parent's must stay as it was.
pub fn fork(work: Work) -> Result<u64, Failure> {
    let mut memory = Mapping::new(INHERITED).ok_or("no memory")?;
    let mut rounds = 0;
    while work.goes_on() {
        Random::new(rounds).fill(memory.bytes());
        let mut brood = Vec::new();
        for number in 0..BROOD {
            let code = answer(rounds, number);
            let child = sys::fork(|| {
                if !Random::new(rounds).matches(memory.bytes()) {
                    return 255;
                }
                Random::new(!rounds).fill(&mut memory.bytes()[..INHERITED / 2]);
                if Random::new(!rounds).matches(&memory.bytes()[..INHERITED / 2]) {
                    code
                } else {
                    254
                }
            });
            brood.push((child.ok_or("cannot fork")?, code));
        }
        reap(brood)?;
        demand(Random::new(rounds).matches(memory.bytes()), || {
            "a child changed its parent's memory".into()
        })?;
        rounds += 1;
    }
    Ok(rounds)
}

/// Forks children that become this program anew and exit with a number.
pub fn exec(work: Work) -> Result<u64, Failure> {
    let mut rounds = 0;
    while work.goes_on() {
        let mut brood = Vec::new();
        for number in 0..BROOD {
            let code = answer(rounds, number);
            let program = Program::this(&["exit", &code.to_string()]);
            let child = sys::fork(|| {
                program.exec();
                253
            });
            brood.push((child.ok_or("cannot fork")?, code));
        }
        reap(brood)?;
        rounds += 1;
    }
    Ok(rounds)
}

/// An exit code below those that mean failure.
fn answer(round: u64, number: u64) -> i32 {
    i32::try_from((round * BROOD + number) % 250).unwrap_or(0)
}

fn reap(brood: Vec<(Child, i32)>) -> Result<(), Failure> {
    for (child, code) in brood {
        let status = child.wait();
        demand(status == Some(code), || {
            format!("a child ended with {status:?}, not {code}")
        })?;
    }
    Ok(())
}
