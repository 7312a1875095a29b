//! Linux guests: their making and ending, devices, and the scheduler's fairness.

use anyhow::Result;

use super::beside::Beside;

pub fn run(cpu: &str) -> Result<()> {
    println!("Guests, in ms unless it says otherwise; 2 CPUs, counted instructions, {cpu}");
    let bench = Beside {
        name: "domains",
        script: include_str!("domains.sh"),
        cpu,
        judged,
    };
    bench.run()
}

/// Shares of CPU time have a right value.
fn judged(row: &str) -> bool {
    !row.contains("weights") && !row.contains("cap ")
}

#[cfg(test)]
mod tests {
    use super::judged;

    #[test]
    fn shares_are_not_judged() {
        assert!(judged("destroy"));
        assert!(!judged("weights 256 and 512: hundredths of the double"));
        assert!(!judged("cap of 40 %: percent had"));
    }
}
