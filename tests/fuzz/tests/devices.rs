//! A million steps against frontends and backends: one program after the other until so many are
//! done. `cargo test -p oxen-fuzz --test devices -- --ignored`: some
//! minutes in a debug build.

use oxen_fuzz::devices;
use oxen_fuzz::mutate::{Random, mutant};

fn run(steps_of: fn(&[u8]) -> usize, most: usize) -> usize {
    let seeds = devices::programs();
    let mut random = Random::new(11);
    let mut steps = 0;
    while steps < most {
        steps += steps_of(&mutant(&seeds, &mut random));
    }
    steps
}

#[test]
#[ignore = "takes minutes"]
fn a_million_steps_of_malice_do_no_harm() {
    let disk = run(devices::block_steps, 250_000);
    let card = run(devices::net_steps, 250_000);
    let files = run(devices::p9_steps, 200_000);
    let console = run(devices::console_steps, 150_000);
    let store = run(devices::store_steps, 150_000);
    println!(
        "{disk} steps against a disk, {card} a card, {files} files, {console} a console, \
         {store} a store"
    );
}

#[test]
fn programs_have_many_steps() {
    assert!(run(devices::block_steps, 2000) >= 2000);
    assert!(run(devices::net_steps, 2000) >= 2000);
    assert!(run(devices::p9_steps, 2000) >= 2000);
    assert!(run(devices::console_steps, 2000) >= 2000);
    assert!(run(devices::store_steps, 2000) >= 2000);
}
