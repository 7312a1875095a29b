//! The scheduler's fairness: shares by weight, caps, and how soon who slept gets the CPU.

use anyhow::Result;

use super::beside::{self, Beside, Right};
use crate::machine::Machine;

pub fn run(cpu: &str) -> Result<()> {
    println!("Shares of a CPU; 1 CPU, counted instructions, {cpu}");
    let bench = Beside {
        name: "shares",
        script: include_str!("shares.sh"),
        machine: Machine {
            smp: 1,
            ..beside::machine(cpu)
        },
        right,
    };
    bench.run()
}

/// Microseconds of a timeslice.
const SLICE: u64 = 30_000;

fn right(row: &str) -> Right {
    if row.contains("hundredths") {
        Right::Hundred
    } else if row.starts_with("ping") {
        // Dom0 has its part in it, which is none of those who sleep.
        Right::Less
    } else {
        Right::AtMost(SLICE)
    }
}

#[cfg(test)]
mod tests {
    use super::{Right, SLICE, right};

    #[test]
    fn rows_of_the_script_are_judged_by_their_names() {
        let script = include_str!("shares.sh");
        for (name, is) in [
            (
                "weights 256 and 512: hundredths of the double",
                Right::Hundred,
            ),
            ("cap of 40 %: hundredths of it", Right::Hundred),
            (
                "wake-up of a sleeping guest while three work, latest, microseconds",
                Right::AtMost(SLICE),
            ),
            (
                "ping of a sleeping guest while three work, longest, microseconds",
                Right::Less,
            ),
        ] {
            assert!(script.contains(name), "{name}");
            assert_eq!(right(name), is, "{name}");
        }
    }
}
