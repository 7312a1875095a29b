//! Single operations of a guest: the example guest `microbench`. A cycle is one instruction.

use anyhow::Result;

use super::beside::{self, Beside, Right};

pub fn run(cpu: &str) -> Result<()> {
    println!("Operations of a guest, in executed instructions; 2 CPUs, {cpu}");
    let bench = Beside {
        name: "microbench",
        script: include_str!("microbench.sh"),
        machine: beside::machine(cpu),
        right: |_| Right::Less,
    };
    bench.run()
}
