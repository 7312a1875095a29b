//! Linux guests: their making and ending, devices, and the scheduler's fairness.

use anyhow::Result;

use super::beside::{Beside, Right};

pub fn run(cpu: &str) -> Result<()> {
    println!("Guests, in ms unless it says otherwise; 2 CPUs, counted instructions, {cpu}");
    let bench = Beside {
        name: "domains",
        script: include_str!("domains.sh"),
        cpu,
        right,
    };
    bench.run()
}

/// Microseconds of a timeslice.
const SLICE: u64 = 30_000;

fn right(row: &str) -> Right {
    if row.contains("hundredths") {
        Right::Hundred
    } else if row.contains("in a GiB") {
        Right::More
    } else if row.contains("sleeping") {
        Right::AtMost(SLICE)
    } else {
        Right::Less
    }
}

#[cfg(test)]
mod tests {
    use super::{Right, SLICE, right};

    #[test]
    fn rows_of_the_script_are_judged_by_their_names() {
        assert_eq!(right("destroy"), Right::Less);
        let script = include_str!("domains.sh");
        for (name, is) in [
            (
                "weights 256 and 512: hundredths of the double",
                Right::Hundred,
            ),
            ("cap of 40 %: hundredths of it", Right::Hundred),
            ("guests of 8 MiB in a GiB", Right::More),
            (
                "ping of a sleeping guest while three work, longest, microseconds",
                Right::AtMost(SLICE),
            ),
        ] {
            assert!(script.contains(name), "{name}");
            assert_eq!(right(name), is, "{name}");
        }
    }
}
