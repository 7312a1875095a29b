//! `hypercalls`: how much of the interface there is, read from the hypervisor's dispatch table.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::paths;

#[derive(clap::Args)]
pub struct Args {}

/// The dispatch table, which is the document.
const TABLE: &str = "hv-core/src/hypercall/table.rs";

/// Numbers and names, as Xen's header has them.
const NUMBERS: &str = "hv-core/abi/src/xen.rs";

pub fn run(_: &Args) -> Result<ExitCode> {
    let read = |name: &str| {
        std::fs::read_to_string(paths::root().join(name))
            .with_context(|| format!("cannot read {name}"))
    };
    let (table, numbers) = (read(TABLE)?, read(NUMBERS)?);
    for (number, name) in known(&numbers) {
        let state = state(&table, &name);
        println!("{number:>3}  {:<32} {state}", name.to_lowercase());
    }
    Ok(ExitCode::SUCCESS)
}

/// Every `pub const HYPERVISOR_NAME: u64 = N;`, by number.
fn known(header: &str) -> Vec<(u64, String)> {
    let mut calls: Vec<(u64, String)> = header
        .lines()
        .filter_map(|line| {
            let rest = line.strip_prefix("pub const HYPERVISOR_")?;
            let (name, value) = rest.split_once(": u64 = ")?;
            Some((value.trim_end_matches(';').parse().ok()?, name.to_owned()))
        })
        .collect();
    calls.sort();
    calls
}

/// What the table says of a hypercall: `done`, `partial` and what is missing, or `absent`.
fn state(table: &str, name: &str) -> String {
    // Never returns to its caller, so it is not dispatched with the others.
    if name == "IRET" {
        return "done".to_owned();
    }
    let slot = format!("HYPERVISOR_{name} as usize]");
    let Some((_, entry)) = table.split_once(&slot) else {
        return "absent".to_owned();
    };
    let entry = entry.split_once(';').map_or(entry, |(entry, _)| entry);
    if entry.contains("done(") {
        return "done".to_owned();
    }
    // The last text of a `partial` entry says what is missing.
    match entry.rsplit('"').nth(1) {
        Some(missing) => format!("partial, missing: {missing}"),
        None => "there".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let table = "t[abi::HYPERVISOR_A as usize] = Some(done(\"a\", a::a));\n\
                     t[abi::HYPERVISOR_B as usize] = Some(partial(\"b\", b::b, \"half of it\"));";
        assert_eq!(state(table, "A"), "done");
        assert_eq!(state(table, "B"), "partial, missing: half of it");
        assert_eq!(state(table, "C"), "absent");
    }

    #[test]
    fn numbers_are_read_in_order() {
        let header = "pub const HYPERVISOR_B: u64 = 9;\npub const HYPERVISOR_A: u64 = 3;\n";
        assert_eq!(known(header), [(3, "A".to_owned()), (9, "B".to_owned())]);
    }
}
