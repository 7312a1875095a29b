//! What a Linux guest's disk and card can do, beside the example guest `iobench`, which prints the
//! same rows: `row NAME|NANOSECONDS`, a MiB each, or a request or a round trip each where the name
//! says so. Under QEMU's `-icount shift=0` a nanosecond is one executed instruction.

pub mod disk;
pub mod net;

use std::time::Instant;

/// Bytes of a MiB.
const MIB: u64 = 1 << 20;

/// Prints a row of what took since `start` for `count` things.
fn row(name: &str, start: Instant, count: u64) {
    let took = start.elapsed().as_nanos() / u128::from(count.max(1));
    println!("row {name}|{took}");
}
