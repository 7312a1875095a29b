//! Linux guests: their making and ending, save and restore, and devices.

use anyhow::Result;

use super::beside::{self, Beside, Right};

pub fn run(cpu: &str) -> Result<()> {
    println!("Guests, in ms unless it says otherwise; 2 CPUs, counted instructions, {cpu}");
    let bench = Beside {
        name: "domains",
        script: include_str!("domains.sh"),
        machine: beside::machine(cpu),
        right,
    };
    bench.run()
}

fn right(row: &str) -> Right {
    if row.contains("in a GiB") {
        Right::More
    } else {
        Right::Less
    }
}

#[cfg(test)]
mod tests {
    use super::{Right, right};

    #[test]
    fn more_guests_are_better_and_less_time_is() {
        let name = "guests of 8 MiB in a GiB";
        assert!(include_str!("domains.sh").contains(name));
        assert_eq!(right(name), Right::More);
        assert_eq!(right("destroy"), Right::Less);
    }
}
